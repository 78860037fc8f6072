"""Amounts near the largest that a message can hold: sums of them are refused or cut, never a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mulligan.api.common.v1.common_pb2 import Window
from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.ids import new_id
from mulligan.resource.inventory import MAX_AMOUNT
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import same_after_restart
from tests.resource_parts import Shard, refusal, running_shard, spec_of

HUGE = provider_pb2.ProviderConfig(
    provider_type="compute", inventories=[provider_pb2.Inventory(resource_type="memory", total=MAX_AMOUNT)]
)
ONE_WHOLE = spec_of([("memory", 1)], exclusive=True)


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        for _ in range(2):
            await running.provider(HUGE)
        yield running


async def limit(shard: Shard, most: int) -> None:
    quota = claim_pb2.Quota(project=shard.tenant.project, resource_type="memory", limit=most)
    await shard.call("SetQuota", pb.SetQuotaRequest(request_id=new_id(), region=shard.region, quota=quota))


def both(**group: bool) -> claim_pb2.ClaimSpec:
    spec = spec_of([("memory", 1)], name="a", **group)
    spec.groups.add(name="b", **group).resources.add(resource_type="memory", min=1)
    return spec


async def test_groups_that_ask_for_more_than_a_number_holds_are_refused(shard: Shard) -> None:
    await limit(shard, 10)
    spec = both()
    spec.groups[0].resources[0].min = MAX_AMOUNT
    refused = await refusal(shard.claim(spec))
    assert (refused.reason, refused.field) == ("INVALID_AMOUNT", "spec.groups")
    explain = pb.ExplainClaimRequest(region=shard.region, spec=spec)
    assert (await refusal(shard.call("ExplainClaim", explain, shard.tenant))).reason == "INVALID_AMOUNT"
    spec.groups[1].resources[0].min, spec.groups[0].resources[0].min = 1, MAX_AMOUNT - 1
    assert (await refusal(shard.claim(spec))).reason == "QUOTA_EXCEEDED"


async def test_whole_providers_beyond_what_a_number_holds_exceed_a_quota(shard: Shard) -> None:
    await limit(shard, 10)
    spec = both(exclusive=True)
    assert (await refusal(shard.claim(spec))).reason == "QUOTA_EXCEEDED"
    explained = await shard.call("ExplainClaim", pb.ExplainClaimRequest(region=shard.region, spec=spec), shard.tenant)
    assert [each.asked for each in explained.quota_shortages] == [MAX_AMOUNT]


async def test_sums_are_told_as_the_largest_number_there_is(shard: Shard) -> None:
    await shard.claim(both(exclusive=True))
    window = Window()
    window.acquire.FromMicroseconds(shard.clock() - 10**9)
    for caller, capacity in ((shard.operator, MAX_AMOUNT), (shard.tenant, 0)):
        for request in (pb.GetUsageRequest(region=shard.region), pb.GetUsageRequest(window=window)):
            [usage] = (await shard.call("GetUsage", request, caller)).usages
            assert usage.used == MAX_AMOUNT
            assert usage.capacity in (MAX_AMOUNT, capacity)


async def test_a_quota_that_could_not_count_what_is_in_use_is_refused(shard: Shard) -> None:
    claims = [await shard.claim(ONE_WHOLE) for _ in range(2)]
    refused = await refusal(limit(shard, 10))
    assert (refused.reason, "release" in refused.message) == ("CAPACITY_IN_USE", True)
    await shard.release(claims[0].id)
    await limit(shard, 10)
    await shard.release(claims[1].id)
    await same_after_restart(shard)
