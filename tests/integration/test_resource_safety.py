"""Nothing is over-committed, lost or done twice: not by many at once, a bad planner, two owners or a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.clock import SECOND
from mulligan.errors import MulliganError, from_status
from mulligan.ids import new_id
from mulligan.resource.batch import write_batch
from mulligan.resource.timeline import FOREVER
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import audited, forged, same_after_restart
from tests.resource_parts import HOUR, SHARED, Shard, answer, refusal, running_shard, spec_of
from tests.waiting import eventually


@pytest.fixture
async def shard(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    async with running_shard(fresh_addresses, etcd) as running:
        yield running


def random_spec(random: Random, now: int) -> claim_pb2.ClaimSpec:
    """Any claim that may be asked for: now or later, small or large, of one provider or several."""
    begin = random.choice([None, None, now + random.randrange(1, 20) * HOUR])
    end = random.choice([None, (begin or now) + random.randrange(1, 10) * HOUR])
    kind = random.randrange(6)
    if kind == 0:
        return spec_of([("cpu.shared", 1)], begin, end, exclusive=True)
    spec = spec_of(
        [("cpu.shared", random.randrange(1, 25)), ("storage.block", random.randrange(1, 500) * 10**9)], begin, end
    )
    if kind == 1:
        spec.groups[0].name = "a"
        spec.groups.add(name="b").resources.add(resource_type="cpu.shared", min=random.randrange(1, 25))
        spec.groups[1].distances.add(from_group="a", distance_type="failure", at_least="rack")
    spec.strategy = random.choice(claim_pb2.Strategy.values())  # type: ignore[assignment]
    return spec


async def a_few_racks(shard: Shard) -> None:
    for number in range(4):
        await shard.group(f"rack{number}", "rack")
        for _ in range(3):
            await shard.provider(SHARED, groups=[f"rack{number}"])


async def attempt(shard: Shard, spec: claim_pb2.ClaimSpec, request_id: str) -> claim_pb2.Claim | None:
    """The claim, or None when there is no room for it."""
    try:
        return await shard.claim(spec, request_id=request_id)
    except MulliganError as error:
        if error.reason == "NO_CAPACITY":
            return None
        raise


@pytest.mark.parametrize("seed", range(3))
async def test_many_at_once_never_take_more_than_there_is(shard: Shard, seed: int) -> None:
    await a_few_racks(shard)
    random = Random(seed)
    live: list[claim_pb2.Claim] = []
    for _ in range(8):
        now = shard.clock()
        wanted = [(random_spec(random, now), new_id()) for _ in range(48)]
        repeated = random.sample(wanted, 8)
        released = [live.pop(random.randrange(len(live))) for _ in range(min(len(live), 12))]
        # Each repeated request is on its way twice at the same time.
        claims = asyncio.gather(*(attempt(shard, *each) for each in (*wanted, *repeated)))
        releases = asyncio.gather(*(shard.release(each.id) for each in released))
        made, _ = await asyncio.gather(claims, releases)
        live += {each.id: each for each in made if each is not None}.values()
        shard.clock.ahead_us += HOUR
        assert await audited(shard) == 0
    assert len(live) > 20
    await same_after_restart(shard)


@pytest.mark.parametrize("window", [(0, FOREVER), (0, 5), (2, 9), (2, FOREVER)])
async def test_the_database_refuses_what_a_planner_should_have_refused(shard: Shard, window: tuple[int, int]) -> None:
    provider = await shard.provider()
    now = shard.clock()
    await shard.claim(spec_of([("cpu.shared", 20)], now + 3 * HOUR, now + 4 * HOUR))
    begin = now + window[0] * HOUR if window[0] else 0
    end = now + window[1] * HOUR if window[1] < FOREVER else FOREVER
    too_much, fits = forged(shard, provider, 365, begin, end), forged(shard, provider, 364, begin, end)
    async with shard.pool.acquire() as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="not_overcommitted"):
            async with connection.transaction():
                await write_batch(connection, shard.service.core.store.shard, [too_much], lambda claim: [], now)
        async with connection.transaction():
            await write_batch(connection, shard.service.core.store.shard, [fits], lambda claim: [], now)
    assert await audited(shard) == 0


async def test_a_batch_whose_members_fit_one_by_one_but_not_together_is_refused(shard: Shard) -> None:
    provider = await shard.provider()
    now = shard.clock()
    batch = [
        forged(shard, provider, 200),
        forged(shard, provider, 100, now + HOUR, now + 3 * HOUR),
        forged(shard, provider, 100, now + 2 * HOUR),
    ]
    async with shard.pool.acquire() as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="not_overcommitted"):
            async with connection.transaction():
                await write_batch(connection, shard.service.core.store.shard, batch, lambda claim: [], now)
        batch[2].claim.acquire_us = now + 3 * HOUR
        async with connection.transaction():
            await write_batch(connection, shard.service.core.store.shard, batch, lambda claim: [], now)
    assert await audited(shard) == 0


async def test_the_audit_sees_over_commitment(shard: Shard) -> None:
    provider = await shard.provider()
    async with shard.pool.acquire() as connection:
        await connection.execute("UPDATE resource.ledger SET capacity = 10000 WHERE owner = $1", provider)
        async with connection.transaction():
            await write_batch(
                connection,
                shard.service.core.store.shard,
                [forged(shard, provider, 385)],
                lambda claim: [],
                shard.clock(),
            )
    assert await audited(shard) == 1


async def test_of_two_owners_only_the_later_one_writes(shard: Shard) -> None:
    await a_few_racks(shard)
    later = await shard.restarted()
    results = await asyncio.gather(
        *(each.claim(spec_of([("cpu.shared", 24)])) for each in (shard, later) for _ in range(40)),
        return_exceptions=True,
    )
    former, latter = results[:40], results[40:]
    assert all(isinstance(each, MulliganError) and each.reason == "FENCED" for each in former)
    assert all(isinstance(each, claim_pb2.Claim) for each in latter)
    with pytest.raises(MulliganError, match="took over"):
        await asyncio.wait_for(shard.service.core.watch(), 5)
    assert (await refusal(shard.claim(spec_of()))).reason == "FENCED"
    assert await audited(later) == 0
    await same_after_restart(later)
    await later.service.close()


async def test_a_crash_between_plan_and_commit_loses_only_what_nobody_was_told(shard: Shard) -> None:
    await a_few_racks(shard)
    done = [await shard.claim(spec_of()) for _ in range(3)]
    requests = [
        pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=spec_of()).SerializeToString()
        for _ in range(32)
    ]
    blocker = await asyncpg.connect(shard.addresses.postgres)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE resource.ledger IN EXCLUSIVE MODE")
    calls = [asyncio.ensure_future(shard.table.call("CreateClaim", shard.tenant, each)) for each in requests]
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'resource.ledger'::regclass AND NOT granted"
    await eventually(lambda: blocker.fetchval(waiting))
    assert sum(len(uses) for uses in shard.service.core.world.usage().values()) > 0
    await shard.crash()
    await blocking.rollback()
    await blocker.close()
    again = await shard.restarted()
    for call in calls:
        call.cancel()
    stored = await again.call("ListClaims", pb.ListClaimsRequest(page_size=1000), shard.tenant)
    assert {each.id for each in done} <= {each.id for each in stored.claims}
    # Whatever became of them, sending them again gives each exactly one claim.
    first = await asyncio.gather(*(again.table.call("CreateClaim", shard.tenant, each) for each in requests))
    second = await asyncio.gather(*(again.table.call("CreateClaim", shard.tenant, each) for each in requests))
    ids = [answer("CreateClaim", each).claim.id for each in first]
    assert [answer("CreateClaim", each).claim.id for each in second] == ids
    assert len(set(ids)) == 32
    stored = await again.call("ListClaims", pb.ListClaimsRequest(page_size=1000), shard.tenant)
    assert {each.id for each in stored.claims} == {*ids, *(each.id for each in done)}
    assert await audited(again) == 0
    await same_after_restart(again)
    await again.service.close()


async def test_a_lost_connection_is_survived_and_nothing_is_done_twice(shard: Shard) -> None:
    await a_few_racks(shard)
    watching = asyncio.create_task(shard.service.core.watch())
    requests = [
        pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=spec_of()).SerializeToString()
        for _ in range(200)
    ]

    async def persist(request: bytes) -> str:
        """Sends it until it has an answer, as clients do."""
        while True:
            reply = await shard.table.call("CreateClaim", shard.tenant, request)
            if reply[0] == 0:
                return str(answer("CreateClaim", reply).claim.id)
            assert from_status_code(reply) == "UNAVAILABLE", reply
            await asyncio.sleep(0.01)

    async def cut() -> None:
        """Ends all of the service's connections, again and again."""
        connection = await asyncpg.connect(shard.addresses.postgres)
        for _ in range(5):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.03)
        await connection.close()

    cutting = asyncio.create_task(cut())
    ids = [each for at in range(0, 200, 20) for each in await asyncio.gather(*map(persist, requests[at : at + 20]))]
    await cutting
    watching.cancel()
    assert len(set(ids)) == 200
    stored = await shard.call("ListClaims", pb.ListClaimsRequest(page_size=1000), shard.tenant)
    assert {each.id for each in stored.claims} == set(ids)
    assert await audited(shard) == 0
    await same_after_restart(shard)


