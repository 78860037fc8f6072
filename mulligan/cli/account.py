"""mulligan account: users, and what may be done to any account."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.login import FromStdin
from mulligan.cli.output import column, named, own_name, plain, when
from mulligan.cli.secrets import read_secret
from mulligan.cli.session import Session
from mulligan.errors import InvalidArgument

app = typer.Typer(help="Accounts: users and application credentials.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name or UUID of an account.")]


@command(app, "create")
async def create_account(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new user.")],
    secret_stdin: FromStdin = False,
    request_id: options.Request = "",
) -> None:
    """Make a user. It asks for a password of 12 characters or more."""
    password = read_secret(f"Password of {name}", secret_stdin, confirm=True)
    response = await session.client.iam.create_user(name=name, password=password, request_id=request_id)
    await session.print.one(plain(response.account), note=f"`mulligan role assign {name} ROLE` gives it a role")


@command(app, "list")
async def list_accounts(session: Session) -> None:
    """Accounts that you may see."""
    rows = [plain(account) async for account in session.client.iam.list_accounts()]
    columns = [own_name(), column("id"), column("type"), column("enabled"), named("project"), when("expire_time")]
    await session.print.rows(rows, columns)


@command(app, "show")
async def show_account(session: Session, account: Account) -> None:
    """One account."""
    response = await session.client.iam.get_account(id=await session.account(account))
    await session.print.one(plain(response.account))


@command(app, "password")
async def set_password(
    session: Session,
    account: Annotated[str, typer.Argument(metavar="[ACCOUNT]", help="Whose. Default: your own.")] = "",
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the old (your own only) and the new one, a line each.")
    ] = False,
) -> None:
    """Set a password: your own, given the old one, or, as an administrator, anybody's. The account's tokens die."""
    old = "" if account else read_secret("Old password", secret_stdin)
    new = read_secret("New password", secret_stdin, confirm=True)
    await session.client.iam.set_password(account=await session.account(account), old_password=old, new_password=new)
    session.print.note("the password is set; log in again with `mulligan login`")


@command(app, "enable")
async def enable_account(session: Session, account: Account) -> None:
    """Let an account log in again."""
    await session.client.iam.set_account_enabled(id=await session.account(account), enabled=True)
    session.print.note(f"account {account} is enabled")


@command(app, "disable")
async def disable_account(session: Session, account: Account) -> None:
    """Keep an account from logging in. Its tokens die."""
    await session.client.iam.set_account_enabled(id=await session.account(account), enabled=False)
    session.print.note(f"account {account} is disabled")


@command(app, "delete")
async def delete_account(session: Session, account: Account) -> None:
    """Delete an account and its role assignments."""
    await session.client.iam.delete_account(id=await session.account(account))
    session.print.note(f"account {account} is deleted")


@command(app, "revoke")
async def revoke_tokens(
    session: Session,
    account: Annotated[str, typer.Option(help="All tokens of this account, issued up to now.")] = "",
    project: Annotated[str, typer.Option(help="All tokens that act in this project, issued up to now.")] = "",
) -> None:
    """Revoke tokens of an account or a project. Within a second they are refused everywhere."""
    if bool(account) == bool(project):
        raise InvalidArgument("give either --account or --project")
    if account:
        await session.client.iam.revoke(account=await session.account(account))
    else:
        await session.client.iam.revoke(project=await session.project(project))
    session.print.note(f"the tokens of {account or project} are revoked")
