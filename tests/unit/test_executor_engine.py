"""The engine and its steps, on a machine in memory: what is commanded, told and given up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from mulligan.api.internal.v1 import task_pb2
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import SECOND
from mulligan.control import model
from mulligan.control.model import DECOMMISSION
from mulligan.executor import run
from mulligan.executor.drivers import BmcTarget, Power, PowerCommand
from mulligan.executor.engine import MAX_RUNS, POWER_ONS_PER_REGION, Ending
from mulligan.executor.model import HomeStatus
from mulligan.executor.run import PLANS
from tests.unit.executor_world import BMC, START_US, MemoryBmc, MemoryTasks, engine, with_password
from tests.waiting import eventually

PROVISION_STEPS = list(model.PLANS[model.PROVISION])


def test_executors_do_every_planned_step_but_the_release() -> None:
    for kind, steps in PLANS.items():
        planned = [name for name in model.PLANS[kind] if name != model.RELEASE_CLAIM]
        assert [step.name for step in steps] == planned


async def test_provision_of_a_machine_that_is_off() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc()
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    assert bmc.commands == ["boot network", "on"]
    assert tasks.told(task_pb2.OUTCOME_DONE) == PROVISION_STEPS
    assert tasks.netboots == 1
    assert {result.fence for result in tasks.results} == {1}
    assert tasks.results[-1].evidence == "power=on"
    assert tasks.results[-3].evidence == "phoned home from 10.9.9.9"


async def test_a_machine_that_runs_is_switched_off_before_it_is_netbooted() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(power=Power.ON)
    await engine(tasks, bmc).run("operation", 1)
    assert bmc.commands == ["off", "boot network", "on"]


async def test_steps_tell_their_deadlines() -> None:
    tasks = MemoryTasks()
    await engine(tasks, MemoryBmc()).run("operation", 1)
    waits = [r for r in tasks.results if r.step == model.WAIT_PHONE_HOME and r.outcome == task_pb2.OUTCOME_STARTED]
    assert [result.deadline_us for result in waits] == [START_US + 600 * SECOND]


@pytest.mark.parametrize("dies_after", range(1, 12))
async def test_whatever_result_it_dies_after_another_engine_ends_the_work_with_each_command_given_once(
    dies_after: int,
) -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc()

    def die(result: StepResult) -> None:
        if len(tasks.results) == dies_after:
            raise asyncio.CancelledError

    tasks.on_result = die
    with pytest.raises(asyncio.CancelledError):
        await engine(tasks, bmc).run("operation", 1)
    tasks.on_result = lambda result: None
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    assert sorted(bmc.commands).count("on") == 1
    assert tasks.done == set(PROVISION_STEPS)
    # The machine's one boot from the network is not used up by a second power-on.
    assert tasks.netboots == 1


async def test_steps_that_are_done_are_not_repeated() -> None:
    tasks, bmc = MemoryTasks(done={"read-power", "power-off", "set-boot-device"}), MemoryBmc()
    await engine(tasks, bmc).run("operation", 1)
    assert bmc.commands == ["on"]


async def test_a_wrong_password_fails_at_once() -> None:
    tasks, bmc = MemoryTasks(bmc=with_password(b"wrong")), MemoryBmc()
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    assert [result.outcome for result in tasks.results] == [task_pb2.OUTCOME_STARTED, task_pb2.OUTCOME_FAILED]
    assert tasks.results[-1].reason == "BMC_REFUSED_CREDENTIALS"
    assert tasks.clock.slept == []


async def test_a_silent_bmc_is_asked_again_after_growing_pauses() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(silent_for=2)
    await engine(tasks, bmc).run("operation", 1)
    assert tasks.told(task_pb2.OUTCOME_RETRYING) == ["read-power", "read-power"]
    assert tasks.clock.slept[:2] == [1.0, 2.0]
    assert "attempt 2 of 3 follows in 1 s" in tasks.results[1].message
    assert tasks.done == set(PROVISION_STEPS)


async def test_a_bmc_that_stays_silent_fails_the_operation() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(silent_for=99)
    await engine(tasks, bmc).run("operation", 1)
    last = tasks.results[-1]
    assert (last.outcome, last.reason, last.attempt) == (task_pb2.OUTCOME_FAILED, "BMC_UNREACHABLE", 3)
    assert "(tried 3 times)" in last.message
    assert bmc.commands == []


async def test_attempts_before_a_crash_count() -> None:
    tasks, bmc = MemoryTasks(attempts={"read-power": 3}), MemoryBmc(silent_for=1)
    await engine(tasks, bmc).run("operation", 1)
    assert tasks.results[-1].reason == "BMC_UNREACHABLE"


async def test_power_that_is_not_reached_is_no_success() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(ignores={PowerCommand.ON})
    await engine(tasks, bmc).run("operation", 1)
    last = tasks.results[-1]
    assert (last.step, last.reason, last.evidence) == ("power-on", "BMC_STATE_NOT_REACHED", "power=off")
    assert "10.1.2.3:623 took the power command on but still says that power is off after 30 s" in last.message
    assert tasks.clock.now_us - START_US >= 3 * 30 * SECOND


async def test_a_boot_device_that_does_not_stick_is_no_success() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(keeps_boot_device=True)
    await engine(tasks, bmc).run("operation", 1)
    assert (tasks.results[-1].step, tasks.results[-1].reason) == ("set-boot-device", "BMC_STATE_NOT_REACHED")
    assert "on" not in bmc.commands


@pytest.mark.parametrize(
    ("home", "told"),
    [
        (HomeStatus(), "did not ask for its boot script within 600 s"),
        (HomeStatus(boot_script_us=START_US), "fetched its boot script but did not phone home within 600 s"),
    ],
)
async def test_a_machine_that_never_phones_home(home: HomeStatus, told: str) -> None:
    tasks, bmc = MemoryTasks(home=home), MemoryBmc()
    await engine(tasks, bmc).run("operation", 1)
    last = tasks.results[-1]
    assert (last.step, last.reason, last.attempt) == ("wait-phone-home", "PHONE_HOME_MISSING", 1)
    assert told in last.message
    assert tasks.clock.now_us == START_US + 600 * SECOND


async def test_the_wait_for_home_goes_on_where_it_was() -> None:
    done = {"read-power", "power-off", "set-boot-device", "power-on"}
    tasks = MemoryTasks(done=done, home=HomeStatus(), started_us={"wait-phone-home": START_US - 500 * SECOND})
    await engine(tasks, MemoryBmc(power=Power.ON)).run("operation", 1)
    assert tasks.clock.now_us == START_US + 100 * SECOND


async def test_a_lost_fence_stops_it_before_the_next_command() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc()

    def take_over(result: StepResult) -> None:
        if result.step == "power-on":
            tasks.fence += 1

    tasks.on_result = take_over
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FENCED
    assert bmc.commands == ["boot network"]


async def test_a_second_delivery_while_it_is_worked_on_touches_nothing() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc()
    seen: list[Ending] = []

    async def deliver_again(message: int) -> None:
        seen.append(await engine(tasks, bmc).run("operation", message))

    deliveries: list[asyncio.Task[None]] = []

    def on_command(command: str) -> None:
        deliveries.extend(asyncio.ensure_future(deliver_again(message)) for message in (1, 2))

    bmc.on_command = on_command
    bmc.ignores = {PowerCommand.ON}
    await engine(tasks, bmc, step_attempts=1).run("operation", 1)
    await asyncio.gather(*deliveries)
    assert seen[:2] == [Ending.BUSY, Ending.DUPLICATE]
    assert tasks.runs == 1


async def test_an_operation_that_ended_is_not_worked_on() -> None:
    tasks, bmc = MemoryTasks(ended=True), MemoryBmc()
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    assert (tasks.results, bmc.commands) == ([], [])


async def test_a_task_that_kills_executors_is_given_up() -> None:
    tasks, bmc = MemoryTasks(runs=MAX_RUNS, done={"read-power"}), MemoryBmc()
    assert await engine(tasks, bmc).run("operation", 1) is Ending.EXHAUSTED
    assert [(r.step, r.reason) for r in tasks.results] == [("power-off", "TASK_ATTEMPTS_EXHAUSTED")]
    assert bmc.commands == []


async def test_a_run_that_was_cancelled_does_not_count() -> None:
    tasks, bmc = MemoryTasks(home=HomeStatus()), MemoryBmc()
    working = asyncio.Event()

    def wait(result: StepResult) -> None:
        working.set()

    tasks.on_result = wait
    task = asyncio.ensure_future(engine(tasks, bmc).run("operation", 1))
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tasks.runs, tasks.held_by) == (0, None)


@dataclass
class HangingBmc(MemoryBmc):
    """Never answers a power command."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def set_power(self, bmc: BmcTarget, command: PowerCommand, timeout_s: float) -> None:
        self.asked.set()
        await asyncio.get_running_loop().create_future()


