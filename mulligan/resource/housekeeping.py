"""What the resource service does unasked: forget old requests and past use, free names that belong to nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from itertools import islice

import asyncpg

from mulligan.clock import SECOND
from mulligan.meta.model import PROVIDER, PROVIDER_GROUP
from mulligan.resource.core import Core
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import read_prefix

log = logging.getLogger(__name__)

# A request may be repeated for as long and gets its first answer.
REQUEST_LIFE_US = 24 * 3600 * SECOND

INTERVAL_S = 600.0

# All names of the shard's regions are read for that.
NAMES_INTERVAL_US = 6 * 3600 * SECOND

_ROWS_AT_ONCE = 5_000
_NAMES_AT_ONCE = 128

_FORGET_REQUESTS = """
DELETE FROM resource.requests WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM resource.requests WHERE create_us < $1 LIMIT $2))
"""
# Owners in the shard that have something past: one look at the whole ledger, which other shards' use is in too.
_HAVE_PAST = """
SELECT DISTINCT owner::text FROM resource.ledger
WHERE until_us <= $2 AND owner IN (SELECT id FROM resource.providers WHERE shard = $1
                                   UNION ALL SELECT id FROM resource.quotas WHERE shard = $1)
"""
_FORGET_PAST = "DELETE FROM resource.ledger WHERE owner = ANY($1::uuid[]) AND until_us <= $2"

# Owners in the shard with many segments where some only repeat the one before: claims that were given back leave such.
_CROWDED = """
SELECT DISTINCT owner::text FROM (
    SELECT owner, count(*) OVER same AS segments,
           (used, capacity, nominal) IS NOT DISTINCT FROM (lag(used) OVER w, lag(capacity) OVER w, lag(nominal) OVER w)
               AS repeats
    FROM resource.ledger
    WHERE owner IN (SELECT id FROM resource.providers WHERE shard = $1
                    UNION ALL SELECT id FROM resource.quotas WHERE shard = $1)
    WINDOW same AS (PARTITION BY owner, resource_type), w AS (same ORDER BY from_us)) AS all_segments
WHERE segments > $2 AND repeats
"""
_MANY_SEGMENTS = 16
_OWNERS_AT_ONCE = 100
_JOIN_SEGMENTS = """
WITH marked AS (
    SELECT owner, resource_type, from_us, until_us,
           (lag(used) OVER w, lag(capacity) OVER w, lag(nominal) OVER w)
               IS NOT DISTINCT FROM (used, capacity, nominal) AS repeats
    FROM resource.ledger WHERE owner = ANY($1::uuid[])
    WINDOW w AS (PARTITION BY owner, resource_type ORDER BY from_us)
), islands AS (
    SELECT *, count(*) FILTER (WHERE NOT repeats)
                  OVER (PARTITION BY owner, resource_type ORDER BY from_us) AS island FROM marked
), joined AS (
    SELECT owner, resource_type, min(from_us) AS from_us, max(until_us) AS until_us
    FROM islands GROUP BY owner, resource_type, island HAVING count(*) > 1
), removed AS (
    DELETE FROM resource.ledger l USING joined j
    WHERE l.owner = j.owner AND l.resource_type = j.resource_type
        AND l.from_us > j.from_us AND l.until_us <= j.until_us
)
UPDATE resource.ledger l SET until_us = j.until_us FROM joined j
WHERE l.owner = j.owner AND l.resource_type = j.resource_type AND l.from_us = j.from_us
"""


class Housekeeper:
    """Keeps a shard's tables and names small."""

    def __init__(self, core: Core, etcd: EtcdClient) -> None:
        self._core = core
        self._etcd = etcd
        self._names_due_us = 0

    async def run(self) -> None:
        """For ever; raises Unavailable when a store is away, Aborted (FENCED) when the shard was taken over."""
        await self.free_names()
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.clean()

    async def clean(self) -> None:
        """Removes what nobody will ask for again."""
        now = self._core.clock()
        await self._forget_requests(now - REQUEST_LIFE_US)
        await self._forget_past(now)
        await self._join_segments()
        if now >= self._names_due_us:
            await self.free_names()
            self._names_due_us = now + NAMES_INTERVAL_US

    async def _join_segments(self) -> None:
        store = self._core.store
        rows = await store.read(lambda connection: connection.fetch(_CROWDED, store.shard, _MANY_SEGMENTS))
        owners = iter([row[0] for row in rows])
        while chunk := list(islice(owners, _OWNERS_AT_ONCE)):

            async def join(connection: asyncpg.Connection, chunk: list[str] = chunk) -> None:
                await connection.execute(_JOIN_SEGMENTS, chunk)

            # Not beside claims, which may be splitting the same segments.
            await self._core.memory.writer.exclusive(join)

    async def free_names(self) -> int:
        """Frees names of providers and groups that are not there: a process died between two stores, or was fenced."""
        freed = 0
        core = self._core
        for region in core.regions.mine():
            listed = await read_prefix(self._etcd, keys.meta_in_region(region, ""), keys_only=True)
            unknown = iter(self._unknown(listed))
            while chunk := list(islice(unknown, _NAMES_AT_ONCE)):
                freed += await self._free(chunk)
        if freed:
            log.warning("shard=%s freed %d names that belonged to nothing", core.store.shard, freed)
        return freed

    async def _free(self, identifiers: Collection[str]) -> int:
        # Whatever is being made now holds this lock until it is both named and stored.
        async with self._core.changing:
            await self._core.settle()
            named = await self._core.names.lookup(self._unknown(identifiers))
            ours = [each.id for each in named.values() if each.kind in (PROVIDER, PROVIDER_GROUP)]
            return await self._core.names.remove_many(ours) if ours else 0

    def _unknown(self, identifiers: Iterable[str]) -> list[str]:
        world = self._core.world
        return [each for each in identifiers if each not in world.providers and each not in world.groups]

    async def _forget_past(self, now: int) -> None:
        store = self._core.store
        rows = await store.read(lambda connection: connection.fetch(_HAVE_PAST, store.shard, now))
        owners = iter([row[0] for row in rows])
        while chunk := list(islice(owners, _OWNERS_AT_ONCE)):
            async with store.transaction() as connection:
                await connection.execute(_FORGET_PAST, chunk, now)

    async def _forget_requests(self, before_us: int) -> None:
        while True:
            async with self._core.store.transaction() as connection:
                status = await connection.execute(_FORGET_REQUESTS, before_us, _ROWS_AT_ONCE)
            if int(status.split()[-1]) < _ROWS_AT_ONCE:
                return
