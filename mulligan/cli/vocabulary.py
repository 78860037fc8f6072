"""mulligan vocabulary: the codes that everybody agrees on."""

from __future__ import annotations

from typing import Annotated

import typer

from mulligan.api.resource.v1.vocabulary_pb2 import DistanceType, ResourceType, Vocabulary
from mulligan.cli import options
from mulligan.cli.command import command
from mulligan.cli.output import column, plain
from mulligan.cli.session import Session
from mulligan.inventory.expansion import usual_unit

app = typer.Typer(help="Types and capabilities known in a region.", no_args_is_help=True)

ProviderTypes = Annotated[list[str] | None, typer.Option("--provider-type", help="Such as compute. Repeatable.")]
Capabilities = Annotated[list[str] | None, typer.Option("--capability", help="Such as cpu.x86.avx2. Repeatable.")]


@command(app, "show")
async def show_vocabulary(session: Session, region: options.Region = "") -> None:
    """Provider types, resource types, capabilities and distance types of a region."""
    response = await session.client.resource.get_vocabulary(region=await session.region(region))
    words = plain(response.vocabulary)
    if session.print.format.value != "table":
        await session.print.one(words)
        return
    rows = [{"kind": "provider type", "code": code, "detail": ""} for code in words["provider_types"]]
    rows += [
        {"kind": "resource type", "code": each["code"], "detail": each["unit"]} for each in words["resource_types"]
    ]
    rows += [{"kind": "capability", "code": code, "detail": ""} for code in words["capabilities"]]
    rows += [
        {"kind": "distance type", "code": each["code"], "detail": " < ".join(each["positions"])}
        for each in words["distance_types"]
    ]
    await session.print.rows(rows, [column("kind"), column("code"), column("detail", "UNIT OR POSITIONS")])


@command(app, "define")
async def define_vocabulary(
    session: Session,
    region: options.RegionToBe = "",
    provider_type: ProviderTypes = None,
    resource_type: Annotated[
        list[str] | None, typer.Option(help="CODE or CODE=UNIT, such as gpu=cards. Repeatable.")
    ] = None,
    capability: Capabilities = None,
    distance_type: Annotated[
        list[str] | None, typer.Option(help="CODE=NEAR,...,FAR, such as network=local,site,remote. Repeatable.")
    ] = None,
    request_id: options.Request = "",
) -> None:
    """Add codes, all or none. What is there already stays as it is."""
    units = options.pairs([text if "=" in text else f"{text}={usual_unit(text)}" for text in resource_type or []], "")
    positions = options.pairs(distance_type or [], "--distance-type")
    vocabulary = Vocabulary(
        provider_types=provider_type or [],
        resource_types=[ResourceType(code=code, unit=unit) for code, unit in units.items()],
        capabilities=capability or [],
        distance_types=[DistanceType(code=code, positions=text.split(",")) for code, text in positions.items()],
    )
    response = await session.client.resource.define_vocabulary(
        region=await session.region(region), vocabulary=vocabulary, request_id=request_id
    )
    await session.print.one(plain(response.vocabulary))


@command(app, "delete")
async def delete_vocabulary(
    session: Session,
    region: options.RegionToBe = "",
    provider_type: ProviderTypes = None,
    resource_type: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    capability: Capabilities = None,
    distance_type: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
) -> None:
    """Remove codes; refused while one of them is used."""
    await session.client.resource.delete_vocabulary(
        region=await session.region(region),
        provider_types=provider_type or [],
        resource_types=resource_type or [],
        capabilities=capability or [],
        distance_types=distance_type or [],
    )
    session.print.note("the codes are removed")
