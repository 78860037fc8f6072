"""mulligan login, logout, whoami."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import plain
from mulligan.cli.secrets import read_secret
from mulligan.cli.session import Session
from mulligan.client import Credentials, contexts
from mulligan.errors import InvalidArgument

PANEL = "Who you are"

FromStdin = Annotated[bool, typer.Option("--secret-stdin", help="Read the secret from standard input.")]
CredentialFile = Annotated[
    Path | None,
    typer.Option(
        "--credential-file",
        help='JSON {"account", "secret"}: log in with it, and again by itself whenever that is needed.',
    ),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "login", connect=False, panel=PANEL)(login)
    command(app, "logout", login=False, panel=PANEL)(logout)
    command(app, "whoami", panel=PANEL)(whoami)


async def login(
    session: Session,
    account: Annotated[str, typer.Argument(help="Name or UUID of an account. Default: the context's.")] = "",
    project: options.Project = "",
    secret_stdin: FromStdin = False,
    credential_file: CredentialFile = None,
) -> None:
    """Log in, and stay logged in: as a user with a password, or as an application credential with its secret.

    Without --project you act in your only project, or in the system if you have a role there.
    """
    name, before = session.context_name(), session.context()
    chosen = replace(before, account=account or before.account, project=project, credential_file="")
    if credential_file:
        chosen = replace(chosen, credential_file=str(credential_file.absolute()))
        credentials = chosen.credentials()
        chosen = replace(chosen, account=credentials.account)
    elif not chosen.account:
        raise InvalidArgument("give the account: `mulligan login ACCOUNT`")
    else:
        secret = read_secret(f"Secret of {chosen.account}", secret_stdin)
        credentials = Credentials(chosen.account, secret, project)
    async with session.open(replace(chosen, credential_file="")) as client:
        await client.login(credentials)
        contexts.set_context(name, chosen)
        session.use(client)
        await _tell(session, f"logged in to {name}")


async def logout(session: Session) -> None:
    """Log out: this session's tokens die everywhere."""
    if session.client.account:
        await session.client.logout()
    session.print.note("logged out")
    file = session.context().credential_file
    if file:
        session.print.note(f"the next command logs in again with {file}; `mulligan login ACCOUNT` changes that")


async def whoami(session: Session) -> None:
    """Who you are to the system: account, project, roles, and until when."""
    await session.print.one(plain(await session.client.iam.who_am_i()))


async def _tell(session: Session, sentence: str) -> None:
    ids = [session.client.account, session.client.project]
    names = await session.labels(ids)
    account, project = (names.get(id, id) for id in ids)
    session.print.note(f"{sentence} as {account}, in " + (f"project {project}" if project else "the system"))
