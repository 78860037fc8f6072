"""A memory that can no longer be relied on writes nothing more and is read anew; nothing else costs that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid5

import asyncpg
import pytest

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.ids import new_id
from mulligan.meta.model import PROVIDER
from mulligan.resource.batch import write_batch
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import audited, forged, same_after_restart
from tests.resource_parts import DEDICATED, HOUR, SHARED, Shard, refusal, running_shard, spec_of
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


async def forget_requests(shard: Shard) -> None:
    """Two days pass: what was asked before is answered from memory no more."""
    shard.clock.ahead_us += 48 * HOUR
    await shard.service.housekeeper.clean()
    shard.service.core._answers.clear()


async def rename(shard: Shard, identifier: str, name: str) -> None:
    names = shard.service.core.names
    found = await names.find(identifier)
    assert found is not None
    await names.rename(found, name)


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_group_whose_request_was_forgotten_is_there_already(shard: Shard, renamed: bool) -> None:
    request = pb.CreateProviderGroupRequest(request_id=new_id(), region=shard.region, name="rack")
    group = (await shard.call("CreateProviderGroup", request)).group.id
    await forget_requests(shard)
    if renamed:
        await rename(shard, group, "shelf")
    refused = await refusal(shard.call("CreateProviderGroup", request))
    assert (refused.reason, refused.metadata["provider_group"]) == ("ALREADY_EXISTS", group)
    await same_memory_as_before(shard)
    assert (
        await shard.service.core.names.resolve("provider_group", shard.region, "shelf" if renamed else "rack") == group
    )


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_provider_whose_request_was_forgotten_is_there_already(shard: Shard, renamed: bool) -> None:
    request = pb.CreateProviderRequest(request_id=new_id(), region=shard.region, name="node", config=SHARED)
    provider = (await shard.call("CreateProvider", request)).provider.id
    await forget_requests(shard)
    if renamed:
        await rename(shard, provider, "machine")
    refused = await refusal(shard.call("CreateProvider", request))
    assert (refused.reason, refused.metadata["provider"]) == ("ALREADY_EXISTS", provider)
    await same_memory_as_before(shard)
    assert await shard.service.core.names.resolve(PROVIDER, shard.region, "machine" if renamed else "node") == provider


async def test_a_load_that_was_forgotten_hurts_none_of_the_new_records(shard: Shard) -> None:
    def record(name: str) -> bytes:
        identifier = str(uuid5(UUID(int=0), name))
        request = pb.LoadProvidersRequest(request_id=identifier, region=shard.region, name=name, config=SHARED)
        return request.SerializeToString()

    assert (await shard.load([record("a"), record("b")])).stored == 2
    await forget_requests(shard)
    a = await shard.service.core.names.resolve(PROVIDER, shard.region, "a")
    assert a is not None
    await rename(shard, a, "z")
    loaded = await shard.load([record("a"), record("b"), record("c")])
    assert [(each.name, each.reason) for each in loaded.errors] == [("a", "ALREADY_EXISTS"), ("b", "ALREADY_EXISTS")]
    assert (loaded.received, loaded.stored) == (3, 1)
    await same_memory_as_before(shard)
    assert len((await shard.call("ListProviders", pb.ListProvidersRequest())).providers) == 3


@pytest.mark.parametrize("kind", ["provider_types", "resource_types", "capabilities", "distance_types"])
async def test_what_cannot_be_a_code_is_refused_also_when_it_is_to_be_deleted(shard: Shard, kind: str) -> None:
    for code in ("mem\0ory", "", "x" * 65):
        request = pb.DeleteVocabularyRequest(request_id=new_id(), region=shard.region, **{kind: [code]})
        refused = await refusal(shard.call("DeleteVocabulary", request))
        assert (refused.reason, refused.field) == ("INVALID_FIELD", kind)


async def test_work_that_fails_is_rolled_back_and_costs_nothing_else(shard: Shard) -> None:
    writer = shard.service.core.memory.writer

    async def stumble(connection: asyncpg.Connection) -> None:
        await connection.execute("DELETE FROM resource.codes WHERE code = 'memory'")
        await connection.execute("INSERT INTO resource.codes SELECT * FROM resource.codes")

    refused = await refusal(writer.exclusive(stumble))
    assert (refused.reason, "log" in refused.message) == ("INTERNAL", True)
    await same_memory_as_before(shard)


async def test_work_that_is_stored_and_does_not_reach_the_memory_has_it_read_anew(shard: Shard) -> None:
    writer = shard.service.core.memory.writer

    async def nothing(connection: asyncpg.Connection) -> str:
        return "stored"

    def stumble(result: str) -> None:
        raise ValueError(result)

    assert (await refusal(writer.exclusive(nothing, stumble))).reason == "SHARD_UNAVAILABLE"
    assert shard.service.core._memory is None


async def same_memory_as_before(shard: Shard) -> None:
    """It is in service, was not read anew, and is what the database has."""
    memory = shard.service.core._memory
    assert memory is not None
    assert memory.writer._in_doubt is None
    await same_after_restart(shard)
