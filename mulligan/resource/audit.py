"""Counts over-commitment from the claims themselves; it shares no code and no table with what prevents it."""

from __future__ import annotations

import asyncpg

# A sweep over the ends and starts of all claims: at one instant ends come first. The capacity is what the inventory
# says now, the ratio as the decimal that it is written as.
_OVERCOMMITTED = """
WITH held AS (
    SELECT a.provider, a.resource_type, a.amount, greatest(c.acquire_us, $1) AS begin, c.release_us AS finish
    FROM resource.allocations a JOIN resource.claims c ON c.id = a.claim
    WHERE c.release_us > $1 AND c.acquire_us < c.release_us
), levels AS (
    SELECT provider, resource_type,
           sum(change) OVER (PARTITION BY provider, resource_type ORDER BY at, change
                             ROWS UNBOUNDED PRECEDING) AS level
    FROM (SELECT provider, resource_type, begin AS at, amount AS change FROM held
          UNION ALL SELECT provider, resource_type, finish, -amount FROM held) AS events
), peaks AS (
    SELECT provider, resource_type, max(level) AS peak FROM levels GROUP BY 1, 2
)
SELECT count(*) FROM peaks
LEFT JOIN resource.inventories i USING (provider, resource_type)
WHERE peak > coalesce(floor((i.total - i.reserved)::numeric * i.allocation_ratio::text::numeric), 0)
"""

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


async def overcommitted(connection: asyncpg.Connection, since_us: int | None = None) -> int:
    """How many resources of providers are claimed beyond their capacity at some instant from `since_us` on.

    By default from now on: in the past an inventory may have been larger.
    """
    since = await connection.fetchval(_NOW) if since_us is None else since_us
    return int(await connection.fetchval(_OVERCOMMITTED, since))
