"""How PostgreSQL carries out the statements of the hot path: by index, however large the tables are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from mulligan.resource import queries, store
from mulligan.resource.timeline import FOREVER
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import Shard, running_shard

PROVIDERS = 20_000
CLAIMS = 20_000

FILL = (
    f"""INSERT INTO resource.ledger
        SELECT gen_random_uuid(), kind, 0, {FOREVER}, 5, 100, 100
        FROM generate_series(1, {PROVIDERS}), unnest(ARRAY['cpu.shared', 'memory', 'storage.block']) AS kind""",
    f"""INSERT INTO resource.claims
        SELECT gen_random_uuid(), 'default', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 0, {FOREVER}, 0
        FROM generate_series(1, {CLAIMS})""",
    """INSERT INTO resource.allocations
        SELECT id, n, gen_random_uuid(), 'memory', 1, '0', false FROM resource.claims, generate_series(0, 2) AS n""",
    f"""INSERT INTO resource.requests
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'digest', 'response', 0
        FROM generate_series(1, {CLAIMS})""",
)


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


async def plan(connection: asyncpg.Connection, query: str) -> str:
    """The plan for values that are not known, which is what a prepared statement gets in the end."""
    values = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", query))))
    await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE hot AS {query}")
    found = await connection.fetch(f"EXPLAIN EXECUTE hot ({values})")
    await connection.execute("DEALLOCATE hot")
    return "\n".join(row[0] for row in found)


@pytest.mark.parametrize("analyzed", [True, False])
async def test_the_hot_path_reads_by_index(shard: Shard, analyzed: bool) -> None:
    async with shard.pool.acquire() as connection:
        for statement in FILL:
            await connection.execute(statement)
        if analyzed:
            await connection.execute("ANALYZE")
        for query in (
            queries.LEDGER_FOR_EVER,
            queries.LEDGER_SPLIT,
            queries.LEDGER_IN_WINDOWS,
            queries.RELEASE_CLAIMS,
            queries.FIND_REQUESTS,
            store.CLAIMS_BY_ID,
        ):
            found = await plan(connection, query)
            assert "Seq Scan" not in found, found
            assert "Index" in found, found
