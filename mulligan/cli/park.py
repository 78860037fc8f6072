"""mulligan park: simulated machines, for trying things out without hardware."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from mulligan.api.control.v1.machine_pb2 import BmcConfig
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column
from mulligan.cli.session import Session
from mulligan.errors import FailedPrecondition, InvalidArgument, Unavailable
from mulligan.ids import new_id

app = typer.Typer(help="Simulated machines behind IPMI 2.0 BMCs, for trying things out.", no_args_is_help=True)


@command(app, "run")
async def run_park(
    session: Session,
    group: Annotated[
        str, typer.Option(help="Register a BMC to each provider of this provider group, for example a rack.")
    ],
    region: options.Region = "",
    count: Annotated[int, typer.Option(min=0, help="How many at most; 0: one for each provider.")] = 0,
    boot_seconds: Annotated[float, typer.Option(min=0, help="From power-on to fetching the boot script.")] = 1.0,
) -> None:
    """Run simulated machines and register them to the providers of a group. Interrupt it to end them."""
    park = _park_module()
    id, home = await session.locate("provider_group", group, region)
    listing = session.client.resource.list_providers(region=home, group=id, page_size=1000)
    providers = [provider.id async for provider in listing]
    if not providers:
        raise InvalidArgument(f"group {group} has no providers; choose another one", field="--group")
    chosen = providers[: count or len(providers)]
    boot_url = await _boot_url(session)
    ca_file = session.context().ca_file if boot_url.startswith("https") else ""
    made = park.ParkOptions(
        count=len(chosen), boot_url=boot_url, boot_s=boot_seconds, password=new_id()[:16], ca=ca_file
    )
    async with park.Park(made) as running:
        rows = [
            await _register(session, home, provider, bmc, made.password)
            for provider, bmc in zip(chosen, running.bmcs, strict=True)
        ]
        columns = [column("provider"), column("host"), column("port"), column("mac")]
        labels = await session.labels(chosen)
        await session.print.rows(
            [{**row, "provider": labels.get(row["provider"], row["provider"])} for row in rows], columns
        )
        session.print.note("the machines run until you interrupt this command")
        await asyncio.Event().wait()


async def _register(session: Session, region: str, provider: str, bmc: Any, password: str) -> dict[str, Any]:
    config = BmcConfig(driver="ipmi", host=bmc.host, port=bmc.port, username=bmc.username, boot_mac=bmc.mac)
    await session.client.control.register_bmc(region=region, provider=provider, config=config, password=password)
    return {"provider": provider, "host": bmc.host, "port": bmc.port, "mac": bmc.mac}


async def _boot_url(session: Session) -> str:
    async for catalogue in session.client.catalog.watch_catalog(timeout_s=session.flags.timeout_s):
        for endpoint in catalogue.endpoints:
            if endpoint.service == "boot":
                return endpoint.address
    raise Unavailable("no boot endpoint is announced; `mulligan status` says what runs")


def _park_module() -> Any:
    try:
        from mulligan import park
    except ImportError as error:
        raise FailedPrecondition(f"simulated machines need {error.name}; install mulligan[server]") from None
    return park
