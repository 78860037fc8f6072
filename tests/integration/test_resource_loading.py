"""A load that breaks leaves no name without its provider and no provider without its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.ids import new_id
from mulligan.meta.model import PROVIDER, NamedObject
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import SHARED, Shard, refusal, running_shard
from tests.waiting import eventually

NODES = [f"node{number}" for number in range(5)]


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


def records(shard: Shard) -> list[bytes]:
    return [
        pb.LoadProvidersRequest(request_id=new_id(), region=shard.region, name=name, config=SHARED).SerializeToString()
        for name in NODES
    ]


async def named(shard: Shard) -> list[str]:
    """Ids that the names lead to."""
    found = await shard.service.core.names.resolve_many([(PROVIDER, shard.region, name) for name in NODES])
    return [each for each in found if each is not None]


async def stored(shard: Shard) -> set[str]:
    listed = await shard.call("ListProviders", pb.ListProvidersRequest(page_size=1000))
    return {each.id for each in listed.providers}


@asynccontextmanager
async def beside(shard: Shard) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(shard.addresses.postgres)
    yield connection
    await connection.close()


async def end_writer(shard: Shard, query: str, wait: str) -> None:
    """Ends the writer's session once it waits in a query."""
    session = "SELECT pid FROM pg_stat_activity WHERE query LIKE $1 AND wait_event = $2"
    pid = await eventually(lambda: shard.pool.fetchval(session, query, wait))
    await shard.pool.execute("SELECT pg_terminate_backend($1)", pid)


async def test_names_are_free_at_once_when_nothing_was_stored(shard: Shard) -> None:
    sent = records(shard)
    async with beside(shard) as connection, connection.transaction():
        await connection.execute("LOCK TABLE resource.providers IN EXCLUSIVE MODE")
        loading = asyncio.create_task(refusal(shard.load(sent)))
        await end_writer(shard, "COPY %providers%", "relation")
        assert (await loading).reason == "STORE_UNAVAILABLE"
    assert await named(shard) == []
    assert (await shard.load(sent)).stored == len(NODES)
    assert set(await named(shard)) == await stored(shard)


@pytest.mark.parametrize("fate", ["commits", "rolls back"])
async def test_names_are_settled_before_the_shard_serves_again_when_nobody_knows(shard: Shard, fate: str) -> None:
    watching = asyncio.create_task(shard.service.core.watch())
    sent = records(shard)
    async with beside(shard) as connection:
        await connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON resource.providers"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();"
        )
        loading = asyncio.create_task(refusal(shard.load(sent[:1])))
        if fate == "rolls back":
            await end_writer(shard, "COMMIT%", "PgSleep")
        else:
            committing = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT;' AND wait_event = 'PgSleep'"
            await eventually(lambda: connection.fetchval(committing))
            writer = shard.service.core.memory.writer
            assert writer._connection is not None
            writer._connection._con._transport.abort()
        assert (await loading).reason == "STORE_UNAVAILABLE"
        await eventually(lambda: shard.service.core._memory)
        assert set(await named(shard)) == await stored(shard)
        assert len(await named(shard)) == (fate == "commits")
        await connection.execute("DROP TRIGGER dawdle ON resource.providers")
    assert (await shard.load(sent)).stored == len(NODES)
    assert set(await named(shard)) == await stored(shard)
    watching.cancel()


async def test_a_load_that_was_called_off_is_settled_by_the_next_one(shard: Shard) -> None:
    sent = records(shard)
    async with beside(shard) as connection, connection.transaction():
        await connection.execute("LOCK TABLE resource.providers IN EXCLUSIVE MODE")
        loading = asyncio.create_task(shard.load(sent))
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'resource.providers'::regclass AND NOT granted"
        await eventually(lambda: connection.fetchval(waiting))
        loading.cancel()
        await asyncio.wait([loading])
        # What is still being stored keeps its names.
        again = asyncio.create_task(shard.load(sent))
    assert (await again).stored == len(NODES)
    assert len(await named(shard)) == len(NODES)
    assert set(await named(shard)) == await stored(shard)


async def test_who_lost_the_shard_frees_no_names(shard: Shard) -> None:
    later = await shard.restarted()
    assert (await refusal(shard.load(records(shard)))).reason == "FENCED"
    # The new owner may have stored them meanwhile: it alone knows.
    assert len(await named(shard)) == len(NODES)
    await later.service.housekeeper.clean()
    assert await named(later) == []
    await later.service.close()


async def test_housekeeping_frees_names_that_belong_to_nothing(shard: Shard) -> None:
    kept = await shard.provider(SHARED, NODES[0])
    orphan = NamedObject(PROVIDER, shard.region, NODES[1], new_id(), region=shard.region)
    assert await shard.service.core.names.register_many([orphan]) == [None]
    await shard.service.housekeeper.clean()
    assert await named(shard) == [kept]
