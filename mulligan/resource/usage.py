"""How much is in use: peaks over a window, of providers or of a project."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence

import asyncpg

from mulligan.resource.batch import NOBODY
from mulligan.resource.funnel import Turns
from mulligan.resource.model import Provider
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline

# What a project's claims use of each of these providers, from now ($3) on.
_PROJECT_ALLOCATIONS = """
SELECT a.provider::text, a.resource_type, greatest(c.acquire_us, $3), c.release_us, a.amount
FROM resource.allocations a JOIN resource.claims c ON c.id = a.claim
WHERE a.provider = ANY($2::uuid[]) AND c.project = $1 AND NOT c.released AND c.release_us > $3
"""

# Peak in [$2, $3) of what matches. What ends at an instant and what begins then are netted before they are compared.
_PEAKS = """
WITH used AS (
    SELECT a.resource_type, greatest(c.acquire_us, $2) AS begin, least(c.release_us, $3) AS finish, a.amount
    FROM resource.claims c JOIN resource.allocations a ON a.claim = c.id {join}
    WHERE c.shard = $1 AND c.acquire_us < $3 AND c.release_us > $2 AND c.acquire_us < c.release_us {conditions}
), steps AS (
    SELECT resource_type, at, sum(change) AS change
    FROM (SELECT resource_type, begin AS at, amount AS change FROM used
          UNION ALL SELECT resource_type, finish, -amount FROM used) AS events
    GROUP BY 1, 2
), levels AS (
    SELECT resource_type, sum(change) OVER (PARTITION BY resource_type ORDER BY at) AS level FROM steps
)
SELECT resource_type, max(level) FROM levels GROUP BY 1
"""


async def project_peaks(
    connection: asyncpg.Connection, project: str, providers: Sequence[str], now: int
) -> dict[str, dict[str, int]]:
    """What the project's claims use of each provider at the peak from now on, by resource type."""
    rows = await connection.fetch(_PROJECT_ALLOCATIONS, project or NOBODY, providers, now)
    uses: dict[str, dict[str, Timeline]] = {provider: {} for provider in providers}
    for provider, resource_type, begin, end, amount in rows:
        uses[provider].setdefault(resource_type, Timeline()).add(begin if begin > now else ALREADY, end, amount)
    return {
        provider: {kind: use.peak(ALREADY, FOREVER) for kind, use in each.items()} for provider, each in uses.items()
    }


async def peaks_in_database(
    connection: asyncpg.Connection,
    shard: str,
    begin: int,
    end: int,
    *,
    project: str = "",
    provider: str = "",
    regions: Collection[str] | None = None,
) -> dict[str, int]:
    """Peak use in [begin, end) by resource type, also of the past; an empty text or None: any."""
    join, conditions = "", ""
    values: list[object] = [shard, begin, end]
    if project:
        values.append(project)
        conditions += f" AND c.project = ${len(values)}"
    if provider:
        values.append(provider)
        conditions += f" AND a.provider = ${len(values)}"
    if regions is not None:
        values.append(list(regions))
        join = f"JOIN resource.providers p ON p.id = a.provider AND p.region = ANY(${len(values)}::uuid[])"
    rows = await connection.fetch(_PEAKS.format(join=join, conditions=conditions), *values)
    return {resource_type: int(level) for resource_type, level in rows}


async def peaks_in_memory(providers: Iterable[Provider], begin: int, end: int) -> dict[str, int]:
    """Peak of everybody's use in [begin, end), from now on, by resource type."""
    turns = Turns()
    levels: dict[str, int] = {}
    steps: dict[str, dict[int, int]] = {}
    for provider in providers:
        await turns.step()
        for inventory, use in zip(provider.profile.inventories, provider.uses, strict=True):
            if use is None:
                continue
            kind, first = inventory.resource_type, bisect_right(use.starts, begin) - 1
            level = use.levels[first]
            levels[kind] = levels.get(kind, 0) + level
            for at in range(first + 1, bisect_left(use.starts, end)):
                changes = steps.setdefault(kind, {})
                changes[use.starts[at]] = changes.get(use.starts[at], 0) + use.levels[at] - use.levels[at - 1]
    peaks = {}
    for kind, level in levels.items():
        peaks[kind] = level
        for _, change in sorted(steps.get(kind, {}).items()):
            level += change
            peaks[kind] = max(peaks[kind], level)
    return peaks
