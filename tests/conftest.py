"""Fixtures: one etcd, NATS and Postgres for the whole run, started when the first test asks for them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from nats.aio.client import Client

from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores import nats as nats_store
from mulligan.stores import postgres as postgres_store
from mulligan.stores.addresses import Addresses
from tests.stores import running_stores
from tests.waiting import eventually


@pytest.fixture(scope="session")
def session_state_dir() -> Iterator[Path]:
    """A folder of its own: PostgreSQL run by root needs to pass through it."""
    with tempfile.TemporaryDirectory(prefix="mulligan-test-") as folder:
        yield Path(folder)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state folder for a test that runs its own servers."""
    with tempfile.TemporaryDirectory(prefix="mulligan-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
async def addresses(session_state_dir: Path) -> AsyncIterator[Addresses]:
    """The stores that all tests share. Use random ids in etcd keys, `fresh_addresses` for tables."""
    async with running_stores(session_state_dir) as running:
        yield running


@pytest.fixture
async def fresh_addresses(addresses: Addresses) -> AsyncIterator[Addresses]:
    """The shared stores with an empty database of the test's own."""
    name = f"test_{new_id().replace('-', '')}"
    connection = await asyncpg.connect(addresses.postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield addresses.with_database(name)
        await eventually(lambda: _dropped(connection, name))
    finally:
        await connection.close()


async def _dropped(connection: asyncpg.Connection, name: str) -> bool:
    """False while an autovacuum worker, which only a superuser may end, is in it."""
    try:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
        return False
    return True


@pytest.fixture
async def postgres_pool(fresh_addresses: Addresses) -> AsyncIterator[asyncpg.Pool]:
    """Connections to the test's own empty database."""
    pool = await postgres_store.connect_pool(fresh_addresses, maximum=8)
    yield pool
    pool.terminate()


@pytest.fixture(scope="session")
async def etcd(addresses: Addresses) -> AsyncIterator[etcd_store.EtcdClient]:
    """A client of the shared etcd."""
    client = await etcd_store.connect(addresses)
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def nats(addresses: Addresses) -> AsyncIterator[Client]:
    """A connection to the shared NATS, where the streams exist."""
    client = await nats_store.connect(addresses, "tests")
    await nats_store.ensure_streams(client.jetstream())
    yield client
    await client.close()
