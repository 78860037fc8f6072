"""mulligan bmc: how hardware is reached."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.api.control.v1.machine_pb2 import BmcConfig
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.login import FromStdin
from mulligan.cli.output import column, named, plain, when
from mulligan.cli.secrets import read_secret
from mulligan.cli.session import Session

app = typer.Typer(help="BMCs: how the hardware of providers is reached.", no_args_is_help=True)

Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="Name or UUID of a provider.")]


@command(app, "register")
async def register_bmc(
    session: Session,
    provider: Provider,
    host: Annotated[str, typer.Option(help="IP address or host name of the BMC.")],
    username: Annotated[str, typer.Option(help="User name at the BMC.")],
    mac: Annotated[str, typer.Option(help="MAC address that the machine boots from, aa:bb:cc:dd:ee:ff.")],
    region: options.Region = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="UDP port; 0 is 623.")] = 0,
    driver: Annotated[str, typer.Option(help="How it is spoken to.")] = "ipmi",
    secret_stdin: FromStdin = False,
    request_id: options.Request = "",
) -> None:
    """Tell how a provider's hardware is reached. It asks for the password, which is never shown again."""
    id, home = await session.locate("provider", provider, region)
    config = BmcConfig(driver=driver, host=host, port=port, username=username, boot_mac=mac.lower())
    response = await session.client.control.register_bmc(
        region=home,
        provider=id,
        config=config,
        password=read_secret(f"Password of {username} at {host}", secret_stdin),
        request_id=request_id,
    )
    await session.print.one(plain(response.bmc))


@command(app, "list")
async def list_bmcs(session: Session, region: options.Region = "") -> None:
    """BMCs of a region and those below it."""
    listing = session.client.control.list_bmcs(region=await session.region(region))
    columns = [named("provider"), named("region"), column("config.driver", "DRIVER"), column("config.host", "HOST")]
    columns += [column("config.port", "PORT"), column("config.boot_mac", "BOOT MAC"), when("update_time", "UPDATED")]
    await session.print.rows([plain(bmc) async for bmc in listing], columns)


@command(app, "show")
async def show_bmc(session: Session, provider: Provider, region: options.Region = "") -> None:
    """The BMC of a provider."""
    id, home = await session.locate("provider", provider, region)
    response = await session.client.control.get_bmc(region=home, provider=id)
    await session.print.one(plain(response.bmc))


@command(app, "delete")
async def delete_bmc(session: Session, provider: Provider, region: options.Region = "") -> None:
    """Forget a BMC; refused while a machine runs on its provider."""
    id, home = await session.locate("provider", provider, region)
    await session.client.control.delete_bmc(region=home, provider=id)
    session.print.note(f"the BMC of {provider} is forgotten")
