"""A memory that can no longer be relied on writes nothing more and is read anew; nothing else costs that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.resource.batch import write_batch
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import audited, forged, same_after_restart
from tests.resource_parts import DEDICATED, Shard, refusal, running_shard, spec_of
from tests.waiting import eventually


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


async def test_a_memory_that_the_database_contradicts_is_read_anew(shard: Shard) -> None:
    provider = await shard.provider()
    watching = asyncio.create_task(shard.service.core.watch())
    async with shard.pool.acquire() as connection, connection.transaction():
        await write_batch(
            connection, shard.service.core.store.shard, [forged(shard, provider, 380)], lambda claim: [], shard.clock()
        )
    spec = spec_of([("cpu.shared", 24)])
    assert (await refusal(shard.claim(spec))).reason == "SHARD_UNAVAILABLE"
    await eventually(lambda: shard.service.core._memory)
    assert (await refusal(shard.claim(spec))).reason == "NO_CAPACITY"
    assert (await shard.claim(spec_of([("cpu.shared", 4)]))).id
    assert await audited(shard) == 0
    watching.cancel()


async def test_nothing_is_written_once_the_memory_is_in_doubt(shard: Shard) -> None:
    contradicted, _ = await shard.provider(), await shard.provider(DEDICATED)
    writer, held = shard.service.core.memory.writer, asyncio.Event()
    holding = asyncio.create_task(writer.exclusive(lambda connection: held.wait()))
    bad = spec_of([("cpu.shared", 24)], capabilities=[claim_pb2.CapabilityConstraint(require=["storage.disk.hdd"])])
    good = spec_of([("cpu.shared", 1)], capabilities=[claim_pb2.CapabilityConstraint(require=["storage.disk.ssd"])])
    claims = [asyncio.create_task(shard.claim(each)) for each in (bad, good, good)]
    await eventually(lambda: len(writer._queue) == 3)
    async with shard.pool.acquire() as connection, connection.transaction():
        await write_batch(
            connection,
            shard.service.core.store.shard,
            [forged(shard, contradicted, 380)],
            lambda claim: [],
            shard.clock(),
        )
    held.set()
    await holding
    # All three go in one transaction, then one by one: the first one tells that the memory is wrong.
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert [getattr(each, "reason", "stored") for each in outcomes] == ["SHARD_UNAVAILABLE"] * 3
    watching = asyncio.create_task(shard.service.core.watch())
    await eventually(lambda: shard.service.core._memory)
    stored = await shard.call("ListClaims", pb.ListClaimsRequest())
    assert [each.allocations[0].provider for each in stored.claims] == [contradicted]
    watching.cancel()
    await same_after_restart(shard)
