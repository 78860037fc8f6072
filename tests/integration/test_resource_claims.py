"""Claims against the real stores: what they get, when, and who may know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mulligan.api.common.v1.common_pb2 import Window
from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import SECOND, from_timestamp
from mulligan.ids import new_id
from mulligan.inventory import packaged_claim
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import DEDICATED, HOUR, SHARED, SMALL, Shard, put_region, refusal, running_shard, spec_of


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


def stranger() -> Caller:
    return Caller(account=new_id(), project=new_id(), grants=())


def amounts(claim: claim_pb2.Claim) -> dict[str, int]:
    return {each.resource_type: each.amount for each in claim.allocations}


async def two_racks(shard: Shard, nodes: int = 2) -> None:
    """A site of two racks."""
    for name, kind in (("east", "site"), ("east-rack1", "rack"), ("east-rack2", "rack")):
        await shard.group(name, kind)
    for rack in ("east-rack1", "east-rack2"):
        for _ in range(nodes):
            await shard.provider(groups=["east", rack])


@pytest.mark.parametrize(
    ("name", "allocations"),
    [
        ("1cpu-64m-10g", 3),
        ("1cpu-64m-10g-resource-capability", 3),
        ("two-groups-apart", 6),
        ("reservation-next-week", 3),
    ],
)
async def test_the_claims_that_come_along(shard: Shard, name: str, allocations: int) -> None:
    await two_racks(shard)
    await shard.provider(DEDICATED, groups=["east", "east-rack1"])
    spec = packaged_claim(name).spec(shard.clock(), {})
    claim = await shard.claim(spec)
    assert len(claim.allocations) == allocations
    stored = (await shard.call("GetClaim", pb.GetClaimRequest(id=claim.id), shard.tenant)).claim
    assert stored == claim
    if name == "two-groups-apart":
        racks = {each.group: shard.service.core.world.providers[each.provider].groups for each in claim.allocations}
        assert racks["a"] & racks["b"] == {shard.groups["east"]}
    if name == "reservation-next-week":
        assert claim.state == claim_pb2.CLAIM_STATE_RESERVED
        assert (
            await refusal(
                shard.claim(spec_of(begin=spec.acquire.ToMicroseconds(), provider_groups={"require": [new_id()]}))
            )
        ).reason == "NOT_FOUND"


async def test_a_claim_says_all_that_is_known_of_it(shard: Shard) -> None:
    provider = await shard.provider()
    consumer, now = new_id(), shard.clock()
    spec = spec_of(end=now + HOUR)
    spec.consumer = consumer
    claim = await shard.claim(spec)
    assert (claim.consumer, claim.project, claim.region) == (consumer, shard.tenant.project, shard.region)
    assert claim.state == claim_pb2.CLAIM_STATE_ACTIVE
    assert 0 <= from_timestamp(claim.acquire, "") - now < 5 * SECOND
    assert claim.release.ToMicroseconds() == now + HOUR
    assert amounts(claim) == dict(SMALL)
    assert {(each.group, each.provider) for each in claim.allocations} == {("0", provider)}


async def test_repeating_a_request_makes_one_claim_also_after_a_restart(shard: Shard) -> None:
    await shard.provider()
    spec, request_id = spec_of(), new_id()
    first = await shard.claim(spec, request_id=request_id)
    assert await shard.claim(spec, request_id=request_id) == first
    again = await shard.restarted()
    assert await again.claim(spec, request_id=request_id) == first
    other = await refusal(again.claim(spec_of([("cpu.shared", 2)]), request_id=request_id))
    assert other.reason == "REQUEST_ID_REUSED"
    # The same id from another account, or for another project, is another request.
    for caller in (stranger(), replace(shard.tenant, project=new_id())):
        assert (await again.claim(spec, request_id=request_id, caller=caller)).id != first.id
    await again.service.close()


async def test_a_retry_gets_its_claim_even_when_nothing_is_left(shard: Shard) -> None:
    await shard.provider()
    spec, request_id = spec_of([("cpu.shared", 16)]), new_id()
    first = await shard.claim(spec, request_id=request_id)
    while True:
        error_or_claim = await shard.table.call(
            "CreateClaim",
            shard.tenant,
            pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=spec).SerializeToString(),
        )
        if error_or_claim[0]:
            break
    shard.service.core._answers.clear()
    assert await shard.claim(spec, request_id=request_id) == first


async def test_a_request_id_is_required(shard: Shard) -> None:
    await shard.provider()
    assert (await refusal(shard.claim(spec_of(), request_id=""))).field == "request_id"
    assert (await refusal(shard.claim(spec_of(), request_id="one"))).reason == "INVALID_UUID"


async def test_windows_stand_back_to_back_and_are_judged_by_their_peak(shard: Shard) -> None:
    await shard.provider()
    now, whole = shard.clock(), [("storage.block", 10**12)]
    for begin in (2, 1, 3):
        claim = await shard.claim(spec_of(whole, now + begin * HOUR, now + (begin + 1) * HOUR))
        assert claim.state == claim_pb2.CLAIM_STATE_RESERVED
    least = [("storage.block", 10**9)]
    overlapping = spec_of(least, now + HOUR + HOUR // 2, now + 5 * HOUR)
    assert (await refusal(shard.claim(overlapping))).reason == "NO_CAPACITY"
    # Three hours are full one after the other; their sum would be three times what there is.
    half = [("storage.block", 5 * 10**11)]
    await shard.claim(spec_of(half, now + 4 * HOUR, now + 6 * HOUR))
    await shard.claim(spec_of(half, now + 5 * HOUR, now + 7 * HOUR))
    assert (await refusal(shard.claim(spec_of(least, now + 5 * HOUR, now + 6 * HOUR)))).reason == "NO_CAPACITY"
    await shard.claim(spec_of(half, now + 6 * HOUR, now + 7 * HOUR))
    await shard.claim(spec_of(whole, end=now + HOUR))


async def test_what_ended_is_free_and_the_state_follows_the_clock(shard: Shard) -> None:
    await shard.provider()
    now, whole = shard.clock(), [("storage.block", 10**12)]
    claim = await shard.claim(spec_of(whole, now + HOUR, now + 2 * HOUR))
    states = []
    for ahead in (0, HOUR, 2 * HOUR):
        shard.clock.ahead_us = ahead + SECOND
        found = (await shard.call("GetClaim", pb.GetClaimRequest(id=claim.id), shard.tenant)).claim
        states.append(claim_pb2.ClaimState.Name(found.state).removeprefix("CLAIM_STATE_"))
    assert states == ["RESERVED", "ACTIVE", "ENDED"]
    assert (await shard.claim(spec_of(whole))).state == claim_pb2.CLAIM_STATE_ACTIVE
    ended = await shard.release(claim.id)
    assert ended.state == claim_pb2.CLAIM_STATE_ENDED


async def test_an_exclusive_group_takes_the_whole_provider_and_shares_it_with_nobody(shard: Shard) -> None:
    provider = await shard.provider(DEDICATED)
    now = shard.clock()
    exclusive = spec_of([("memory", 2**30)], now + HOUR, now + 2 * HOUR, exclusive=True)
    claim = await shard.claim(exclusive)
    capacities = {"memory": 64 * 2**30 - 2**28, "cpu.shared": 12, "storage.block": 4 * 10**12}
    assert amounts(claim) == capacities
    assert claim.allocations[0].resource_type == "memory"
    assert {each.provider for each in claim.allocations} == {provider}
    one = [("cpu.shared", 1)]
    assert (await refusal(shard.claim(spec_of(one)))).reason == "NO_CAPACITY"
    await shard.claim(spec_of(one, end=now + HOUR))
    refused = await refusal(shard.claim(spec_of(one, now, now + HOUR, exclusive=True)))
    assert refused.reason == "NO_CAPACITY"
    assert "nothing else in use" in refused.message
    grown = [provider_pb2.Inventory(resource_type=kind, total=total * 2) for kind, total in capacities.items()]
    request = pb.SetInventoryRequest(request_id=new_id(), id=provider, inventories=grown)
    assert (await refusal(shard.call("SetInventory", request))).reason == "CAPACITY_IN_USE"


async def test_an_exclusive_group_minds_the_most_that_it_may_get(shard: Shard) -> None:
    await shard.provider(DEDICATED)
    wanted = spec_of([("cpu.shared", 4)], exclusive=True)
    wanted.groups[0].resources[0].max = 8
    assert (await refusal(shard.claim(wanted))).reason == "NO_CAPACITY"
    wanted.groups[0].resources[0].max = 12
    assert amounts(await shard.claim(wanted))["cpu.shared"] == 12


@pytest.mark.parametrize("amount", [2**25, 2**26 + 1, 103079215104 + 2**26])
async def test_units_are_respected(shard: Shard, amount: int) -> None:
    await shard.provider()
    refused = await refusal(shard.claim(spec_of([("memory", amount)])))
    assert refused.reason == "NO_CAPACITY"
    assert f"memory >= {amount}" in refused.message


async def test_all_groups_or_none(shard: Shard) -> None:
    await shard.provider()
    before = shard.service.core.world.usage()
    two = spec_of([("storage.block", 6 * 10**11)])
    two.groups.append(two.groups[0])
    two.groups[0].name, two.groups[1].name = "a", "b"
    refused = await refusal(shard.claim(two))
    assert refused.reason == "NO_CAPACITY"
    assert "together" in refused.message
    assert shard.service.core.world.usage() == before
    await shard.provider()
    assert len({each.provider for each in (await shard.claim(two)).allocations}) == 2


async def test_released_is_free_at_once_and_stays_released(shard: Shard) -> None:
    await shard.provider()
    whole = spec_of([("storage.block", 10**12)])
    claim = await shard.claim(whole)
    assert (await refusal(shard.claim(whole))).reason == "NO_CAPACITY"
    request_id = new_id()
    released = await shard.release(claim.id, request_id=request_id)
    assert released.state == claim_pb2.CLAIM_STATE_RELEASED
    assert released.HasField("release")
    assert await shard.release(claim.id, request_id=request_id) == released
    assert await shard.release(claim.id) == released
    assert (await shard.claim(whole)).id != claim.id


async def test_a_reservation_that_is_given_back_never_began(shard: Shard) -> None:
    await shard.provider()
    begin = shard.clock() + HOUR
    claim = await shard.claim(spec_of([("storage.block", 10**12)], begin))
    released = await shard.release(claim.id)
    assert (released.state, released.release) == (claim_pb2.CLAIM_STATE_RELEASED, claim.acquire)
    assert not shard.service.core.world.usage()


async def test_claims_are_their_projects_alone(shard: Shard) -> None:
    await shard.provider()
    claim = await shard.claim(spec_of())
    other = stranger()
    nobodys = new_id()
    for asked in (claim.id, nobodys):
        release = pb.ReleaseClaimRequest(request_id=new_id(), id=asked)
        for method, request in (("GetClaim", pb.GetClaimRequest(id=asked)), ("ReleaseClaim", release)):
            refused = await refusal(shard.call(method, request, other))
            assert (refused.reason, refused.message[:17]) == ("NOT_FOUND", "there is no claim")
    assert not (await shard.call("ListClaims", pb.ListClaimsRequest(), other)).claims
    assert (await shard.call("GetClaim", pb.GetClaimRequest(id=claim.id))).claim == claim
    assert len((await shard.call("ListClaims", pb.ListClaimsRequest())).claims) == 1


async def test_only_a_system_assignment_names_another_project(shard: Shard) -> None:
    await shard.provider()
    spec = spec_of()
    spec.project = new_id()
    assert (await refusal(shard.claim(spec))).reason == "PERMISSION_DENIED"
    assert (await shard.claim(spec, caller=shard.operator)).project == spec.project
    assert (await refusal(shard.claim(spec_of(), caller=shard.operator))).field == "spec.project"


async def test_regions_bound_what_is_taken_and_who_knows(shard: Shard, etcd: EtcdClient) -> None:
    child, hidden, elsewhere = new_id(), new_id(), new_id()
    name = shard.service.core.store.shard
    await put_region(etcd, child, "", shard.region)
    await put_region(etcd, hidden, "", shard.region, visibility="internal")
    await put_region(etcd, elsewhere, f"{name}-2")
    regions = shard.service.core.regions
    await regions._prefix.wait_changed(regions._prefix.revision - 1, 5)
    while elsewhere not in regions.tree:
        await regions._prefix.wait_changed(regions._prefix.revision, 5)
    at_child = await shard.provider(region=child)
    await shard.provider(region=hidden)
    claim = await shard.claim(spec_of())
    assert (claim.allocations[0].provider, claim.region) == (at_child, child)
    whole = spec_of([("storage.block", 9 * 10**11)])
    await shard.claim(whole, region=child)
    assert (await refusal(shard.claim(whole))).reason == "NO_CAPACITY"
    assert (await refusal(shard.claim(whole, region=hidden))).reason == "NOT_FOUND"
    assert (await refusal(shard.claim(whole, region=new_id()))).reason == "NOT_FOUND"
    wrong = await refusal(shard.claim(whole, region=elsewhere))
    assert (wrong.reason, wrong.metadata["shard"]) == ("WRONG_REGION", f"{name}-2")
    spec = spec_of([("storage.block", 9 * 10**11)])
    spec.project = shard.tenant.project
    assert (await shard.claim(spec, caller=shard.operator, region="")).region == hidden


async def test_lists_filter_and_page(shard: Shard) -> None:
    providers = [await shard.provider() for _ in range(2)]
    now = shard.clock()
    claims = []
    for number in range(5):
        spec = spec_of(begin=now + number * HOUR, end=now + (number + 1) * HOUR) if number else spec_of(end=now + HOUR)
        spec.consumer = new_id()
        claims.append(await shard.claim(spec))

    async def listed(**fields: object) -> list[str]:
        request = pb.ListClaimsRequest(region=shard.region, **fields)  # type: ignore[arg-type]
        return [each.id for each in (await shard.call("ListClaims", request, shard.tenant)).claims]

    ids = [each.id for each in claims]
    assert await listed() == ids
    assert await listed(consumer=claims[2].consumer) == [ids[2]]
    assert await listed(provider=providers[0]) == ids
    assert await listed(provider=providers[1]) == []
    window = Window()
    window.acquire.FromMicroseconds(now + HOUR)
    window.release.FromMicroseconds(now + 3 * HOUR)
    assert await listed(window=window) == ids[1:3]
    await shard.release(ids[2])
    assert await listed() == [*ids[:2], *ids[3:]]
    assert await listed(window=window) == [ids[1]]
    first = await shard.call("ListClaims", pb.ListClaimsRequest(page_size=3), shard.tenant)
    token = first.next_page_token
    second = await shard.call("ListClaims", pb.ListClaimsRequest(page_size=3, page_token=token), shard.tenant)
    assert [each.id for each in (*first.claims, *second.claims)] == [*ids[:2], *ids[3:]]
    assert not second.next_page_token
    bad = await refusal(shard.call("ListClaims", pb.ListClaimsRequest(page_token="x"), shard.tenant))
    assert bad.reason == "INVALID_PAGE_TOKEN"


async def test_validate_only_claims_nothing(shard: Shard) -> None:
    await shard.provider(SHARED)
    claim = await shard.claim(spec_of(), validate_only=True)
    assert not claim.id
    assert amounts(claim) == dict(SMALL)
    assert not shard.service.core.world.usage()
    assert (await refusal(shard.claim(spec_of([("cpu.shared", 25)]), validate_only=True))).reason == "NO_CAPACITY"
