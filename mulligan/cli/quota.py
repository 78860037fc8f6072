"""mulligan usage and mulligan quota: what is in use, and what may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from mulligan.api.resource.v1.claim_pb2 import Quota
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import Column, Format, column, named, plain
from mulligan.cli.session import Session

app = typer.Typer(help="Quotas: how much a project may use at most.", no_args_is_help=True)

ResourceType = Annotated[str, typer.Argument(metavar="TYPE", help="Resource type, such as memory.")]


def add_to(root: typer.Typer) -> None:
    """Adds `mulligan usage`, which is no noun with verbs."""
    command(root, "usage", panel="Using machines")(show_usage)


async def show_usage(
    session: Session,
    region: options.Region = "",
    starts: options.Starts = "",
    ends: options.Ends = "",
    provider: Annotated[str, typer.Option(help="Of this provider only.")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="By this project only.")] = "",
) -> None:
    """Capacity and peak use in a window (now), by resource type."""
    above, id = await session.region(region), ""
    if provider:
        id, above = await session.locate("provider", provider, region)
    response = await session.client.resource.get_usage(
        region=above,
        window=options.window(starts, ends, session.surroundings.now_us()),
        provider=id,
        project=await session.project(project),
    )
    rows = [plain(usage) for usage in response.usages]
    columns = [*_shard(rows), column("resource_type", "TYPE"), column("used")]
    if session.print.format is Format.TABLE and any(row["capacity"] for row in rows):
        columns += [column("capacity"), column("share")]
        for row in rows:
            row["share"] = f"{row['used'] / row['capacity']:.1%}" if row["capacity"] else ""
    await session.print.rows(rows, columns, empty="nothing is known there")


@command(app, "set")
async def set_quota(
    session: Session,
    project: Annotated[str, typer.Argument(help="Name or UUID of a project.")],
    resource_type: ResourceType,
    limit: Annotated[int, typer.Argument(min=0, help="Most that may be in use at one instant, in the type's unit.")],
    region: options.RegionToBe = "",
    request_id: options.Request = "",
) -> None:
    """Limit what a project may use in a region's shard."""
    quota = Quota(project=await session.project(project), resource_type=resource_type, limit=limit)
    response = await session.client.resource.set_quota(
        region=await session.region(region), quota=quota, request_id=request_id
    )
    await session.print.one(plain(response.quota))


@command(app, "list")
async def list_quotas(session: Session, region: options.Region = "", project: options.Project = "") -> None:
    """Limits, and what is in use of them."""
    listing = session.client.resource.list_quotas(
        region=await session.region(region), project=await session.project(project)
    )
    rows = [plain(quota) async for quota in listing]
    columns = [named("project"), *_shard(rows), column("resource_type", "TYPE"), column("used"), column("limit")]
    await session.print.rows(rows, columns, empty="none: nothing is limited")


@command(app, "delete")
async def delete_quota(
    session: Session,
    project: Annotated[str, typer.Argument(help="Name or UUID of a project.")],
    resource_type: ResourceType,
    region: options.RegionToBe = "",
) -> None:
    """Remove a limit."""
    await session.client.resource.delete_quota(
        region=await session.region(region), project=await session.project(project), resource_type=resource_type
    )
    session.print.note(f"{resource_type} of {project} is not limited any more")


def _shard(rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """What tells rows of the same resource type apart where there are several shards."""
    return [column("shard")] if len({row["shard"] for row in rows}) > 1 else []