async def test_a_machine_stays_held_while_a_command_may_come_into_force() -> None:
    tasks, bmc = MemoryTasks(), HangingBmc()
    task = asyncio.ensure_future(engine(tasks, bmc).run("operation", 1))
    await bmc.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tasks.runs, tasks.held_by) == (0, 1)


async def test_a_fault_in_a_driver_is_told_and_tried_again() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc()
    faults = [ZeroDivisionError()]

    def stumble(command: str) -> None:
        if faults:
            raise faults.pop()

    bmc.on_command = stumble
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    retries = [result for result in tasks.results if result.outcome == task_pb2.OUTCOME_RETRYING]
    assert [(result.step, result.reason) for result in retries] == [("set-boot-device", "INTERNAL")]
    assert tasks.done == set(PROVISION_STEPS)


async def test_a_machine_that_waits_for_others_to_power_on_has_its_whole_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The time of an attempt at power-on: over as soon as it waits for anything.
    monkeypatch.setattr(run, "GRACE_S", -90.0)
    tasks, bmc = MemoryTasks(done={"read-power", "power-off", "set-boot-device"}), MemoryBmc()
    working = engine(tasks, bmc)
    gate = working.power_gate("region")
    for _ in range(POWER_ONS_PER_REGION):
        await gate.acquire()
    task = asyncio.ensure_future(working.run("operation", 1))
    await eventually(lambda: "power-on" in tasks.told(task_pb2.OUTCOME_STARTED))
    for _ in range(10):
        await asyncio.sleep(0)
    assert bmc.commands == []
    gate.release()
    await task
    assert "power-on" in tasks.told(task_pb2.OUTCOME_DONE)
    assert "power-on" not in tasks.told(task_pb2.OUTCOME_RETRYING)


