"""mulligan claim: resources for a window, now or later."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mulligan.api.resource.v1.claim_pb2 import Claim, ClaimSpec
from mulligan.api.resource.v1.request_response_pb2 import ExplainClaimResponse
from mulligan.cli import options
from mulligan.cli.command import FAILED, command
from mulligan.cli.output import Format, column, named, plain, when
from mulligan.cli.session import Session, require_id
from mulligan.inventory import ClaimFile, packaged_claim, read_claim, resolve_claim

app = typer.Typer(help="Claims: resources for a window, now or later, all or nothing.", no_args_is_help=True)


class Strategy(StrEnum):
    """Which of the providers that fit is taken."""

    PACK = "pack"
    SPREAD = "spread"
    RANDOM = "random"


ClaimId = Annotated[str, typer.Argument(metavar="CLAIM", help="UUID of a claim.")]
Packaged = Annotated[bool, typer.Option("--packaged", help="FILE is one that comes along, such as 1cpu-64m-10g.")]
Group = Annotated[
    list[str] | None,
    typer.Option("--group", help="Only providers of this provider group, for every part of the claim. Repeatable."),
]
StrategyOption = Annotated[Strategy | None, typer.Option(help="Default: the file's.")]
ProjectOption = Annotated[
    str, typer.Option("--project", "-p", help="For whom; another than yours needs a role in the system.")
]
Starts = Annotated[str, typer.Option("--from", help="Begin of the window. Default: the file's.")]
Ends = Annotated[str, typer.Option("--to", help="End of the window. Default: the file's.")]


@command(app, "create")
async def create_claim(
    session: Session,
    file: options.YamlFile,
    region: options.Region = "",
    starts: Starts = "",
    ends: Ends = "",
    strategy: StrategyOption = None,
    group: Group = None,
    project: ProjectOption = "",
    packaged: Packaged = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan it and show the plan, but claim nothing.")] = False,
    request_id: options.Request = "",
) -> None:
    """Claim what a file asks for."""
    home = await session.region(region)
    spec = await _spec(session, _read(file, packaged), home, starts, ends, strategy, group or [], project)
    response = await session.client.resource.create_claim(
        region=home, spec=spec, validate_only=dry_run, request_id=request_id
    )
    await _show(session, response.claim, note="nothing was claimed" if dry_run else "")


@command(app, "explain")
async def explain_claim(
    session: Session,
    file: options.YamlFile,
    region: options.Region = "",
    starts: Starts = "",
    ends: Ends = "",
    strategy: StrategyOption = None,
    group: Group = None,
    project: ProjectOption = "",
    packaged: Packaged = False,
) -> int:
    """Tell how many providers are left after each constraint, and what is short. Exit code 1 when it does not fit."""
    home = await session.region(region)
    spec = await _spec(session, _read(file, packaged), home, starts, ends, strategy, group or [], project)
    explained = await session.client.resource.explain_claim(region=home, spec=spec)
    if session.print.format is not Format.TABLE:
        await session.print.one(plain(explained))
    else:
        await _explain(session, explained)
    return 0 if explained.fits else FAILED


@command(app, "show")
async def show_claim(session: Session, claim: ClaimId, region: options.Region = "") -> None:
    """One claim and what it holds."""
    response = await session.client.resource.get_claim(
        region=await session.region(region), id=require_id(claim, "claim")
    )
    await _show(session, response.claim)


@command(app, "list")
async def list_claims(
    session: Session,
    region: options.Region = "",
    starts: options.Starts = "",
    ends: options.Ends = "",
    provider: Annotated[str, typer.Option(help="Only those that hold this provider.")] = "",
    consumer: Annotated[str, typer.Option(help="Only those of this consumer (UUID).")] = "",
) -> None:
    """Claims of the project that are not released, or those whose window overlaps --from and --to."""
    above, id = await session.region(region), ""
    if provider:
        id, above = await session.locate("provider", provider, region)
    listing = session.client.resource.list_claims(
        region=above,
        window=options.window(starts, ends, session.surroundings.now_us()),
        provider=id,
        consumer=require_id(consumer, "consumer") if consumer else "",
    )
    rows = []
    async for claim in listing:
        row = plain(claim)
        row["providers"] = len({allocation["provider"] for allocation in row["allocations"]})
        rows.append(row)
    columns = [column("id"), named("region"), column("state"), when("acquire"), when("release"), column("providers")]
    await session.print.rows(rows, columns)


@command(app, "release")
async def release_claim(
    session: Session,
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="UUID of a claim.")],
    region: options.Region = "",
    request_id: options.Request = "",
) -> None:
    """Give a claim back, from now on."""
    response = await session.client.resource.release_claim(
        region=await session.region(region), id=require_id(claim, "claim"), request_id=request_id
    )
    await _show(session, response.claim)


def _read(file: Path, packaged: bool) -> ClaimFile:
    return packaged_claim(str(file)) if packaged else read_claim(file)


async def _spec(
    session: Session,
    claim: ClaimFile,
    region: str,
    starts: str,
    ends: str,
    strategy: Strategy | None,
    groups: list[str],
    project: str,
) -> ClaimSpec:
    """The request of the file, with what the command line says instead."""
    now = session.surroundings.now_us()
    spec = await resolve_claim(session.client, claim, region, now)
    acquire, release = options.moment(starts, now, "--from"), options.moment(ends, now, "--to")
    if acquire:
        spec.acquire.CopyFrom(acquire)
    if release:
        spec.release.CopyFrom(release)
    if strategy:
        spec.MergeFrom(ClaimSpec(strategy=f"STRATEGY_{strategy.name}"))
    if project:
        spec.project = await session.project(project)
    required = [(await session.locate("provider_group", group, region))[0] for group in groups]
    for part in spec.groups:
        part.provider_groups.require.extend(required)
    return spec


async def _show(session: Session, claim: Claim, note: str = "") -> None:
    item: dict[str, Any] = plain(claim)
    if session.print.format is not Format.TABLE:
        await session.print.one(item)
        return
    allocations = item.pop("allocations")
    await session.print.one(item)
    session.print.note(" ")
    columns = [column("group"), named("provider"), column("resource_type"), column("amount")]
    await session.print.rows(allocations, columns, empty="it holds nothing")
    session.print.note(note)


async def _explain(session: Session, explained: ExplainClaimResponse) -> None:
    for group in explained.groups:
        steps = [plain(step) for step in group.funnel]
        await session.print.rows(steps, [column("constraint", f"GROUP {group.name or '0'}"), column("left", "LEFT")])
        session.print.note(" ")
    short = [plain(each) for each in explained.quota_shortages]
    if short:
        columns = [column("resource_type", "QUOTA OF"), column("limit"), column("used"), column("asked")]
        await session.print.rows(short, columns)
        session.print.note(" ")
    session.print.note(explained.summary)
