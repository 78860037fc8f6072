"""mulligan region: how the system is divided."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from mulligan.api.meta.v1.meta_pb2 import FailureAttribute, RegionConfig
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column, named, own_name, plain
from mulligan.cli.session import Session
from mulligan.errors import InvalidArgument

app = typer.Typer(help="Regions: trees of places and partitions.", no_args_is_help=True)


class Visibility(StrEnum):
    """Who sees a region."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PROJECTS = "projects"


Region = Annotated[str, typer.Argument(metavar="REGION", help="Name or UUID of a region.")]
VisibilityOption = Annotated[
    Visibility | None, typer.Option(help="public, internal (operators only), or the projects given with --project.")
]
Projects = Annotated[list[str] | None, typer.Option("--project", "-p", help="Project that sees it. Repeatable.")]
Failures = Annotated[
    list[str] | None,
    typer.Option("--failure", help='What to expect when a thing fails: power="two feeds, one generator". Repeatable.'),
]
Shared = Annotated[
    list[str] | None,
    typer.Option("--shares", help="Region that shares the fate of a thing: power=REGION. Repeatable."),
]


@command(app, "create")
async def create_region(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new region.")],
    parent: Annotated[str, typer.Option(help="Region above it. Default: it is a root.")] = "",
    shard: Annotated[str, typer.Option(help="Shard that owns it. Default: the parent's, or of a root: default.")] = "",
    visibility: VisibilityOption = None,
    project: Projects = None,
    failure: Failures = None,
    shares: Shared = None,
    request_id: options.Request = "",
) -> None:
    """Make a region, a root or below another one."""
    response = await session.client.meta.create_region(
        name=name,
        parent=await session.region(parent, default=False),
        config=await _config(session, visibility, project or [], failure or [], shares or []),
        shard=shard,
        request_id=request_id,
    )
    await session.print.one(plain(response.region))


@command(app, "list")
async def list_regions(
    session: Session,
    under: Annotated[str, typer.Option(help="Only this region and those below it.")] = "",
) -> None:
    """Regions that you may see."""
    listing = session.client.meta.list_regions(under=await session.region(under, default=False))
    rows = [plain(region) async for region in listing]
    columns = [own_name(), column("id"), named("parent"), column("shard"), column("config.visibility")]
    await session.print.rows(rows, columns)


@command(app, "show")
async def show_region(session: Session, region: Region) -> None:
    """One region: what is above it, its shard, who sees it, and what fails with it."""
    response = await session.client.meta.get_region(id=await session.region(region))
    await session.print.one(plain(response.region))


@command(app, "update")
async def update_region(
    session: Session,
    region: Region,
    visibility: VisibilityOption = None,
    project: Projects = None,
    failure: Failures = None,
    shares: Shared = None,
    etag: Annotated[str, typer.Option(help="Change it only if it still has this etag.")] = "",
    request_id: options.Request = "",
) -> None:
    """Change who sees a region, or what to expect of it. What is given replaces what was there."""
    given = {"visibility": visibility, "projects": project, "failures": failure or shares}
    mask = [name for name, value in given.items() if value]
    if not mask:
        raise InvalidArgument("give what to change: --visibility, --project or --failure")
    response = await session.client.meta.update_region(
        id=await session.region(region),
        config=await _config(session, visibility, project or [], failure or [], shares or []),
        update_mask=FieldMask(paths=mask),
        etag=etag,
        request_id=request_id,
    )
    await session.print.one(plain(response.region))


@command(app, "delete")
async def delete_region(session: Session, region: Region) -> None:
    """Delete a region; refused while there are regions or objects in it."""
    await session.client.meta.delete_region(id=await session.region(region))
    session.print.note(f"region {region} is deleted")


async def _config(
    session: Session,
    visibility: Visibility | None,
    projects: Iterable[str],
    failures: list[str],
    shares: Iterable[str],
) -> RegionConfig:
    config = RegionConfig(
        visibility=f"VISIBILITY_{visibility.name}" if visibility else None,
        projects=[await session.project(project) for project in projects],
        failures={
            thing: FailureAttribute(expectation=expectation)
            for thing, expectation in options.pairs(failures, "--failure").items()
        },
    )
    for text in shares:
        [(thing, other)] = options.pairs([text], "--shares").items()
        config.failures[thing].shared_with.append(await session.region(other, default=False))
    return config
