"""Results as they may come: twice, late, in any order, from an executor that lost its machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.api.control.v1 import request_response_pb2 as pb
from mulligan.api.internal.v1 import task_pb2
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import SECOND, now_us
from mulligan.control import model
from mulligan.control.changes import Changes
from mulligan.control.results import ResultSaver
from mulligan.control.store import Database
from mulligan.errors import Unavailable
from mulligan.executor.engine import Ending
from mulligan.executor.model import Fenced, Taken
from mulligan.executor.store import PostgresTaskStore
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.control_bench import ACTIVE, FAILED, SUCCEEDED, Bench, opened

DONE, STARTED, OUTCOME_FAILED = task_pb2.OUTCOME_DONE, task_pb2.OUTCOME_STARTED, task_pb2.OUTCOME_FAILED
STEPS = model.PLANS[model.PROVISION]


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, nats) as (made, _):
        yield made


async def taken(bench: Bench, operation: str, message: int = 1) -> Taken:
    """The operation as an executor takes it."""
    store = PostgresTaskStore(Database(bench.pool), bench.box, bench.changes, now_us)
    found = await store.take(operation, message, 15)
    assert isinstance(found, Taken)
    return found


async def taken_back(bench: Bench, former: Taken) -> Taken:
    """The decommission of the machine, taken as soon as the run before it has let go."""
    await PostgresTaskStore(Database(bench.pool), bench.box, bench.changes, now_us).let_go(former, undone=False)
    return await taken(bench, (await bench.decommission(former.machine)).id)


def result(taken: Taken, step: str, outcome: task_pb2.Outcome, attempt: int = 1, **more: object) -> StepResult:
    return StepResult(
        operation=taken.operation,
        machine=taken.machine,
        region=taken.region,
        step=step,
        outcome=outcome,
        fence=taken.fence,
        attempt=attempt,
        at_us=now_us(),
        **more,  # type: ignore[arg-type]
    )


async def operation_of(bench: Bench, taken: Taken) -> operation_pb2.Operation:
    request = pb.GetOperationRequest(id=taken.operation)
    return (await bench.service.get_operation(request, bench.tenant)).operation


async def begun(bench: Bench) -> Taken:
    provision = await bench.provision(await bench.register_anything())
    return await taken(bench, provision.operation.id)


async def active(bench: Bench) -> Taken:
    """A machine that is on, with the operation that made it."""
    provision = await begun(bench)
    for step in STEPS:
        await bench.saver.save(result(provision, step, DONE))
    return provision


@pytest.mark.parametrize("seed", range(3))
async def test_in_any_order_and_twice_the_outcome_is_the_same(bench: Bench, seed: int) -> None:
    run = await begun(bench)
    results = [result(run, step, outcome) for step in STEPS for outcome in (STARTED, DONE)] * 2
    random.Random(seed).shuffle(results)
    await asyncio.gather(*[bench.saver.save(each) for each in results])
    operation = await operation_of(bench, run)
    assert operation.state == SUCCEEDED
    assert {step.state for step in operation.steps} == {operation_pb2.STEP_STATE_DONE}
    assert (await bench.machine(run.machine)).state == ACTIVE
    endings = await bench.pool.fetchval(
        "SELECT count(*) FROM control.machine_events WHERE machine = $1 AND state = $2", run.machine, model.ACTIVE
    )
    assert endings == 1


async def test_an_executor_that_lost_its_machine_is_not_listened_to(bench: Bench) -> None:
    first = await begun(bench)
    await bench.saver.save(result(first, STEPS[0], DONE))
    await bench.pool.execute("UPDATE control.operations SET hold_until = '-infinity'")
    second = await taken(bench, first.operation, 2)
    assert second.done == {STEPS[0]}
    assert second.fence == first.fence + 1
    await bench.saver.save(result(first, STEPS[1], OUTCOME_FAILED, reason="BMC_UNREACHABLE", message="no answer"))
    assert (await operation_of(bench, second)).state == operation_pb2.OPERATION_STATE_RUNNING
    await bench.saver.save(result(second, STEPS[1], DONE))
    assert [step.state for step in (await operation_of(bench, second)).steps[:3]] == [
        operation_pb2.STEP_STATE_DONE,
        operation_pb2.STEP_STATE_DONE,
        operation_pb2.STEP_STATE_WAITING,
    ]


async def test_what_comes_after_the_end_changes_nothing(bench: Bench) -> None:
    run = await begun(bench)
    failed = result(run, STEPS[0], OUTCOME_FAILED, reason="BMC_UNREACHABLE", message="no answer")
    await bench.saver.save(failed)
    before = (await operation_of(bench, run), await bench.machine(run.machine))
    assert (before[0].state, before[1].state) == (operation_pb2.OPERATION_STATE_FAILED, FAILED)
    for late in (failed, *(result(run, step, DONE, 9) for step in STEPS)):
        await bench.saver.save(late)
    assert (await operation_of(bench, run), await bench.machine(run.machine)) == before


async def test_a_step_tells_deadline_reason_and_evidence(bench: Bench) -> None:
    run = await begun(bench)
    deadline = now_us() + 7_000_000
    await bench.saver.save(result(run, STEPS[0], STARTED, deadline_us=deadline))
    machine = await bench.machine(run.machine)
    assert machine.state_deadline.ToMicroseconds() == deadline
    assert machine.state_reason == "Asking the BMC for the power state; next is power-off"
    retrying = result(run, STEPS[0], task_pb2.OUTCOME_RETRYING, message="BMC x does not answer; attempt 2 follows")
    await bench.saver.save(retrying)
    machine = await bench.machine(run.machine)
    assert machine.state_reason == ("Asking the BMC for the power state: BMC x does not answer; attempt 2 follows")
    await bench.saver.save(result(run, STEPS[0], DONE, 2, evidence="power=on"))
    machine = await bench.machine(run.machine)
    assert (machine.status.power, machine.status.evidence) == ("on", "power=on")
    assert machine.status.power_read_time.seconds > 0


async def test_a_late_result_does_not_hide_what_was_seen_after_it(bench: Bench) -> None:
    run = await begun(bench)
    early = [
        result(run, model.READ_POWER, STARTED),
        result(run, model.READ_POWER, DONE, evidence="power=off"),
        result(run, model.SET_BOOT_DEVICE, DONE, evidence="bootdev=network"),
    ]
    await bench.saver.save(result(run, model.POWER_ON, DONE, evidence="power=on"))
    await bench.saver.save(result(run, model.WAIT_PHONE_HOME, STARTED))
    before = await bench.machine(run.machine)
    for late in early:
        await bench.saver.save(late)
    assert await bench.machine(run.machine) == before
    assert (before.status.power, before.status.evidence) == ("on", "power=on")
    steps = {step.name: step.state for step in (await operation_of(bench, run)).steps}
    assert steps[model.READ_POWER] == steps[model.SET_BOOT_DEVICE] == operation_pb2.STEP_STATE_DONE


async def test_results_of_nothing_that_is_known_are_dropped(bench: Bench) -> None:
    run = await begun(bench)
    unknown = result(run, "another-step", DONE)
    await bench.saver.save(unknown)
    unknown.operation = new_id()
    await bench.saver.save(unknown)
    assert {step.state for step in (await operation_of(bench, run)).steps} == {operation_pb2.STEP_STATE_WAITING}


async def test_an_operation_is_taken_by_one_at_a_time(bench: Bench) -> None:
    provision = await bench.provision(await bench.register_anything())
    store = PostgresTaskStore(Database(bench.pool), bench.box, bench.changes, now_us)
    answers = await asyncio.gather(*[store.take(provision.operation.id, message, 15) for message in (7, 7, 8, 8)])
    winners = [each for each in answers if isinstance(each, Taken)]
    assert len(winners) == 1
    others = sorted(each for each in answers if isinstance(each, Ending))
    assert others == [Ending.BUSY, Ending.DUPLICATE, Ending.DUPLICATE]
    await store.let_go(winners[0], undone=True)
    again = await store.take(provision.operation.id, 9, 15)
    assert isinstance(again, Taken)
    assert (again.fence, again.runs) == (winners[0].fence + 1, 1)
    assert await store.take(new_id(), 1, 15) is Ending.UNKNOWN


async def test_a_hold_lasts_as_long_as_the_longest_that_was_asked_for(bench: Bench) -> None:
    run = await begun(bench)
    store = PostgresTaskStore(Database(bench.pool), bench.box, bench.changes, now_us)
    await store.hold(run, 60)
    await store.hold(run, 1)
    left = "SELECT extract(epoch FROM hold_until - now()) FROM control.operations"
    assert await bench.pool.fetchval(left) > 50
    await store.hold(run, 1, shorten=True)
    assert await bench.pool.fetchval(left) < 2
    await bench.pool.execute("UPDATE control.machines SET fence = fence + 1")
    with pytest.raises(Fenced):
        await store.hold(run, 1)


async def test_a_machine_is_not_taken_while_a_run_of_another_operation_holds_it(bench: Bench) -> None:
    run = await begun(bench)
    store = PostgresTaskStore(Database(bench.pool), bench.box, bench.changes, now_us)
    await bench.saver.save(result(run, STEPS[0], OUTCOME_FAILED, reason="BMC_UNREACHABLE", message="no answer"))
    decommission = await bench.decommission(run.machine)
    assert await store.take(decommission.id, 2, 15) is Ending.BUSY
    await store.let_go(run, undone=False, unsure=True)
    assert await store.take(decommission.id, 2, 15) is Ending.BUSY
    await store.let_go(run, undone=False)
    assert isinstance(await store.take(decommission.id, 2, 15), Taken)


async def test_history_counts_every_attempt_once(bench: Bench) -> None:
    run = await begun(bench)
    outcomes = list(
        itertools.chain.from_iterable(
            [(STARTED, attempt), (task_pb2.OUTCOME_RETRYING, attempt)] for attempt in (1, 2, 3)
        )
    )
    for outcome, attempt in outcomes + outcomes:
        await bench.saver.save(result(run, STEPS[0], outcome, attempt))
    events = await bench.pool.fetchval("SELECT count(*) FROM control.machine_events WHERE machine = $1", run.machine)
    assert events == 1 + 3
    assert (await operation_of(bench, run)).steps[0].attempts == 3


class Deadly(Changes):
    """Bumps; at one of them whoever bumps is killed."""

    def __init__(self, etcd: EtcdClient, at: int) -> None:
        super().__init__(etcd)
        self.left = at

    def bump(self, *identifiers: str) -> None:
        super().bump(*identifiers)
        self.left -= 1
        if self.left == 0:
            raise asyncio.CancelledError


async def released_up_to_the_claim(bench: Bench) -> tuple[Taken, StepResult]:
    """A decommission whose hardware part is done, and the last result, which is not saved yet."""
    run = await taken_back(bench, await active(bench))
    await bench.saver.save(result(run, model.SOFT_POWER_OFF, DONE))
    return run, result(run, model.POWER_OFF, DONE)


@pytest.mark.parametrize("moment", [1, 2, 3])
async def test_a_saver_that_is_killed_while_it_gives_the_claim_back_is_followed_by_another(
    bench: Bench, etcd: EtcdClient, moment: int
) -> None:
    run, last = await released_up_to_the_claim(bench)
    deadly = ResultSaver(Database(bench.pool), bench.claims, bench.names, Deadly(etcd, moment), now_us)
    with contextlib.suppress(asyncio.CancelledError):
        await deadly.save(last)
    await bench.saver.save(last)
    assert (await operation_of(bench, run)).state == SUCCEEDED
    machine = await bench.machine(run.machine)
    assert machine.state == machine_pb2.MACHINE_STATE_DECOMMISSIONED
    assert machine.state_reason == "It is off, and its claim was given back"


async def test_a_release_whose_results_are_lost_is_not_forgotten(bench: Bench) -> None:
    run, last = await released_up_to_the_claim(bench)
    bench.claims.failures = [Unavailable("the resource service restarts")]
    with pytest.raises(Unavailable):
        await bench.saver.save(last)
    retrying = await bench.machine(run.machine)
    assert retrying.state_deadline.ToMicroseconds() > now_us()
    # Nobody sends the result again; the sweeper asks an executor to, once that is long overdue.
    overdue = now_us() - 3600 * SECOND
    await bench.pool.execute("UPDATE control.operations SET publish_us = $1, hold_until = '-infinity'", overdue)
    await bench.pool.execute("UPDATE control.machines SET state_deadline_us = $1", overdue)
    assert await bench.outbox.sweep() == 1
    again = await taken(bench, run.operation, 2)
    await bench.saver.save(result(again, "", DONE))
    assert (await operation_of(bench, run)).state == SUCCEEDED


SECRETS = ("192.0.2.1", "admin")


def check_is_neutral(bench: Bench, machine: machine_pb2.Machine) -> str:
    """The reason of the one quarantine: every tenant may read it, so it tells nothing of whose machine it was."""
    [(provider, reason)] = bench.claims.quarantined
    assert provider == machine.provider
    private = (machine.id, machine.claim, machine.project, bench.tenant.account, bench.operator.account, *SECRETS)
    assert [each for each in private if each in reason] == []
    return reason


async def test_a_quarantine_for_hardware_that_failed_tells_no_tenant_of_another(bench: Bench) -> None:
    run = await taken_back(bench, await active(bench))
    message = f"BMC {SECRETS[0]} refused the password of user {SECRETS[1]}"
    refused = result(run, model.POWER_OFF, OUTCOME_FAILED, reason="BMC_REFUSED_CREDENTIALS", message=message)
    await bench.saver.save(refused)
    machine = await bench.machine(run.machine)
    assert "BMC_REFUSED_CREDENTIALS" in check_is_neutral(bench, machine)
    assert message in machine.state_reason


async def test_a_quarantine_for_a_fault_tells_no_tenant_of_another(bench: Bench) -> None:
    provision = await begun(bench)
    message = f"BMC {SECRETS[0]} took the power command on and did not follow"
    lied = result(provision, model.POWER_ON, OUTCOME_FAILED, reason="BMC_STATE_NOT_REACHED", message=message)
    await bench.saver.save(lied)
    run = await taken_back(bench, provision)
    for step in (model.SOFT_POWER_OFF, model.POWER_OFF):
        await bench.saver.save(result(run, step, DONE))
    machine = await bench.machine(run.machine)
    assert machine.state == machine_pb2.MACHINE_STATE_DECOMMISSIONED
    assert "BMC_STATE_NOT_REACHED" in check_is_neutral(bench, machine)
    assert message in machine.state_reason


async def test_hardware_is_suspect_until_a_provision_succeeds(bench: Bench) -> None:
    provision = await begun(bench)
    lied = result(
        provision, model.POWER_ON, OUTCOME_FAILED, reason="BMC_STATE_NOT_REACHED", message="it did not follow"
    )
    await bench.saver.save(lied)
    run = await taken_back(bench, provision)
    stopped = result(run, model.SOFT_POWER_OFF, OUTCOME_FAILED, reason="TASK_ATTEMPTS_EXHAUSTED", message="no end")
    await bench.saver.save(stopped)
    run = await taken_back(bench, run)
    for step in (model.SOFT_POWER_OFF, model.POWER_OFF):
        await bench.saver.save(result(run, step, DONE))
    assert "BMC_STATE_NOT_REACHED" in check_is_neutral(bench, await bench.machine(run.machine))


async def test_a_quarantine_after_force_tells_nobody_who_used_it(bench: Bench) -> None:
    provision = await active(bench)
    request = pb.DecommissionRequest(request_id=new_id(), machine=provision.machine, force=True)
    operation = (await bench.service.decommission(request, bench.operator)).operation
    nothing_left = StepResult(operation=operation.id, machine=operation.machine, fence=provision.fence + 1)
    await bench.saver.save(nothing_left)
    machine = await bench.machine(operation.machine)
    assert "by force" in check_is_neutral(bench, machine)
    assert machine.state_reason == "It was removed by force and may still be on; its claim was given back"
