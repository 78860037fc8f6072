"""Machines whose claims end in any way are taken back without being asked for; others never are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from mulligan.api.control.v1 import machine_pb2
from mulligan.api.resource.v1.claim_pb2 import CLAIM_STATE_RELEASED
from mulligan.clock import SECOND, now_us
from mulligan.control import expiry, model
from mulligan.errors import MulliganError, Unavailable, Unimplemented
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.control_bench import ACTIVE, Bench, opened


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, nats) as (made, _):
        yield made


async def running(bench: Bench, state: int = model.ACTIVE) -> machine_pb2.Machine:
    """A machine whose provision has ended, as if an executor had been there."""
    begun = await bench.provision(await bench.register_anything())
    await bench.pool.execute(
        "UPDATE control.machines SET state = $2, state_since_us = $3, state_deadline_us = NULL WHERE id = $1",
        begun.machine.id,
        state,
        now_us(),
    )
    await bench.pool.execute(
        "UPDATE control.operations SET state = $2, done_us = $3 WHERE id = $1",
        begun.operation.id,
        model.OPERATION_SUCCEEDED,
        now_us(),
    )
    return await bench.machine(begun.machine.id)


def release(bench: Bench, machine: machine_pb2.Machine) -> None:
    bench.claims.claims[machine.claim].state = CLAIM_STATE_RELEASED


async def test_a_machine_whose_claim_was_released_or_is_gone_is_taken_back(bench: Bench) -> None:
    kept, released, gone = [await running(bench) for _ in range(3)]
    release(bench, released)
    del bench.claims.claims[gone.claim]
    assert await bench.expiry.sweep() == 2
    assert await bench.expiry.sweep() == 0
    for machine in (released, gone):
        assert (await bench.machine(machine.id)).state == machine_pb2.MACHINE_STATE_DECOMMISSIONING
    assert (await bench.machine(kept.id)).state == ACTIVE


@pytest.mark.parametrize("silence", [Unavailable("it restarts"), Unimplemented("it is of the version before")])
async def test_no_machine_is_taken_back_because_the_resource_service_did_not_answer(
    bench: Bench, silence: MulliganError
) -> None:
    machine = await running(bench)
    release(bench, machine)
    bench.claims.silence = silence
    assert await bench.expiry.sweep() == 0
    assert (await bench.machine(machine.id)).state == ACTIVE
    bench.claims.silence = None
    assert await bench.expiry.sweep() == 1


async def test_claims_are_asked_about_page_by_page_and_round_after_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    machines = [await running(bench) for _ in range(5)]
    for _ in range(3):
        await bench.expiry.sweep()
    assert [len(page) for page in bench.claims.asked] == [2, 2, 1]
    assert {claim for page in bench.claims.asked for claim in page} == {machine.claim for machine in machines}
    for machine in machines:
        release(bench, machine)
    assert [await bench.expiry.sweep() for _ in range(4)] == [2, 2, 1, 0]


async def test_a_failed_machine_of_a_released_claim_is_left_alone_for_a_while(bench: Bench) -> None:
    machine = await running(bench, model.FAILED)
    release(bench, machine)
    assert await bench.expiry.sweep() == 0
    past = now_us() - (expiry.FAILED_PAUSE_S + 1) * SECOND
    await bench.pool.execute("UPDATE control.machines SET state_since_us = $1", past)
    assert await bench.expiry.sweep() == 1
