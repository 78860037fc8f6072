"""Lists of claims, page by page; whose they may be is decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from mulligan.resource.batch import NOBODY
from mulligan.resource.model import Claim
from mulligan.resource.store import CLAIM_COLUMNS, claims_from


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """Which claims of a shard; an empty text: any."""

    shard: str
    # Only claims with a later id.
    after: str
    # Only this project's, unless `any_project`.
    project: str
    any_project: bool
    # Only claims whose providers all are in these; and regions that such a claim may have named.
    regions: Collection[str] | None
    named: Collection[str]
    # Only claims whose window overlaps this one, released ones included; None: claims that are not released.
    window: tuple[int, int] | None
    provider: str
    consumer: str


async def list_claims(connection: asyncpg.Connection, wanted: ClaimFilter, limit: int) -> list[Claim]:
    """The first claims that match, in order of id."""
    query, values = _query(wanted, limit)
    return claims_from(await connection.fetch(query, *values))


def _query(wanted: ClaimFilter, limit: int) -> tuple[str, list[object]]:
    values: list[object] = []

    def value(each: object) -> str:
        values.append(each)
        return f"${len(values)}"

    conditions = [f"c.shard = {value(wanted.shard)}"]
    if not wanted.any_project:
        conditions.append(f"c.project = {value(wanted.project or NOBODY)}")
    if wanted.after:
        conditions.append(f"c.id > {value(wanted.after)}")
    if wanted.regions is not None:
        conditions.append(f"c.region = ANY({value(list(wanted.named))}::uuid[])")
        # Of a provider that is gone, the claim's own region speaks.
        conditions.append(
            "NOT EXISTS (SELECT FROM resource.allocations y LEFT JOIN resource.providers p ON p.id = y.provider"
            f" WHERE y.claim = c.id AND coalesce(p.region, c.region) <> ALL({value(list(wanted.regions))}::uuid[]))"
        )
    if wanted.window is None:
        conditions.append("NOT c.released")
    else:
        begin, end = wanted.window
        # A reservation that was given back before it began has an empty window, which overlaps nothing.
        conditions.append(
            f"c.acquire_us < {value(end)} AND c.release_us > {value(begin)} AND c.acquire_us < c.release_us"
        )
    if wanted.consumer:
        conditions.append(f"c.consumer = {value(wanted.consumer)}")
    if wanted.provider:
        provider = value(wanted.provider)
        conditions.append(
            f"EXISTS (SELECT FROM resource.allocations x WHERE x.claim = c.id AND x.provider = {provider})"
        )
    return f"{CLAIM_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY c.id LIMIT {value(limit)}", values