async def test_a_commit_whose_outcome_nobody_heard_is_found_out(shard: Shard) -> None:
    await a_few_racks(shard)
    watching = asyncio.create_task(shard.service.core.watch())
    async with shard.pool.acquire() as connection:
        await connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON resource.claims"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();"
        )
        request = pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=spec_of()).SerializeToString()
        call = asyncio.ensure_future(shard.table.call("CreateClaim", shard.tenant, request))
        committing = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT;' AND wait_event = 'PgSleep'"
        await eventually(lambda: connection.fetchval(committing))
        # The client is cut off; the server goes on and commits.
        writer = shard.service.core.memory.writer
        assert writer._connection is not None
        writer._connection._con._transport.abort()
        assert from_status_code(await call) == "UNAVAILABLE"
        assert from_status_code(await shard.table.call("CreateClaim", shard.tenant, request)) == "UNAVAILABLE"
        await eventually(lambda: shard.service.core._memory)
        assert await connection.fetchval("SELECT count(*) FROM resource.claims") == 1
        await connection.execute("DROP TRIGGER dawdle ON resource.claims")
    assert shard.service.core.world.usage()
    claim = answer("CreateClaim", await shard.table.call("CreateClaim", shard.tenant, request)).claim
    stored = await shard.call("ListClaims", pb.ListClaimsRequest(), shard.tenant)
    assert [each.id for each in stored.claims] == [claim.id]
    watching.cancel()
    await same_after_restart(shard)


