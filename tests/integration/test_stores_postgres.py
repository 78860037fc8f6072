"""Ownership and failures against a real PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from cluster.embedded.postgres import EmbeddedPostgres
from mulligan.config import Settings
from mulligan.errors import Aborted, Unavailable
from mulligan.stores.addresses import Addresses
from mulligan.stores.postgres import Ownership, connect_pool, sqlalchemy_engine, translate_errors
from tests.stores import running
from tests.waiting import eventually


async def test_embedded_server_is_durable_and_on_no_port(postgres_pool: asyncpg.Pool) -> None:
    for setting, wanted in (("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")):
        assert await postgres_pool.fetchval(f"SHOW {setting}") == wanted
    assert not await postgres_pool.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


async def test_password_is_required(addresses: Addresses) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(addresses.postgres, password="wrong")
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(addresses.postgres, user="postgres")


async def test_second_owner_fences_the_first(postgres_pool: asyncpg.Pool) -> None:
    first = await Ownership.take(postgres_pool, "resource", "default")
    async with postgres_pool.acquire() as connection, connection.transaction():
        await first.check(connection)
    second = await Ownership.take(postgres_pool, "resource", "default")
    assert second.epoch == first.epoch + 1
    async with postgres_pool.acquire() as connection:
        with pytest.raises(Aborted) as refused:
            async with connection.transaction():
                await first.check(connection)
        assert refused.value.reason == "FENCED"
        async with connection.transaction():
            await second.check(connection)


async def test_other_shards_are_not_touched(postgres_pool: asyncpg.Pool) -> None:
    first = await Ownership.take(postgres_pool, "resource", "a")
    await Ownership.take(postgres_pool, "resource", "b")
    await Ownership.take(postgres_pool, "control", "a")
    async with postgres_pool.acquire() as connection, connection.transaction():
        await first.check(connection)


async def test_take_over_waits_for_the_write_under_way(postgres_pool: asyncpg.Pool) -> None:
    first = await Ownership.take(postgres_pool, "resource", "default")
    await postgres_pool.execute("CREATE TABLE written (epoch bigint)")
    async with postgres_pool.acquire() as connection:
        async with connection.transaction():
            await first.check(connection)
            taking = asyncio.create_task(Ownership.take(postgres_pool, "resource", "default"))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ownership%'"
            )
            await eventually(lambda: postgres_pool.fetchval(waiting))
            await connection.execute("INSERT INTO written VALUES ($1)", first.epoch)
            assert not taking.done()
        second = await taking
    assert await postgres_pool.fetchval("SELECT epoch FROM written") == first.epoch == second.epoch - 1


async def test_many_first_owners_at_once(postgres_pool: asyncpg.Pool) -> None:
    taken = await asyncio.gather(*(Ownership.take(postgres_pool, "iam", "global") for _ in range(8)))
    assert sorted(ownership.epoch for ownership in taken) == list(range(1, 9))


async def test_engine_checks_ownership_too(fresh_addresses: Addresses, postgres_pool: asyncpg.Pool) -> None:
    engine = sqlalchemy_engine(fresh_addresses)
    first = await Ownership.take(postgres_pool, "control", "default")
    async with engine.begin() as connection:
        await first.check(connection)
    await Ownership.take(postgres_pool, "control", "default")
    with pytest.raises(Aborted):
        async with engine.begin() as connection:
            await first.check(connection)
    await engine.dispose()


async def test_other_errors_pass_untranslated(postgres_pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError), translate_errors():
        await postgres_pool.execute("SELECT * FROM nowhere")


async def test_kill_is_reported_as_unavailable_and_loses_nothing(state_dir: Path) -> None:
    async with running(EmbeddedPostgres, state_dir) as server:
        addresses = Addresses.load(Settings(state_dir=state_dir, etcd="unused:1", nats="unused:1"))
        pool = await connect_pool(addresses, maximum=2)
        engine = sqlalchemy_engine(addresses, pool_size=1)
        await pool.execute("CREATE TABLE kept AS SELECT 1 AS value")

        @translate_errors()
        async def sleep_in_engine() -> None:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("SELECT pg_sleep(30)")

        sleeping = asyncio.create_task(sleep_in_engine())
        active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        await eventually(lambda: pool.fetchval(active))
        await server.kill()
        with pytest.raises(Unavailable) as lost:
            await sleeping
        assert lost.value.reason == "STORE_UNAVAILABLE"
        with pytest.raises(Unavailable), translate_errors():
            await pool.fetchval("SELECT value FROM kept")
        with pytest.raises(Unavailable):
            await Ownership.take(pool, "resource", "default")
        await server.start()
        assert await pool.fetchval("SELECT value FROM kept") == 1
        await engine.dispose()
        pool.terminate()
        await server.stop()
        assert server.return_code == 0
