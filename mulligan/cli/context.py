"""mulligan context: the systems that you work with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from mulligan.cli.command import command
from mulligan.cli.output import column
from mulligan.cli.session import Session
from mulligan.client import Context, contexts
from mulligan.errors import InvalidArgument

app = typer.Typer(help="The systems that you work with: addresses, CA, account, default region.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="CONTEXT", help="Name of a context.")]


@command(app, "list", connect=False)
async def list_contexts(session: Session) -> None:
    """All contexts; the current one has a star."""
    known = contexts.load()
    rows = [
        {"current": "*" if name == known.current else "", "name": name, **asdict(context)}
        for name, context in known.contexts.items()
    ]
    for row in rows:
        row["addresses"] = list(row["addresses"])
    columns = [column("current", ""), *map(column, ("name", "addresses", "account", "project", "region"))]
    await session.print.rows(rows, columns, empty="none; `mulligan bootstrap` makes one, or `mulligan context set`")


@command(app, "use", connect=False)
async def use_context(session: Session, name: Name) -> None:
    """Make a context the current one."""
    known = contexts.load()
    contexts.set_context(name, known.get(name), make_current=True)
    session.print.note(f"the current context is {name}")


@command(app, "set", connect=False)
async def set_context(
    session: Session,
    name: Name,
    address: Annotated[
        list[str] | None, typer.Option(help="host:port of any gateway; several may be given, one is enough.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="ca.crt of the system.")] = None,
    region: Annotated[str | None, typer.Option(help="Region for commands without --region; empty for none.")] = None,
) -> None:
    """Add a context, or change one. What is not given stays as it was. `mulligan login` sets account and project."""
    known = contexts.load()
    if name not in known.contexts and not address:
        raise InvalidArgument(f"{name} is new; give --address HOST:PORT and --ca-file FILE")
    context = known.contexts.get(name, Context(()))
    if address:
        context = replace(context, addresses=tuple(address))
    if ca_file is not None:
        context = replace(context, ca_file=str(ca_file.absolute()))
    if region is not None:
        context = replace(context, region=region)
    contexts.set_context(name, context)
    session.print.note(f"context {name} is set")


@command(app, "delete", connect=False)
async def delete_context(session: Session, name: Name) -> None:
    """Forget a context. The system behind it is not touched."""
    contexts.save(contexts.load().without(name))
    session.print.note(f"context {name} is forgotten")
