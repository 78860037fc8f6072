"""mulligan group: failure domains and other sets of providers."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.api.resource.v1.provider_pb2 import Span
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column, named, own_name, plain
from mulligan.cli.session import Session

app = typer.Typer(help="Provider groups: sites, rows, racks, storage pools.", no_args_is_help=True)


@command(app, "create")
async def create_group(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new group, unique in the region.")],
    region: options.RegionToBe = "",
    span: Annotated[
        list[str] | None,
        typer.Option(help="How far its members are apart at most: network=local. Repeatable."),
    ] = None,
    request_id: options.Request = "",
) -> None:
    """Make a provider group."""
    spans = options.pairs(span or [], "--span")
    response = await session.client.resource.create_provider_group(
        region=await session.region(region),
        name=name,
        spans=[Span(distance_type=code, position=position) for code, position in spans.items()],
        request_id=request_id,
    )
    await session.print.one(plain(response.group))


@command(app, "list")
async def list_groups(session: Session, region: options.Region = "") -> None:
    """Provider groups of a region and those below it."""
    listing = session.client.resource.list_provider_groups(region=await session.region(region), page_size=1000)
    rows = []
    async for group in listing:
        row = plain(group)
        row["spans"] = {span["distance_type"]: span["position"] for span in row["spans"]}
        rows.append(row)
    columns = [own_name(), column("id"), named("region"), column("provider_count", "PROVIDERS"), column("spans")]
    await session.print.rows(rows, columns)


@command(app, "delete")
async def delete_group(
    session: Session,
    group: Annotated[str, typer.Argument(help="Name or UUID of a provider group.")],
    region: options.Region = "",
) -> None:
    """Delete a group; refused while it has members."""
    id, home = await session.locate("provider_group", group, region)
    await session.client.resource.delete_provider_group(region=home, id=id)
    session.print.note(f"group {group} is deleted")
