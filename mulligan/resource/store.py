"""What the resource service asks of Postgres beside the hot path: fenced transactions, the memory, single claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from mulligan.errors import Aborted
from mulligan.resource.batch import Replay, RequestKey, find_requests, record_requests, stored_key
from mulligan.resource.gathering import Gathering
from mulligan.resource.load import load_world
from mulligan.resource.model import Allocation, Claim
from mulligan.resource.world import World
from mulligan.stores.postgres import Ownership, translate_errors

T = TypeVar("T")

# Seconds for reading a whole shard.
LOAD_DEADLINE_S = 120.0
READ_DEADLINE_S = 15.0

_LOCK_OWNERSHIP = """
SELECT 1 FROM mulligan.ownership WHERE service = $1 AND shard = $2 AND epoch = $3 FOR UPDATE
"""

# What claims_from reads.
CLAIM_COLUMNS = """
SELECT c.id::text, c.region::text, c.project::text, c.consumer::text, c.acquire_us, c.release_us, c.create_us,
       c.released, a.groups, a.providers, a.resource_types, a.amounts, a.exclusive
FROM resource.claims c
CROSS JOIN LATERAL (
    SELECT array_agg(request_group ORDER BY ordinal) AS groups, array_agg(provider::text ORDER BY ordinal) AS providers,
           array_agg(resource_type ORDER BY ordinal) AS resource_types, array_agg(amount ORDER BY ordinal) AS amounts,
           array_agg(exclusive ORDER BY ordinal) AS exclusive
    FROM resource.allocations WHERE claim = c.id) AS a
"""
CLAIMS_BY_ID = CLAIM_COLUMNS + "WHERE c.shard = $1 AND c.id = ANY($2::uuid[])"


class Store:
    """The database of one shard, for as long as it is owned."""

    def __init__(self, pool: asyncpg.Pool, ownership: Ownership) -> None:
        self.pool = pool
        self.ownership = ownership
        self.shard = ownership.shard
        self._replays = Gathering(self._find_requests)
        self._claims = Gathering(self._claims_by_id)

    async def load(self, now: int) -> World:
        """The memory of the shard; waits for transactions of this owner that are still under way.

        Raises Aborted (FENCED), Unavailable.
        """
        with translate_errors():
            async with asyncio.timeout(LOAD_DEADLINE_S), self.pool.acquire() as connection:
                async with connection.transaction():
                    mine = (self.ownership.service, self.ownership.shard, self.ownership.epoch)
                    # Waits where the check of a lost transaction still holds its lock.
                    await connection.fetchval(_LOCK_OWNERSHIP, *mine)
                    await self.ownership.check(connection)
                return await load_world(connection, self.shard, now)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A fenced transaction beside the writer's, for what touches no row that claims touch."""
        with translate_errors():
            async with (
                asyncio.timeout(READ_DEADLINE_S * 4),
                self.pool.acquire() as connection,
                connection.transaction(),
            ):
                await self.ownership.check(connection)
                yield connection

    async def read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Runs reads on a connection of the pool."""
        with translate_errors():
            async with asyncio.timeout(READ_DEADLINE_S), self.pool.acquire() as connection:
                return await work(connection)

    async def replay(self, key: RequestKey) -> Replay | None:
        """What was answered to the request if it was seen before. Asked for at the same time, they are read together.

        A project that asks again and again beyond its quota so costs one read for each batch of its requests.
        """
        return await self._replays.get(stored_key(key))

    async def claim(self, identifier: str) -> Claim | None:
        """One claim of the shard. Those that are asked for at the same time are read together."""
        return await self._claims.get(identifier)

    async def _find_requests(self, keys: list[RequestKey]) -> dict[RequestKey, Replay]:
        return await self.read(lambda connection: find_requests(connection, keys))

    async def _claims_by_id(self, identifiers: list[str]) -> dict[str, Claim]:
        return {claim.id: claim for claim in await self.claims(identifiers)}

    async def claims(self, identifiers: Sequence[str]) -> list[Claim]:
        """Those of the claims that are in the shard."""
        rows = await self.read(lambda connection: connection.fetch(CLAIMS_BY_ID, self.shard, identifiers))
        return claims_from(rows)


def claims_from(rows: Iterable[asyncpg.Record]) -> list[Claim]:
    """Claims from rows with the columns of `CLAIM_COLUMNS`."""
    return [_claim(*row) for row in rows]


def _claim(
    identifier: str,
    region: str,
    project: str,
    consumer: str,
    acquire_us: int,
    release_us: int,
    created_us: int,
    released: bool,
    *columns: Sequence[Any],
) -> Claim:
    allocations = [Allocation(*each) for each in zip(*columns, strict=True)]
    return Claim(identifier, region, project, consumer, acquire_us, release_us, created_us, released, allocations)


async def record_request(
    connection: asyncpg.Connection, key: RequestKey, digest: bytes, response: bytes, now: int
) -> None:
    """Remembers a request in the transaction that carries it out; raises Repeated when it was carried out before."""
    if not await record_requests(connection, [key], [digest], [response], now):
        raise Repeated


class Repeated(Aborted):
    """The same request was carried out meanwhile; its answer is stored."""

    def __init__(self) -> None:
        super().__init__("the same request is being carried out; send it again to get its answer", retry_after_s=0.1)
