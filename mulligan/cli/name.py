"""mulligan name and mulligan tag: what things are called."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import Column, Format, column, named, plain
from mulligan.cli.session import Session
from mulligan.errors import NotFound
from mulligan.ids import is_id

app = typer.Typer(help="Names, slugs and tags of every object.", no_args_is_help=True)
tags = typer.Typer(help="Tags: words that anybody may put on an object.", no_args_is_help=True)


class Kind(StrEnum):
    """Kinds of objects that have names."""

    REGION = "region"
    PROJECT = "project"
    ACCOUNT = "account"
    PROVIDER = "provider"
    PROVIDER_GROUP = "provider_group"
    MACHINE = "machine"


KindArgument = Annotated[Kind, typer.Argument(help="Kind of the object.")]
Object = Annotated[str, typer.Argument(metavar="OBJECT", help="Name, slug or UUID.")]
Tags = Annotated[list[str], typer.Argument(metavar="TAG...", help="One or more tags.")]

_COLUMNS = [column("kind"), column("name"), column("id"), column("slug"), column("tags"), named("region")]


@command(app, "show")
async def show_name(session: Session, kind: KindArgument, object: Object, region: options.Region = "") -> None:
    """Name, slug and tags of one object."""
    await session.print.one(await _object(session, kind, object, region))


@command(app, "set")
async def set_name(
    session: Session,
    kind: KindArgument,
    object: Object,
    name: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    region: options.Region = "",
    request_id: options.Request = "",
) -> None:
    """Give an object another name. Its UUID stays."""
    id = await _id(session, kind, object, region)
    response = await session.client.meta.rename_object(id=id, name=name, request_id=request_id)
    await session.print.one(plain(response.object))


@command(app, "list")
async def list_names(
    session: Session,
    kind: Annotated[Kind | None, typer.Option(help="Only objects of this kind.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only objects that have this tag. Repeatable.")] = None,
) -> None:
    """Objects and what they are called."""
    listing = session.client.meta.list_objects(kind=kind or "", tags=tag or [])
    await session.print.rows([plain(item) async for item in listing], _COLUMNS)


@command(app, "watch")
async def watch_names(
    session: Session,
    kind: Annotated[Kind | None, typer.Option(help="Only objects of this kind.")] = None,
) -> None:
    """Everything there is, then every change, until you interrupt it."""
    async for change in session.client.meta.watch_objects(kind=kind or ""):
        for event in change.events:
            if session.print.format is Format.TABLE:
                item = event.object
                word = "gone" if event.deleted else "is"
                session.print.note(f"{item.kind:<15} {item.id} {word} {item.name} {' '.join(item.tags)}".rstrip())
            else:
                session.print.stream_item(plain(event))


@command(tags, "add")
async def add_tags(
    session: Session, kind: KindArgument, object: Object, tag: Tags, region: options.Region = ""
) -> None:
    """Put tags on an object."""
    response = await session.client.meta.set_tags(id=await _id(session, kind, object, region), add=tag)
    await session.print.one(plain(response.object))


@command(tags, "remove")
async def remove_tags(
    session: Session, kind: KindArgument, object: Object, tag: Tags, region: options.Region = ""
) -> None:
    """Take tags off an object."""
    response = await session.client.meta.set_tags(id=await _id(session, kind, object, region), remove=tag)
    await session.print.one(plain(response.object))


@command(tags, "list")
async def list_tagged(
    session: Session,
    tag: Tags,
    kind: Annotated[Kind | None, typer.Option(help="Only objects of this kind.")] = None,
) -> None:
    """Objects that have all of these tags."""
    listing = session.client.meta.list_objects(kind=kind or "", tags=tag)
    columns: list[Column] = _COLUMNS
    await session.print.rows([plain(item) async for item in listing], columns)


async def _id(session: Session, kind: Kind, value: str, region: str) -> str:
    if is_id(value):
        return value
    if kind in (Kind.PROVIDER, Kind.PROVIDER_GROUP):
        return (await session.locate(kind, value, region))[0]
    if kind is Kind.MACHINE:
        return await session.machine(value)
    return await session.client.names.id_or_name(kind, value)


async def _object(session: Session, kind: Kind, value: str, region: str) -> dict[str, object]:
    id = await _id(session, kind, value, region)
    found = await session.client.names.objects([id])
    if id not in found:
        raise NotFound(f"there is no {kind.replace('_', ' ')} {value} that you may see")
    return plain(found[id])
