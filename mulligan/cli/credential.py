"""mulligan credential: accounts of programs."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.api.iam.v1.iam_pb2 import ACCOUNT_TYPE_APPLICATION_CREDENTIAL
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column, named, own_name, plain, when
from mulligan.cli.session import Session

app = typer.Typer(help="Application credentials: accounts of programs, in your project.", no_args_is_help=True)


@command(app, "create")
async def create_credential(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new credential.")],
    role: Annotated[list[str], typer.Option(help="admin, operator, member or reader; you must have it. Repeatable.")],
    region: Annotated[str, typer.Option("--region", "-r", help="Bind it to this region and those below.")] = "",
    expires: options.Expires = "",
    request_id: options.Request = "",
) -> None:
    """Make a credential. Its secret is shown once: keep it."""
    response = await session.client.iam.create_application_credential(
        name=name,
        roles=role,
        region=await session.region(region, default=False),
        expire_time=options.moment(expires, session.surroundings.now_us(), "--expires"),
        request_id=request_id,
    )
    await session.print.one(
        {**plain(response.account), "secret": response.secret}, note="the secret is not shown again"
    )


@command(app, "list")
async def list_credentials(session: Session) -> None:
    """Application credentials that you may see."""
    accounts = [account async for account in session.client.iam.list_accounts()]
    rows = [plain(each) for each in accounts if each.type == ACCOUNT_TYPE_APPLICATION_CREDENTIAL]
    columns = [own_name(), column("id"), column("enabled"), named("project"), named("owner"), when("expire_time")]
    await session.print.rows(rows, columns)


@command(app, "delete")
async def delete_credential(
    session: Session, credential: Annotated[str, typer.Argument(help="Name or UUID of a credential.")]
) -> None:
    """Delete a credential. Its tokens die."""
    await session.client.iam.delete_account(id=await session.account(credential))
    session.print.note(f"credential {credential} is deleted")
