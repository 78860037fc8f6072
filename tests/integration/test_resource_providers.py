"""Providers, groups and codes against the real stores: made, loaded, changed, deleted, named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mulligan.api.resource.v1 import provider_pb2, vocabulary_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.ids import new_id
from mulligan.meta.model import PROVIDER, NamedObject
from mulligan.resource.service import INTERNAL
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import DEDICATED, SHARED, Shard, put_region, refusal, running_shard, spec_of
from tests.waiting import eventually


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


def memory(total: int, **fields: Any) -> list[provider_pb2.Inventory]:
    return [provider_pb2.Inventory(resource_type="memory", total=total, **fields)]


def config(total: int = 100, **fields: Any) -> provider_pb2.ProviderConfig:
    return provider_pb2.ProviderConfig(provider_type="compute", inventories=memory(total), **fields)


async def get(shard: Shard, provider: str, **fields: Any) -> provider_pb2.Provider:
    response = await shard.call("GetProvider", pb.GetProviderRequest(id=provider), fields.get("caller"))
    return response.provider  # type: ignore[no-any-return]


async def resolve(shard: Shard, name: str) -> str | None:
    return await shard.service.core.names.resolve(PROVIDER, shard.region, name)


async def test_a_provider_is_as_it_was_made(shard: Shard) -> None:
    await shard.group("rack", "rack")
    provider = await shard.provider(SHARED, "node1", groups=["rack"])
    found = await get(shard, provider)
    assert (found.region, found.state, found.etag) == (shard.region, provider_pb2.PROVIDER_STATE_ACTIVE, "1")
    assert found.config.provider_type == "compute"
    assert list(found.config.capabilities) == sorted(SHARED.capabilities)
    assert list(found.config.groups) == [shard.groups["rack"]]
    by_type = {each.resource_type: each for each in found.config.inventories}
    assert (by_type["cpu.shared"].max_unit, by_type["cpu.shared"].step_size) == (24, 1)
    assert by_type["memory"].reserved == 2**28
    assert dict(found.used) == {"cpu.shared": 0, "memory": 0, "storage.block": 0}
    assert await resolve(shard, "node1") == provider
    again = await shard.restarted()
    assert await get(again, provider) == found
    await again.service.close()


async def test_a_repeated_request_makes_one_provider_and_a_name_is_had_once(shard: Shard) -> None:
    request = pb.CreateProviderRequest(request_id=new_id(), region=shard.region, name="node1", config=config())
    first = await shard.call("CreateProvider", request)
    shard.service.core._answers.clear()
    assert await shard.call("CreateProvider", request) == first
    request.name = "node2"
    assert (await refusal(shard.call("CreateProvider", request))).reason == "REQUEST_ID_REUSED"
    request.request_id, request.name = new_id(), "node1"
    assert (await refusal(shard.call("CreateProvider", request))).reason == "NAME_TAKEN"
    assert len((await shard.call("ListProviders", pb.ListProvidersRequest())).providers) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"provider_type": "moon"}, "UNKNOWN_TYPE"),
        ({"capabilities": ["moon"]}, "UNKNOWN_TYPE"),
        ({"groups": ["moon"]}, "INVALID_UUID"),
        ({"groups": ["0190b5a4-7c1e-7000-8000-000000000001"]}, "NOT_FOUND"),
        ({"inventories": [{"resource_type": "moon", "total": 1}]}, "UNKNOWN_TYPE"),
        ({"inventories": [{"resource_type": "memory", "total": 1, "reserved": 2}]}, "INVALID_INVENTORY"),
    ],
)
async def test_what_cannot_be_is_refused_and_takes_no_name(shard: Shard, bad: dict[str, Any], reason: str) -> None:
    wrong = provider_pb2.ProviderConfig(**{"provider_type": "compute", "inventories": memory(1), **bad})
    assert (await refusal(shard.provider(wrong, "node1"))).reason == reason
    assert await resolve(shard, "node1") is None


async def test_an_inventory_shrinks_to_what_is_used_and_no_further(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    claim = await shard.claim(spec_of([("memory", 60)]))

    async def change(inventories: list[provider_pb2.Inventory], etag: str = "") -> provider_pb2.Provider:
        request = pb.SetInventoryRequest(request_id=new_id(), id=provider, inventories=inventories, etag=etag)
        return (await shard.call("SetInventory", request)).provider  # type: ignore[no-any-return]

    refused = await refusal(change(memory(59)))
    assert (refused.reason, refused.metadata["used"]) == ("CAPACITY_IN_USE", "60")
    assert (await refusal(change([provider_pb2.Inventory(resource_type="cpu.shared", total=1)]))).reason == (
        "CAPACITY_IN_USE"
    )
    shrunk = await change(memory(60))
    assert (shrunk.etag, shrunk.config.inventories[0].total, shrunk.used["memory"]) == ("2", 60, 60)
    assert (await refusal(shard.claim(spec_of([("memory", 1)])))).reason == "NO_CAPACITY"
    assert (await refusal(change(memory(200), etag="1"))).reason == "GENERATION_CONFLICT"
    grown = await change([*memory(80), provider_pb2.Inventory(resource_type="cpu.shared", total=4)], etag="2")
    assert grown == await get(shard, provider)
    await shard.claim(spec_of([("memory", 20), ("cpu.shared", 4)]))
    again = await shard.restarted()
    assert (await get(again, provider)).used == {"memory": 80, "cpu.shared": 4}
    await again.release(claim.id)
    assert (await get(again, provider)).used == {"memory": 20, "cpu.shared": 4}
    await again.service.close()


async def test_an_over_commitment_that_is_there_may_get_better_but_not_worse(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    claims = [await shard.claim(spec_of([("memory", 40)])) for _ in range(2)]
    # Nothing in the API leads here; a hand in the database might.
    async with shard.pool.acquire() as connection:
        await connection.execute(
            "UPDATE resource.inventories SET total = 50, max_unit = 50 WHERE provider = $1", provider
        )
        await connection.execute("UPDATE resource.ledger SET nominal = 50, capacity = greatest(used, 50)")
    shard = await shard.restarted()

    async def change(total: int) -> None:
        request = pb.SetInventoryRequest(request_id=new_id(), id=provider, inventories=memory(total))
        await shard.call("SetInventory", request)

    assert (await refusal(change(49))).reason == "CAPACITY_IN_USE"
    await change(60)
    assert (await refusal(shard.claim(spec_of([("memory", 1)])))).reason == "NO_CAPACITY"
    await shard.release(claims[0].id)
    await shard.claim(spec_of([("memory", 20)]))
    assert (await refusal(shard.claim(spec_of([("memory", 1)])))).reason == "NO_CAPACITY"
    await shard.service.close()


async def test_states_keep_claims_away_and_leave_those_that_are_there(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    claim = await shard.claim(spec_of([("memory", 1)]))

    async def state(value: provider_pb2.ProviderState, **fields: Any) -> provider_pb2.Provider:
        request = pb.SetProviderStateRequest(request_id=new_id(), id=provider, state=value, **fields)
        return (await shard.call("SetProviderState", request)).provider  # type: ignore[no-any-return]

    found = await state(provider_pb2.PROVIDER_STATE_QUARANTINED, reason="disk 3\nis dying", etag="1")
    assert (found.state_reason, found.etag, found.used["memory"]) == ("disk 3 is dying", "2", 1)
    refused = await refusal(shard.claim(spec_of([("memory", 1)])))
    assert (refused.reason, "in service" in refused.message) == ("NO_CAPACITY", True)
    shard = await shard.restarted()
    assert await get(shard, provider) == found
    assert (await refusal(shard.claim(spec_of([("memory", 1)])))).reason == "NO_CAPACITY"
    assert (await refusal(state(provider_pb2.PROVIDER_STATE_UNSPECIFIED))).field == "state"
    assert (await refusal(state(provider_pb2.PROVIDER_STATE_ACTIVE, etag="1"))).reason == "GENERATION_CONFLICT"
    await shard.release(claim.id)
    await state(provider_pb2.PROVIDER_STATE_ACTIVE)
    assert (await shard.claim(spec_of([("memory", 100)]))).id
    await shard.service.close()


async def test_a_provider_is_deleted_when_no_claim_holds_it_now_or_later(shard: Shard) -> None:
    provider = await shard.provider(config(100), "node1")
    claim = await shard.claim(spec_of([("memory", 1)], begin=shard.clock() + 10**9))
    request = pb.DeleteProviderRequest(request_id=new_id(), id=provider)
    assert (await refusal(shard.call("DeleteProvider", request))).reason == "IN_USE"
    await shard.release(claim.id)
    request.request_id = new_id()
    await shard.call("DeleteProvider", request)
    await shard.call("DeleteProvider", request)
    assert (await refusal(get(shard, provider))).reason == "NOT_FOUND"
    assert await resolve(shard, "node1") is None
    assert (await refusal(shard.claim(spec_of([("memory", 1)])))).reason == "NO_CAPACITY"
    shard = await shard.restarted()
    assert not shard.service.core.world.providers
    await shard.provider(config(100), "node1")
    await shard.service.close()


@asynccontextmanager
async def busy_writer(shard: Shard) -> AsyncIterator[None]:
    """The writer is held up; what is asked meanwhile waits behind each other."""
    done = asyncio.Event()
    holding = asyncio.ensure_future(shard.service.core.memory.writer.exclusive(lambda connection: done.wait()))
    await asyncio.sleep(0)
    yield
    done.set()
    await holding


async def test_a_change_of_a_provider_waits_for_the_claims_that_came_before(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    change = pb.SetInventoryRequest(request_id=new_id(), id=provider, inventories=memory(45))
    async with busy_writer(shard):
        before = [asyncio.ensure_future(shard.claim(spec_of([("memory", 10)]))) for _ in range(4)]
        await eventually(lambda: shard.service.core.world.usage())
        changing = asyncio.ensure_future(shard.call("SetInventory", change))
        await eventually(lambda: shard.service.core.world.frozen)
        after = [asyncio.ensure_future(refusal(shard.claim(spec_of([("memory", 10)])))) for _ in range(4)]
        delete = pb.DeleteProviderRequest(request_id=new_id(), id=provider)
        deleting = asyncio.ensure_future(refusal(shard.call("DeleteProvider", delete)))
        await eventually(lambda: shard.service.core.world.frozen == 2)
    assert len({claim.id for claim in await asyncio.gather(*before)}) == 4
    assert (await changing).provider.config.inventories[0].total == 45
    assert {refused.reason for refused in await asyncio.gather(*after)} == {"NO_CAPACITY"}
    assert (await deleting).reason == "IN_USE"
    assert (await get(shard, provider)).used["memory"] == 40


async def test_a_claim_does_not_miss_a_provider_that_is_being_changed(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    change = pb.SetInventoryRequest(request_id=new_id(), id=provider, inventories=memory(200))
    async with busy_writer(shard):
        changing = asyncio.ensure_future(shard.call("SetInventory", change))
        await eventually(lambda: shard.service.core.world.frozen)
        claiming = asyncio.ensure_future(shard.claim(spec_of([("memory", 150)])))
    await changing
    assert (await claiming).allocations[0].amount == 150


async def test_what_others_use_of_a_provider_is_not_told(shard: Shard) -> None:
    provider = await shard.provider(config(100))
    await shard.claim(spec_of([("memory", 10)]))
    stranger = replace(shard.tenant, account=new_id(), project=new_id())
    await shard.claim(spec_of([("memory", 20)]), caller=stranger)
    assert dict((await get(shard, provider, caller=shard.tenant)).used) == {"memory": 10}
    assert dict((await get(shard, provider)).used) == {"memory": 30}
    listed = await shard.call("ListProviders", pb.ListProvidersRequest(), stranger)
    assert dict(listed.providers[0].used) == {"memory": 20}


async def test_providers_are_listed_by_region_and_group_in_pages(shard: Shard, etcd: EtcdClient) -> None:
    await shard.group("rack", "rack")
    inside = sorted([await shard.provider(config(), groups=["rack"]) for _ in range(3)])
    everything = sorted([*inside, *[await shard.provider(config()) for _ in range(2)]])

    async def listed(**fields: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            request = pb.ListProvidersRequest(page_size=2, page_token=token, **fields)
            response = await shard.call("ListProviders", request)
            found += [each.id for each in response.providers]
            token = response.next_page_token
            if not token:
                return found

    assert await listed(region=shard.region) == everything
    assert await listed(group=shard.groups["rack"]) == inside
    hidden = new_id()
    await put_region(etcd, hidden, shard.service.core.store.shard, visibility="internal")
    regions = shard.service.core.regions
    while hidden not in regions.tree:
        await regions._prefix.wait_changed(regions._prefix.revision, 5)
    secret = await shard.provider(config(), region=hidden)
    assert (await refusal(get(shard, secret, caller=shard.tenant))).reason == "NOT_FOUND"
    assert secret not in [
        each.id for each in (await shard.call("ListProviders", pb.ListProvidersRequest(), shard.tenant)).providers
    ]
    assert await listed() == sorted([*everything, secret])


async def test_groups_are_deleted_when_they_are_empty(shard: Shard) -> None:
    group = await shard.group("rack", "rack")
    provider = await shard.provider(config(), groups=["rack"])
    [listed] = (await shard.call("ListProviderGroups", pb.ListProviderGroupsRequest(region=shard.region))).groups
    assert (listed.id, listed.provider_count, len(listed.spans)) == (group, 1, 2)
    request = pb.DeleteProviderGroupRequest(request_id=new_id(), id=group)
    assert (await refusal(shard.call("DeleteProviderGroup", request))).reason == "IN_USE"
    await shard.call("DeleteProvider", pb.DeleteProviderRequest(request_id=new_id(), id=provider))
    request.request_id = new_id()
    await shard.call("DeleteProviderGroup", request)
    assert (await refusal(shard.provider(config(), groups=["rack"]))).reason == "NOT_FOUND"
    del shard.groups["rack"]
    assert await shard.group("rack", "rack") != group


async def test_codes_are_added_left_as_they_are_and_removed_when_unused(shard: Shard) -> None:
    more = vocabulary_pb2.Vocabulary(
        capabilities=["gpu.cuda"],
        resource_types=[vocabulary_pb2.ResourceType(code="memory", unit="pages")],
        distance_types=[vocabulary_pb2.DistanceType(code="power", positions=["same", "other"])],
    )
    request = pb.DefineVocabularyRequest(request_id=new_id(), region=shard.region, vocabulary=more)
    vocabulary = (await shard.call("DefineVocabulary", request)).vocabulary
    assert {each.code: each.unit for each in vocabulary.resource_types}["memory"] == "bytes"
    assert "gpu.cuda" in vocabulary.capabilities
    more.capabilities.append("Not A Code")
    request = pb.DefineVocabularyRequest(request_id=new_id(), region=shard.region, vocabulary=more)
    assert (await refusal(shard.call("DefineVocabulary", request))).reason == "INVALID_FIELD"
    provider = await shard.provider(DEDICATED)
    for used in (
        {"capabilities": ["storage.disk.ssd"]},
        {"resource_types": ["memory"]},
        {"provider_types": ["compute"]},
    ):
        removal = pb.DeleteVocabularyRequest(request_id=new_id(), region=shard.region, **used)
        assert (await refusal(shard.call("DeleteVocabulary", removal))).reason == "IN_USE"
    await shard.call("DeleteProvider", pb.DeleteProviderRequest(request_id=new_id(), id=provider))
    removal = pb.DeleteVocabularyRequest(
        request_id=new_id(), region=shard.region, capabilities=["storage.disk.ssd"], distance_types=["power"]
    )
    await shard.call("DeleteVocabulary", removal)
    assert (await refusal(shard.provider(DEDICATED))).reason == "UNKNOWN_TYPE"
    shard = await shard.restarted()
    left = (await shard.call("GetVocabulary", pb.GetVocabularyRequest(region=shard.region))).vocabulary
    assert "storage.disk.ssd" not in left.capabilities
    assert [each.code for each in left.distance_types] == ["failure", "network"]
    await shard.service.close()


def record(shard: Shard, name: str, **fields: Any) -> pb.LoadProvidersRequest:
    given = {"request_id": new_id(), "region": shard.region, "name": name, "config": config(), **fields}
    return pb.LoadProvidersRequest(**given)


async def test_a_load_refuses_what_is_wrong_and_stores_the_rest_once(shard: Shard) -> None:
    await shard.provider(config(), "taken")
    good = [record(shard, f"node{number}") for number in range(5)]
    wrong = [
        record(shard, "taken"),
        record(shard, "bad", config=provider_pb2.ProviderConfig(provider_type="moon")),
        record(shard, "lost", region=new_id()),
        record(shard, "anonymous", request_id="x"),
        record(shard, "node0"),
    ]
    reused = record(shard, "other", request_id=good[1].request_id)
    stream = [*good[:3], *wrong, reused, good[0], *good[3:]]
    first = await shard.load([each.SerializeToString() for each in stream], chunk=6)
    assert (first.received, first.stored) == (12, 6)
    reasons = {each.index: each.reason for each in first.errors}
    assert reasons == {
        3: "NAME_TAKEN",
        4: "UNKNOWN_TYPE",
        5: "NOT_FOUND",
        6: "INVALID_UUID",
        7: "NAME_TAKEN",
        8: "REQUEST_ID_REUSED",
    }
    again = await shard.load([each.SerializeToString() for each in stream], chunk=4)
    assert (again.stored, {each.index: each.reason for each in again.errors}) == (6, reasons)
    shard = await shard.restarted()
    resumed = await shard.load([each.SerializeToString() for each in good])
    assert (resumed.stored, len(resumed.errors)) == (5, 0)
    assert len(shard.service.core.world.providers) == 6
    for number in range(5):
        assert await resolve(shard, f"node{number}") is not None
    await shard.service.close()


async def test_names_that_a_crash_left_are_settled(shard: Shard) -> None:
    names = shard.service.core.names
    kept = await shard.provider(config(), "kept")
    orphans = [NamedObject(PROVIDER, shard.region, f"lost{n}", new_id(), region=shard.region) for n in range(3)]
    assert await names.register_many(orphans) == [None] * 3
    machine = NamedObject("machine", new_id(), "web", new_id(), region=shard.region)
    assert await names.register_many([machine]) == [None]
    assert await shard.service.housekeeper.free_names() == 3
    assert await resolve(shard, "kept") == kept
    assert await resolve(shard, "lost0") is None
    assert await names.resolve("machine", machine.scope, "web") == machine.id


async def test_other_services_may_change_a_state_without_being_anybody(shard: Shard) -> None:
    provider = await shard.provider(config())
    request = pb.SetProviderStateRequest(
        request_id=new_id(), id=provider, state=provider_pb2.PROVIDER_STATE_QUARANTINED, reason="failed to boot"
    )
    await shard.service.set_provider_state(request, INTERNAL)
    assert (await get(shard, provider)).state == provider_pb2.PROVIDER_STATE_QUARANTINED
    claimed = await shard.provider(config())
    claim = await shard.claim(spec_of([("memory", 1)]))
    assert claim.allocations[0].provider == claimed
    await shard.service.release_claim(pb.ReleaseClaimRequest(request_id=new_id(), id=claim.id), INTERNAL)
    found = await shard.service.get_claim(pb.GetClaimRequest(id=claim.id), INTERNAL)
    assert found.claim.HasField("release")


async def test_settings_are_told_and_checked(shard: Shard) -> None:
    told = await shard.call("ResourceConfigure", pb.ResourceConfigureRequest(request_id=new_id()))
    assert told.settings.max_in_flight > 0
    request = pb.ResourceConfigureRequest(request_id=new_id(), validate_only=True)
    request.settings.max_in_flight = 0
    request.update_mask.paths.append("max_in_flight")
    assert (await refusal(shard.call("ResourceConfigure", request))).field == "settings.max_in_flight"
    request.settings.max_in_flight = 7
    assert (await shard.call("ResourceConfigure", request)).settings.max_in_flight == 7
    assert (await shard.call("ResourceConfigure", pb.ResourceConfigureRequest())).settings == told.settings
