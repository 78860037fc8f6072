"""Claims asked for without a pause while what stores them is killed: each acknowledged one exists, once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import pytest

from mulligan.api.resource.v1.claim_pb2 import Claim
from mulligan.errors import MulliganError, ResourceExhausted
from mulligan.ids import new_id
from tests.chaos.field import CALL_S, RELEASED, Field, since
from tests.chaos.victims import VICTIMS
from tests.waiting import eventually

CALLERS = 8
# Of 20 whole machines in the rack: some claims are refused, and a second holder of a machine would show.
HELD_BY_CALLER = 3
RACK = "rack2"
BEFORE = 60
AFTER = 60


@dataclass
class Load:
    """Callers who claim whole machines and give them back."""

    field: Field
    # By request id.
    acknowledged: dict[str, str] = dataclass_field(default_factory=dict)
    refused: set[str] = dataclass_field(default_factory=set)
    # Nobody knows what became of them.
    unanswered: set[str] = dataclass_field(default_factory=set)
    released: set[str] = dataclass_field(default_factory=set)
    # Given back perhaps: asked for without an answer.
    releasing: set[str] = dataclass_field(default_factory=set)
    stopping: bool = False

    async def run(self) -> None:
        """Until told to stop."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._call())

    async def _call(self) -> None:
        held: deque[str] = deque()
        while not self.stopping:
            claim = await self.claim(new_id())
            if claim is not None:
                held.append(claim.id)
            if claim is None or len(held) > HELD_BY_CALLER:
                await self._release(held)

    async def claim(self, request_id: str) -> Claim | None:
        """Asks for a machine; None when it was refused or not answered."""
        spec, region = self.field.whole_machine(RACK), self.field.region
        try:
            answer = await self.field.tenant.resource.create_claim(
                region=region, spec=spec, request_id=request_id, timeout_s=CALL_S
            )
        except ResourceExhausted:
            self.refused.add(request_id)
            return None
        except MulliganError:
            self.unanswered.add(request_id)
            return None
        known = self.acknowledged.setdefault(request_id, answer.claim.id)
        assert known == answer.claim.id, f"request {request_id} was carried out twice"
        return answer.claim

    async def _release(self, held: deque[str]) -> None:
        if not held:
            return
        id = held.popleft()
        self.releasing.add(id)
        try:
            await self.field.tenant.resource.release_claim(region=self.field.region, id=id, timeout_s=CALL_S)
        except MulliganError:
            return
        self.releasing.remove(id)
        self.released.add(id)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["resource actor", "postgres", "etcd", "mulligan-resource"])
async def test_claims_outlive(field: Field, name: str) -> None:
    load = Load(field)
    running = asyncio.create_task(load.run())
    try:
        await eventually(lambda: running.done() or len(load.acknowledged) >= BEFORE, CALL_S)
        begun, answered = time.monotonic(), len(load.acknowledged)
        killed = await VICTIMS[name].kill(field.system)
        await VICTIMS[name].back(field.system, killed)
        await eventually(lambda: running.done() or len(load.acknowledged) >= answered + AFTER, CALL_S)
        field.recoveries[f"{name} under claims"] = (since(begun), since(begun))
    finally:
        load.stopping = True
        await asyncio.wait_for(running, 2 * CALL_S)
    await field.healthy()
    await check_each_once(field, load)


async def check_each_once(field: Field, load: Load) -> None:
    """Asked again, every request has the claim that it was given; what is held is held once."""
    for requests in (load.acknowledged, load.unanswered):
        for request_id in list(requests):
            await load.claim(request_id)
    again = [await load.claim(request_id) for request_id in list(load.acknowledged)[-AFTER:]]
    assert all(again)
    assert len(set(load.acknowledged.values())) == len(load.acknowledged)

    told = field.tenant.resource.list_claims(region=field.region, timeout_s=CALL_S)
    live = {claim.id: claim async for claim in told if claim.id not in field.claims}
    assert live.keys() <= set(load.acknowledged.values()), "there is a claim that nobody asked for"
    holders = Counter(provider for claim in live.values() for provider in {each.provider for each in claim.allocations})
    assert max(holders.values()) == 1
    kept = set(load.acknowledged.values()) - load.released - load.releasing
    assert kept <= live.keys()
    assert not live.keys() & load.released

    for id in live:
        await field.tenant.resource.release_claim(region=field.region, id=id, timeout_s=CALL_S)
    for id in load.acknowledged.values():
        claim = (await field.tenant.resource.get_claim(region=field.region, id=id, timeout_s=CALL_S)).claim
        assert claim.state == RELEASED
    await field.check_books()
