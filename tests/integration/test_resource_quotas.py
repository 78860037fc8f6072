"""Quotas, usage and explanations against the real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from google.rpc.error_details_pb2 import QuotaFailure
from google.rpc.status_pb2 import Status

from mulligan.api.common.v1.common_pb2 import Window
from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import SECOND
from mulligan.errors import MulliganError
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import same_after_restart
from tests.resource_parts import GIB, HOUR, SHARED, Shard, refusal, running_shard, spec_of
from tests.waiting import eventually


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


async def limit(shard: Shard, most: int, kind: str = "cpu.shared", project: str = "") -> claim_pb2.Quota:
    quota = claim_pb2.Quota(project=project or shard.tenant.project, resource_type=kind, limit=most)
    request = pb.SetQuotaRequest(request_id=new_id(), region=shard.region, quota=quota)
    return (await shard.call("SetQuota", request)).quota  # type: ignore[no-any-return]


async def quotas(shard: Shard, caller: Caller | None = None, **fields: Any) -> list[tuple[str, int, int]]:
    found = (await shard.call("ListQuotas", pb.ListQuotasRequest(**fields), caller or shard.tenant)).quotas
    assert {each.shard for each in found} <= {shard.service.core.store.shard}
    return [(each.resource_type, each.limit, each.used) for each in found]


def cpus(count: int, begin: int | None = None, end: int | None = None, **group: Any) -> claim_pb2.ClaimSpec:
    return spec_of([("cpu.shared", count)], begin, end, **group)


async def test_a_quota_bounds_the_peak_of_one_project(shard: Shard) -> None:
    await shard.provider()
    await limit(shard, 20)
    now = shard.clock()
    await shard.claim(cpus(15, now + HOUR, now + 2 * HOUR))
    await shard.claim(cpus(20, now + 2 * HOUR, now + 3 * HOUR))
    await shard.claim(cpus(5, end=now + 2 * HOUR))
    refused = await refusal(shard.claim(cpus(1, now + HOUR, now + 2 * HOUR)))
    assert (refused.reason, refused.metadata["project"]) == ("QUOTA_EXCEEDED", shard.tenant.project)
    assert "1 asked, 20 of 20 in use" in refused.message
    await shard.claim(cpus(24, now + HOUR), caller=replace(shard.tenant, project=new_id()))
    assert await quotas(shard) == [("cpu.shared", 20, 20)]
    assert await quotas(shard, replace(shard.tenant, project=new_id())) == []
    assert (await refusal(quotas(shard, project=new_id()))).reason == "PERMISSION_DENIED"
    assert await quotas(shard, shard.operator) == [("cpu.shared", 20, 20)]


async def test_a_quota_counts_what_was_claimed_before_it_and_survives_a_restart(shard: Shard) -> None:
    await shard.provider()
    now = shard.clock()
    first = await shard.claim(cpus(10, now + HOUR, now + 2 * HOUR))
    await shard.claim(cpus(5))
    assert (await limit(shard, 12)).used == 15
    assert (await refusal(shard.claim(cpus(1, now + HOUR, now + 2 * HOUR)))).reason == "QUOTA_EXCEEDED"
    shard = await shard.restarted()
    assert await quotas(shard) == [("cpu.shared", 12, 15)]
    await shard.claim(cpus(7, end=now + HOUR))
    assert (await refusal(shard.claim(cpus(1, end=now + HOUR)))).reason == "QUOTA_EXCEEDED"
    await shard.release(first.id)
    await shard.claim(cpus(7, now + HOUR, now + 2 * HOUR))
    assert (await refusal(shard.claim(cpus(1, now + HOUR)))).reason == "QUOTA_EXCEEDED"
    assert (await limit(shard, 100)).used == 12
    await shard.claim(cpus(20))
    request = pb.DeleteQuotaRequest(
        request_id=new_id(), region=shard.region, project=shard.tenant.project, resource_type="cpu.shared"
    )
    await shard.call("DeleteQuota", request)
    assert await quotas(shard) == []
    for _ in range(5):
        await shard.claim(cpus(24))
    request.request_id = new_id()
    assert (await refusal(shard.call("DeleteQuota", request))).reason == "NOT_FOUND"
    await shard.service.close()


async def test_many_at_once_stay_within_a_quota_that_changes_meanwhile(shard: Shard) -> None:
    for _ in range(4):
        await shard.provider()
    await limit(shard, 50)
    outcomes = await asyncio.gather(
        *(shard.claim(cpus(1)) for _ in range(40)),
        limit(shard, 60),
        *(shard.claim(cpus(1)) for _ in range(40)),
        limit(shard, 70),
        *(shard.claim(cpus(1)) for _ in range(40)),
        return_exceptions=True,
    )
    made = [each for each in outcomes if isinstance(each, claim_pb2.Claim)]
    refused = [each for each in outcomes if isinstance(each, MulliganError)]
    assert {each.reason for each in refused} == {"QUOTA_EXCEEDED"}
    assert 50 <= len(made) <= 70
    [(_, _, used)] = await quotas(shard)
    assert used == len(made)
    async with shard.pool.acquire() as connection:
        query = "SELECT l.used FROM resource.ledger l JOIN resource.quotas q ON q.id = l.owner"
        assert [row[0] for row in await connection.fetch(query)] == [len(made)]


async def test_a_claim_waits_until_no_quota_of_its_project_is_being_changed(shard: Shard) -> None:
    await shard.provider()
    core, held = shard.service.core, asyncio.Event()
    holding = asyncio.create_task(core.memory.writer.exclusive(lambda connection: held.wait()))

    async def waiting(at_the_gate: int) -> None:
        gates = core.gates
        await eventually(lambda: gates and len(next(iter(gates.values()))._waiters) == at_the_gate)

    changing = [asyncio.create_task(limit(shard, 50))]
    await waiting(0)
    changing.append(asyncio.create_task(limit(shard, 50 * GIB, "memory")))
    await waiting(1)
    claiming = asyncio.create_task(shard.claim(spec_of([("cpu.shared", 3), ("memory", GIB)])))
    await waiting(2)
    held.set()
    await asyncio.gather(holding, claiming, *changing)
    assert await quotas(shard) == [("cpu.shared", 50, 3), ("memory", 50 * GIB, GIB)]
    await same_after_restart(shard)


async def test_the_database_holds_a_project_to_its_quota(shard: Shard) -> None:
    await shard.provider()
    await limit(shard, 10)
    watching = asyncio.create_task(shard.service.core.watch())
    # The memory believes in a higher limit than the database.
    next(iter(shard.service.core.world.quotas)).limit = 1000
    assert (await refusal(shard.claim(cpus(11)))).reason == "SHARD_UNAVAILABLE"
    await eventually(lambda: shard.service.core._memory)
    assert (await refusal(shard.claim(cpus(11)))).reason == "QUOTA_EXCEEDED"
    await shard.claim(cpus(10))
    watching.cancel()


async def test_whole_providers_count_with_all_they_have(shard: Shard) -> None:
    small = provider_pb2.ProviderConfig(
        provider_type="compute", inventories=[provider_pb2.Inventory(resource_type="cpu.shared", total=8)]
    )
    for _ in range(2):
        await shard.provider(SHARED)
        await shard.provider(small)
    await limit(shard, 20)
    claims = [await shard.claim(cpus(2, exclusive=True)) for _ in range(2)]
    assert [each.allocations[0].amount for each in claims] == [8, 8]
    refused = await refusal(shard.claim(cpus(2, exclusive=True)))
    assert refused.reason == "QUOTA_EXCEEDED"
    assert "384 asked, 16 of 20" in refused.message


async def test_an_explanation_finds_the_whole_provider_that_the_quota_leaves_room_for(shard: Shard) -> None:
    # The larger one comes first where no quota counts; with one, the smaller one is within it.
    await shard.provider(SHARED)
    small = provider_pb2.ProviderConfig(
        provider_type="compute",
        capabilities=[*SHARED.capabilities, "storage.disk.ssd"],
        inventories=[provider_pb2.Inventory(resource_type="cpu.shared", total=8)],
    )
    await shard.provider(small)
    await limit(shard, 20)
    spec = cpus(2, exclusive=True)
    explained = await explain(shard, spec)
    assert (explained.fits, explained.summary) == (True, "the claim fits")
    assert not explained.quota_shortages
    assert (await shard.claim(spec)).allocations[0].amount == 8
    explained = await explain(shard, spec)
    assert [(each.asked, each.used) for each in explained.quota_shortages] == [(384, 8)]


async def test_refusals_that_come_together_cost_one_read(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    await shard.provider()
    await limit(shard, 1)
    store, reads = shard.service.core.store, list[Any]()
    read = store.read

    async def counted(work: Any) -> Any:
        reads.append(work)
        return await read(work)

    monkeypatch.setattr(store, "read", counted)
    refusals = await asyncio.gather(*(refusal(shard.claim(cpus(2))) for _ in range(50)))
    assert {each.reason for each in refusals} == {"QUOTA_EXCEEDED"}
    assert len(reads) == 1


async def test_a_refusal_for_quota_tells_programs_too(shard: Shard) -> None:
    await shard.provider()
    await limit(shard, 10)
    request = pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=cpus(11))
    code, payload = await shard.table.call("CreateClaim", shard.tenant, request.SerializeToString())
    failure = QuotaFailure()
    assert code
    assert any(detail.Unpack(failure) for detail in Status.FromString(payload).details)
    assert failure.violations[0].quota_metric == "cpu.shared"


async def test_usage_is_the_peak_of_the_window(shard: Shard) -> None:
    providers = [await shard.provider() for _ in range(2)]
    now = shard.clock()
    other = replace(shard.tenant, project=new_id())
    await shard.claim(cpus(3, end=now + HOUR))
    await shard.claim(cpus(5, now + HOUR, now + 2 * HOUR), caller=other)
    ended = await shard.claim(cpus(7))
    await shard.release(ended.id)

    async def used(caller: Caller | None, begin: int | None, end: int | None, **fields: Any) -> tuple[int, int]:
        request = pb.GetUsageRequest(region=shard.region, **fields)
        if begin is not None:
            request.window.acquire.FromMicroseconds(begin)
        if end is not None:
            request.window.release.FromMicroseconds(end)
        usages = (await shard.call("GetUsage", request, caller)).usages
        assert {each.shard for each in usages} == {shard.service.core.store.shard}
        return next((each.used, each.capacity) for each in usages if each.resource_type == "cpu.shared")

    assert await used(None, None, None) == (3, 768)
    assert await used(None, now + 2 * SECOND, None) == (5, 768)
    assert await used(None, now + HOUR, now + HOUR + 1) == (5, 768)
    assert await used(None, now + 2 * HOUR, None) == (0, 768)
    assert await used(None, now + 2 * SECOND, None, provider=providers[1]) == (0, 384)
    assert await used(shard.tenant, now + 2 * SECOND, None) == (3, 0)
    assert await used(other, None, None) == (0, 0)
    assert await used(other, now + HOUR, None) == (5, 0)
    assert await used(None, now + HOUR, None, project=shard.tenant.project) == (0, 0)
    # Also of the past, where the claim that was given back still counts.
    assert await used(None, now - HOUR, now + HOUR) == (10, 768)
    assert await used(shard.tenant, now - HOUR, now - 1) == (0, 0)
    assert (await refusal(used(shard.tenant, None, None, project=other.project))).reason == "PERMISSION_DENIED"
    window = Window()
    window.acquire.FromMicroseconds(now)
    window.release.FromMicroseconds(now)
    bad = pb.GetUsageRequest(window=window)
    assert (await refusal(shard.call("GetUsage", bad))).reason == "INVALID_WINDOW"


async def test_memory_and_database_agree_on_usage(shard: Shard) -> None:
    for _ in range(2):
        await shard.provider()
    now = shard.clock()
    for hour in range(1, 12):
        await shard.claim(cpus(hour, now + hour * HOUR, now + (2 * hour) * HOUR))
        await shard.claim(cpus(1, end=now + hour * HOUR))
    for begin, end in ((1, 2), (3, 9), (2, 20), (11, 30)):
        answers = []
        for project in ("", shard.tenant.project):
            request = pb.GetUsageRequest(project=project)
            request.window.acquire.FromMicroseconds(now + begin * HOUR)
            request.window.release.FromMicroseconds(now + end * HOUR)
            answers.append({each.resource_type: each.used for each in (await shard.call("GetUsage", request)).usages})
        assert answers[0] == answers[1]
        assert answers[0]["cpu.shared"] > 0


async def explain(shard: Shard, spec: claim_pb2.ClaimSpec) -> pb.ExplainClaimResponse:
    request = pb.ExplainClaimRequest(region=shard.region, spec=spec)
    return await shard.call("ExplainClaim", request, shard.tenant)  # type: ignore[no-any-return]


async def test_explanations_say_what_each_constraint_leaves(shard: Shard) -> None:
    for rack in ("rack1", "rack2"):
        await shard.group(rack, "rack")
        for _ in range(3):
            await shard.provider(groups=[rack])
    out = await shard.provider()
    state = provider_pb2.PROVIDER_STATE_MAINTENANCE
    await shard.call("SetProviderState", pb.SetProviderStateRequest(request_id=new_id(), id=out, state=state))
    now = shard.clock()
    await shard.claim(cpus(1, end=now + HOUR, exclusive=True, provider_groups={"require": [shard.groups["rack1"]]}))
    wanted = cpus(
        8,
        capabilities=[{"require": ["cpu.x86.avx2"]}],
        provider_groups={"require": [shard.groups["rack1"]]},
        name="a",
    )
    other = wanted.groups.add(name="b")
    other.resources.add(resource_type="cpu.shared", min=8)
    other.distances.add(from_group="a", distance_type="failure", at_least="rack")
    explained = await explain(shard, wanted)
    assert explained.fits
    first, second = ([(step.constraint, step.left) for step in group.funnel] for group in explained.groups)
    assert first == [
        ("provider in the region", 7),
        ("in service", 6),
        ("cpu.shared >= 8", 6),
        ("capability cpu.x86.avx2", 6),
        (f"in provider group {shard.groups['rack1']}", 3),
        ("cpu.shared: 8 free in the window", 2),
    ]
    assert second[-2:] == [("distance failure from a at least rack", 3), ("cpu.shared: 8 free in the window", 3)]
    wanted.groups[1].distances[0].at_least = "row"
    wanted.groups[1].distances[0].from_group = "a"
    assert (await explain(shard, wanted)).fits
    wanted.groups[1].distances[0].at_most = "local"
    wanted.groups[1].distances[0].at_least = ""
    assert [step.left for step in (await explain(shard, wanted)).groups[1].funnel][-2:] == [3, 2]
    wanted.groups[0].capabilities[0].require.append("storage.disk.ssd")
    refused = await explain(shard, wanted)
    assert not refused.fits
    assert refused.summary == (
        "group a: no provider is left after 'capability cpu.x86.avx2 and storage.disk.ssd' (6 before it)"
    )


async def test_an_explanation_says_when_it_would_first_fit(shard: Shard) -> None:
    await shard.provider()
    now = shard.clock()
    await shard.claim(cpus(1, end=now + 5 * HOUR, exclusive=True))
    explained = await explain(shard, cpus(1))
    assert not explained.fits
    assert "would first fit at" in explained.summary
    assert "would first fit at" in (await refusal(shard.claim(cpus(1)))).message
    await limit(shard, 2)
    short = await explain(shard, cpus(3, now + 6 * HOUR))
    assert not short.fits
    assert [(each.limit, each.used, each.asked) for each in short.quota_shortages] == [(2, 0, 3)]
    assert "quota" in short.summary


async def test_a_refusal_carries_a_short_explanation_and_never_holds_the_others_up(shard: Shard) -> None:
    await shard.load_racks(30)
    wanted = claim_pb2.ClaimSpec()
    for number in range(16):
        group = wanted.groups.add(name=f"a-rather-long-name-of-a-group-{number}")
        group.resources.add(resource_type="cpu.shared", min=8)
        group.resources.add(resource_type="memory", min=2**40)
        group.capabilities.add(require=["cpu.x86.avx2"], forbid=["storage.disk.ssd"])
    request = pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=wanted)
    worst, loop = 0.0, asyncio.get_running_loop()
    call = asyncio.ensure_future(shard.table.call("CreateClaim", shard.tenant, request.SerializeToString()))
    while not call.done():
        began = loop.time()
        await asyncio.sleep(0)
        worst = max(worst, loop.time() - began)
    status = Status.FromString(call.result()[1])
    explanation = pb.ExplainClaimResponse()
    assert any(detail.Unpack(explanation) for detail in status.details)
    assert explanation.ByteSize() <= 2048
    assert "memory >= 1099511627776" in explanation.summary
    assert status.ByteSize() < 6000
    assert worst < 0.1