def from_status_code(reply: tuple[int, bytes]) -> str:
    from google.rpc.code_pb2 import Code
    from google.rpc.status_pb2 import Status

    assert isinstance(from_status(Status.FromString(reply[1])), MulliganError)
    return str(Code.Name(reply[0]))


async def test_housekeeping_changes_nothing_that_counts(shard: Shard) -> None:
    await a_few_racks(shard)
    random = Random(5)
    for _ in range(150):
        claim = await attempt(shard, random_spec(random, shard.clock()), new_id())
        if claim is not None and random.random() < 0.7:
            await shard.release(claim.id)
    shard.clock.ahead_us += 2 * HOUR + SECOND
    async with shard.pool.acquire() as connection:
        before = await connection.fetchval("SELECT count(*) FROM resource.ledger")
        await shard.service.housekeeper.clean()
        assert await connection.fetchval("SELECT count(*) FROM resource.ledger") < before
        assert await connection.fetchval("SELECT count(*) FROM resource.requests") > 0
        gaps = await connection.fetchval(
            "SELECT count(*) FROM (SELECT until_us <> lead(from_us) OVER (PARTITION BY owner, resource_type"
            " ORDER BY from_us) AS gap FROM resource.ledger) AS g WHERE gap"
        )
        assert gaps == 0
        shard.clock.ahead_us += 25 * HOUR
        await shard.service.housekeeper.clean()
        assert await connection.fetchval("SELECT count(*) FROM resource.requests") == 0
    await same_after_restart(shard)


async def test_boundaries_of_claims_that_were_given_back_go_away(shard: Shard) -> None:
    provider, now = await shard.provider(), shard.clock()
    kept = await shard.claim(spec_of(begin=now + 7 * HOUR, end=now + 9 * HOUR))
    for hour in range(40):
        claim = await shard.claim(spec_of(begin=now + (hour + 1) * HOUR, end=now + (hour + 2) * HOUR))
        await shard.release(claim.id)
    segments = "SELECT from_us, until_us FROM resource.ledger WHERE owner = $1 AND resource_type = $2 ORDER BY from_us"
    async with shard.pool.acquire() as connection:
        assert len(await connection.fetch(segments, provider, "memory")) > 40
        await shard.service.housekeeper.clean()
        begin, end = kept.acquire.ToMicroseconds(), kept.release.ToMicroseconds()
        left = [tuple(row) for row in await connection.fetch(segments, provider, "memory")]
    assert left == [(0, begin), (begin, end), (end, FOREVER)]
    await same_after_restart(shard)
