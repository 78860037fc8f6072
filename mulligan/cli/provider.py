"""mulligan provider: machines and what they have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mulligan.api.resource.v1.provider_pb2 import Inventory, ProviderConfig
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import Format, column, named, own_name, plain
from mulligan.cli.session import Session
from mulligan.errors import InvalidArgument

app = typer.Typer(help="Providers: machines, and what they have to give.", no_args_is_help=True)

Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="Name or UUID of a provider.")]
Etag = Annotated[str, typer.Option(help="Change it only if it still has this etag.")]
Inventories = Annotated[
    list[str],
    typer.Option(
        "--inventory",
        help="TYPE=TOTAL[,reserved=N][,min_unit=N][,max_unit=N][,step_size=N][,allocation_ratio=X]. Repeatable.",
    ),
]


class State(StrEnum):
    """What an operator may say of a provider."""

    ACTIVE = "active"
    MAINTENANCE = "maintenance"
    QUARANTINED = "quarantined"


@command(app, "create")
async def create_provider(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the new provider, unique in the region.")],
    provider_type: Annotated[str, typer.Option("--type", help="Its provider type, such as compute.")],
    inventory: Inventories,
    region: options.RegionToBe = "",
    capability: Annotated[list[str] | None, typer.Option(help="Such as cpu.x86.avx2. Repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Name or UUID of a provider group. Repeatable.")] = None,
    request_id: options.Request = "",
) -> None:
    """Make one provider. `mulligan inventory load` makes many."""
    home = await session.region(region)
    config = ProviderConfig(
        provider_type=provider_type,
        capabilities=capability or [],
        groups=[(await session.locate("provider_group", each, home))[0] for each in group or []],
        inventories=[_inventory(text) for text in inventory],
    )
    response = await session.client.resource.create_provider(
        region=home, name=name, config=config, request_id=request_id
    )
    await session.print.one(plain(response.provider))


@command(app, "list")
async def list_providers(
    session: Session,
    region: options.Region = "",
    group: Annotated[str, typer.Option(help="Only members of this provider group.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
) -> None:
    """Providers of a region and those below it."""
    above, id = await session.region(region), ""
    if group:
        id, above = await session.locate("provider_group", group, region)
    listing = session.client.resource.list_providers(region=above, group=id, page_size=min(limit, 1000))
    rows = []
    async for provider in listing:
        row = plain(provider)
        row["in_use"] = {code: amount for code, amount in row["used"].items() if amount}
        rows.append(row)
        if len(rows) == limit:
            break
    if session.print.format is not Format.TABLE:
        rows = [{key: value for key, value in row.items() if key != "in_use"} for row in rows]
    columns = [own_name(), column("id"), named("region"), column("config.provider_type", "TYPE"), column("state")]
    await session.print.rows(rows, [*columns, column("in_use"), column("state_reason", "REASON")])
    if len(rows) == limit:
        session.print.note(f"the first {limit}; --limit shows more")


@command(app, "show")
async def show_provider(session: Session, provider: Provider, region: options.Region = "") -> None:
    """One provider: inventory, groups, state, and what is in use."""
    id, home = await session.locate("provider", provider, region)
    response = await session.client.resource.get_provider(region=home, id=id)
    await session.print.one(plain(response.provider))


@command(app, "set-inventory")
async def set_inventory(
    session: Session,
    provider: Provider,
    inventory: Inventories,
    region: options.Region = "",
    etag: Etag = "",
    request_id: options.Request = "",
) -> None:
    """Replace what a provider has; refused where claims would no longer fit."""
    id, home = await session.locate("provider", provider, region)
    response = await session.client.resource.set_inventory(
        region=home, id=id, inventories=[_inventory(text) for text in inventory], etag=etag, request_id=request_id
    )
    await session.print.one(plain(response.provider))


@command(app, "set-state")
async def set_state(
    session: Session,
    provider: Provider,
    state: Annotated[State, typer.Argument(help="maintenance and quarantined take it out of placement.")],
    reason: Annotated[str, typer.Option(help="For people; shown with the state.")] = "",
    region: options.Region = "",
    etag: Etag = "",
    request_id: options.Request = "",
) -> None:
    """Take a provider out of placement, or put it back. Its claims are not touched."""
    id, home = await session.locate("provider", provider, region)
    response = await session.client.resource.set_provider_state(
        region=home, id=id, state=f"PROVIDER_STATE_{state.name}", reason=reason, etag=etag, request_id=request_id
    )
    await session.print.one(plain(response.provider))


@command(app, "delete")
async def delete_provider(session: Session, provider: Provider, region: options.Region = "") -> None:
    """Delete a provider; refused while claims hold it."""
    id, home = await session.locate("provider", provider, region)
    await session.client.resource.delete_provider(region=home, id=id)
    session.print.note(f"provider {provider} is deleted")


def _inventory(text: str) -> Inventory:
    """memory=64,reserved=1"""
    code, sign, amounts = text.partition("=")
    total, *others = amounts.split(",")
    if not (code and sign and total):
        raise InvalidArgument(f"--inventory takes TYPE=TOTAL[,reserved=N…], not {text!r}", field="--inventory")
    inventory = Inventory(resource_type=code, total=options.whole_number(total, "--inventory"))
    for key, value in options.pairs(others, "--inventory").items():
        if key == "allocation_ratio":
            inventory.allocation_ratio = _ratio(value)
        elif key in ("reserved", "min_unit", "max_unit", "step_size"):
            setattr(inventory, key, options.whole_number(value, f"--inventory {code} {key}"))
        else:
            raise InvalidArgument(f"--inventory {code} has no {key!r}", field="--inventory")
    return inventory


def _ratio(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(f"allocation_ratio takes a number, not {text!r}", field="--inventory") from None