async def test_a_store_that_is_away_is_waited_for_and_costs_no_attempt() -> None:
    tasks, bmc = MemoryTasks(unavailable_for=5), MemoryBmc()
    assert await engine(tasks, bmc, step_attempts=1).run("operation", 1) is Ending.FINISHED
    tasks = MemoryTasks()

    def away(result: StepResult) -> None:
        tasks.unavailable_for = 3 if result.step == "power-on" else 0

    tasks.on_result = away
    assert await engine(tasks, MemoryBmc(), step_attempts=1).run("operation", 1) is Ending.FINISHED
    assert tasks.done == set(PROVISION_STEPS)


async def test_a_provider_without_bmc_fails_with_the_reason() -> None:
    tasks = MemoryTasks(bmc=None)
    assert await engine(tasks, MemoryBmc()).run("operation", 1) is Ending.FINISHED
    assert [result.reason for result in tasks.results] == ["", "PROVIDER_HAS_NO_BMC"]


async def test_a_driver_that_it_does_not_have() -> None:
    tasks = MemoryTasks(bmc=replace(BMC, driver="redfish"))
    await engine(tasks, MemoryBmc()).run("operation", 1)
    assert "no driver redfish" in tasks.results[-1].message


async def test_a_bmc_that_is_registered_anew_counts_from_the_next_attempt_on() -> None:
    tasks, bmc = MemoryTasks(), MemoryBmc(silent_for=1, password=b"new")

    def register(result: StepResult) -> None:
        if result.outcome == task_pb2.OUTCOME_RETRYING:
            tasks.bmc = with_password(b"new")

    tasks.on_result = register
    assert await engine(tasks, bmc).run("operation", 1) is Ending.FINISHED
    assert tasks.done == set(PROVISION_STEPS)


async def test_only_the_steps_of_the_operation_are_done() -> None:
    tasks, bmc = MemoryTasks(kind=DECOMMISSION, steps={"release-claim"}), MemoryBmc(power=Power.ON)
    await engine(tasks, bmc).run("operation", 1)
    assert bmc.commands == []
    assert [(result.step, result.fence) for result in tasks.results] == [("", 1)]


async def test_decommission_asks_the_operating_system_first() -> None:
    tasks, bmc = MemoryTasks(kind=DECOMMISSION), MemoryBmc(power=Power.ON)
    await engine(tasks, bmc).run("operation", 1)
    assert bmc.commands == ["soft-off"]
    assert tasks.told(task_pb2.OUTCOME_DONE) == ["soft-power-off", "power-off"]
    assert {result.count for result in tasks.results} == {3}


@pytest.mark.parametrize("listens", ["ignores", "refuses"])
async def test_decommission_forces_what_does_not_listen(listens: str) -> None:
    tasks, bmc = MemoryTasks(kind=DECOMMISSION), MemoryBmc(power=Power.ON)
    setattr(bmc, listens, {PowerCommand.SOFT_OFF})
    await engine(tasks, bmc).run("operation", 1)
    assert bmc.commands == ["soft-off", "off"]
    assert (tasks.results[-1].outcome, tasks.results[-1].evidence) == (task_pb2.OUTCOME_DONE, "power=off")


async def test_decommission_of_a_machine_that_cannot_be_switched_off_fails() -> None:
    tasks = MemoryTasks(kind=DECOMMISSION)
    bmc = MemoryBmc(power=Power.ON, ignores={PowerCommand.SOFT_OFF, PowerCommand.OFF})
    await engine(tasks, bmc).run("operation", 1)
    assert (tasks.results[-1].step, tasks.results[-1].reason) == ("power-off", "BMC_STATE_NOT_REACHED")


async def test_a_decommission_whose_steps_are_done_is_told_to_the_control_service_again() -> None:
    tasks = MemoryTasks(kind=DECOMMISSION, done={"soft-power-off", "power-off"})
    bmc = MemoryBmc()
    await engine(tasks, bmc).run("operation", 1)
    assert [(r.step, r.outcome) for r in tasks.results] == [("", task_pb2.OUTCOME_UNSPECIFIED)]
    assert bmc.commands == []
