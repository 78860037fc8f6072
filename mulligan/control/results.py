"""Saves what executors saw, and ends operations: in order, once, and never by an executor that lost its machine."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol
from uuid import UUID, uuid5

import asyncpg

from mulligan.api.internal.v1 import task_pb2
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import SECOND, Clock
from mulligan.control import model, store
from mulligan.control.changes import Changes
from mulligan.control.model import Machine, Operation, Step
from mulligan.errors import FailedPrecondition, MulliganError, NotFound
from mulligan.meta.names import NameStore

log = logging.getLogger(__name__)

# What the machine's state_reason says while a step runs.
DOING: Final[Mapping[str, str]] = {
    model.READ_POWER: "Asking the BMC for the power state",
    model.SOFT_POWER_OFF: "Asking the operating system to shut down",
    model.POWER_OFF: "Powering the machine off",
    model.SET_BOOT_DEVICE: "Setting the next boot to come from the network",
    model.POWER_ON: "Powering the machine on",
    model.WAIT_PHONE_HOME: "Waiting for the machine to fetch its boot script and phone home",
    model.VERIFY_POWER: "Checking that the machine is still on",
    model.RELEASE_CLAIM: "Giving the claim back",
}

# Each attempt at a release has so long; the pauses between two are shorter. Later its task is put on the queue again.
RELEASE_DEADLINE_S: Final = 300

_STEP_STATES: Final = {
    task_pb2.OUTCOME_STARTED: model.STEP_RUNNING,
    task_pb2.OUTCOME_RETRYING: model.STEP_RETRYING,
    task_pb2.OUTCOME_DONE: model.STEP_DONE,
    task_pb2.OUTCOME_FAILED: model.STEP_FAILED,
}
# Within one attempt of a step, later outcomes count for more.
_RANKS: Final = {
    task_pb2.OUTCOME_STARTED: 1,
    task_pb2.OUTCOME_RETRYING: 2,
    task_pb2.OUTCOME_DONE: 3,
    task_pb2.OUTCOME_FAILED: 3,
}
_HARDWARE_REASONS: Final = frozenset(
    {"BMC_UNREACHABLE", "BMC_REFUSED_CREDENTIALS", "BMC_STATE_NOT_REACHED", "BMC_COMMAND_FAILED"}
)
# After these a working power switch says nothing about the rest of the machine.
_LASTING_REASONS: Final = frozenset({"BMC_STATE_NOT_REACHED", "BMC_COMMAND_FAILED"})
# How the fault of hardware that failed begins.
_CODE = re.compile(r"([A-Z_]+): ")
_POWER = re.compile(r"\bpower=(on|off)\b")


class Resources(Protocol):
    """What the results service asks the resource service. Every call may be repeated with the same request id."""

    async def release_claim(self, region: str, claim: str, request_id: str) -> None:
        """Ends the claim; raises NotFound or FailedPrecondition when it has ended by itself."""

    async def quarantine(self, region: str, provider: str, reason: str, request_id: str) -> None:
        """Takes the provider out of placement until an operator says otherwise; raises NotFound."""


class ResultSaver:
    """Saves step results of any shard."""

    def __init__(
        self, database: store.Database, resources: Resources, names: NameStore, changes: Changes, clock: Clock
    ) -> None:
        self._database = database
        self._resources = resources
        self._names = names
        self._changes = changes
        self._clock = clock
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    async def save(self, result: StepResult) -> None:
        """Returns when the result and all that follows from it is stored; raises when it has to come again."""
        async with self._turn(result.operation):
            try:
                operation = await self._apply(result)
                if operation is None:
                    log.error(
                        "operation=%s is not known; its result for step=%s is lost", result.operation, result.step
                    )
                elif not operation.done:
                    await self._end_if_due(operation)
            finally:
                self._changes.bump(result.operation, result.machine)

    @asynccontextmanager
    async def _turn(self, operation: str) -> AsyncIterator[None]:
        """Results of one operation are saved one after another, as they came."""
        lock, waiting = self._turns.get(operation, (asyncio.Lock(), 0))
        self._turns[operation] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(operation)
            if waiting > 1:
                self._turns[operation] = (lock, waiting - 1)

    async def _apply(self, result: StepResult) -> Operation | None:
        """Saves the step unless something newer is known; returns the operation as it is then."""
        async with self._database.writing() as connection:
            operation = await store.find_operation(connection, result.operation, lock=True)
            if operation is None or operation.done or result.fence < operation.hold_fence or not result.step:
                return operation
            position = next((at for at, step in enumerate(operation.steps) if step.name == result.step), None)
            if position is None:
                log.error("operation=%s has no step=%s", operation.id, result.step)
                return operation
            step = _told(operation.steps[position], result)
            told = (result.fence, result.attempt, _RANKS.get(result.outcome, 0))
            if not await store.save_step(connection, operation.id, position, step, told):
                return operation
            steps = [*operation.steps[:position], step, *operation.steps[position + 1 :]]
            operation = replace(operation, state=model.RUNNING, steps=steps)
            if result.outcome == task_pb2.OUTCOME_FAILED:
                operation = replace(
                    operation, error_reason=result.reason, error_message=result.message, error_step=result.step
                )
            await store.save_operation(connection, operation)
            await self._tell_machine(connection, operation, position, result)
        return operation

    async def _tell_machine(
        self, connection: asyncpg.Connection, operation: Operation, position: int, result: StepResult
    ) -> None:
        """Shows on the machine what the result tells, unless something later is known."""
        machine = await store.find_machine(connection, operation.machine, lock=True)
        if machine is None or machine.operation != operation.id:
            return
        power = _POWER.search(result.evidence)
        if power and result.at_us >= (machine.power_read_us or 0):
            machine = replace(machine, power=power.group(1), power_read_us=result.at_us)
        late = any(step.state != model.STEP_WAITING for step in operation.steps[position + 1 :])
        if result.evidence and not late:
            machine = replace(machine, evidence=result.evidence)
        if result.outcome in (task_pb2.OUTCOME_STARTED, task_pb2.OUTCOME_RETRYING) and not late:
            machine = replace(
                machine,
                state_reason=_reason(operation, position, result),
                state_deadline_us=result.deadline_us or machine.state_deadline_us,
            )
        await store.save_machine(connection, machine)
        if result.outcome != task_pb2.OUTCOME_STARTED:
            seen = replace(machine, evidence=result.evidence or machine.evidence)
            await store.record_event(connection, seen, result.at_us)

    async def _end_if_due(self, operation: Operation) -> None:
        if operation.error_reason:
            return await self._fail(operation)
        left = {step.name for step in operation.steps if step.state != model.STEP_DONE}
        if operation.kind == model.DECOMMISSION and left <= {model.RELEASE_CLAIM}:
            return await self._release(operation)
        if operation.kind == model.PROVISION and not left:
            await self._finish(operation, model.ACTIVE, "It phoned home and is on")
        return None

    async def _fail(self, operation: Operation) -> None:
        """The operation failed; hardware that could not be switched off is kept from everybody."""
        reason, message = operation.error_reason, operation.error_message
        decommission = operation.kind == model.DECOMMISSION
        if decommission and reason in _HARDWARE_REASONS:
            await self._quarantine(await self._machine(operation), operation.id, f"{reason}: {message}")

        def failed(machine: Machine) -> Machine:
            suspect = not decommission and _is_lasting(reason, machine)
            advice = "The claim is kept: provision it again, or decommission the machine"
            fault = f"{reason}: {message}" if suspect else machine.fault
            return replace(machine, fault=fault, state_reason=f"{message}. {advice}")

        await self._conclude(operation, model.OPERATION_FAILED, model.FAILED, failed)

    async def _finish(self, operation: Operation, state: int, reason: str) -> None:
        await self._conclude(
            operation, model.OPERATION_SUCCEEDED, state, lambda each: replace(each, fault="", state_reason=reason)
        )

    async def _conclude(
        self, operation: Operation, ending: int, state: int, changed: Callable[[Machine], Machine]
    ) -> None:
        """Ends the operation and lets its machine rest in a state in which nothing is netbooted; once."""
        now = self._clock()
        async with self._database.writing() as connection:
            current = await store.find_operation(connection, operation.id, lock=True)
            machine = await store.find_machine(connection, operation.machine, lock=True)
            if current is None or current.done or machine is None:
                return
            if state == model.DECOMMISSIONED:
                await _save_release(connection, current, model.STEP_DONE, "", now)
            await store.save_operation(connection, replace(current, state=ending, done_us=now))
            # An active machine is taken back when its claim ends; the other states may last.
            deadline = machine.claim_end_us if state == model.ACTIVE else None
            rested = replace(
                changed(machine), state=state, state_since_us=now, state_deadline_us=deadline, netboot_us=None
            )
            await store.save_machine(connection, rested)
            await store.record_event(connection, rested, now)

    async def _release(self, operation: Operation) -> None:
        """The last step of a decommission: suspect hardware is quarantined, the claim and the name are freed."""
        machine = await self._machine(operation)
        await self._tell_release(operation, model.STEP_RUNNING, "")
        try:
            if machine.fault:
                await self._quarantine(machine, operation.id, machine.fault)
            await self._release_claim(machine, operation.id)
            await self._names.remove(machine.id)
        except MulliganError as error:
            await self._tell_release(operation, model.STEP_RETRYING, f"{error.message}; it is tried again")
            raise
        await self._finish(operation, model.DECOMMISSIONED, _given_back(operation, machine))

    async def _tell_release(self, operation: Operation, state: int, message: str) -> None:
        """Shows how far the release is; whoever dies in it leaves the step undone."""
        async with self._database.writing() as connection:
            current = await store.find_operation(connection, operation.id, lock=True)
            if current is None or current.done:
                return
            await _save_release(connection, current, state, message, self._clock())
            await store.save_operation(connection, current)
            machine = await store.find_machine(connection, current.machine, lock=True)
            if machine is not None:
                reason = message or DOING[model.RELEASE_CLAIM]
                deadline = self._clock() + RELEASE_DEADLINE_S * SECOND
                releasing = replace(machine, state_reason=reason, state_deadline_us=deadline)
                await store.save_machine(connection, releasing)
        self._changes.bump(operation.id, operation.machine)

    async def _release_claim(self, machine: Machine, operation_id: str) -> None:
        try:
            await self._resources.release_claim(machine.region, machine.claim, operation_id)
        except (NotFound, FailedPrecondition) as error:
            log.info("claim=%s needs no release: %s", machine.claim, error)

    async def _quarantine(self, machine: Machine, operation_id: str, why: str) -> None:
        log.warning("provider=%s machine=%s is quarantined: %s", machine.provider, machine.id, why)
        reason = _public_reason(why)
        # The text counts: one of another version's is another request.
        request_id = str(uuid5(UUID(operation_id), f"quarantine: {reason}"))
        try:
            await self._resources.quarantine(machine.region, machine.provider, reason, request_id)
        except NotFound:
            log.info("provider=%s is gone and needs no quarantine", machine.provider)

    async def _machine(self, operation: Operation) -> Machine:
        async with self._database.reading() as connection:
            machine = await store.find_machine(connection, operation.machine)
        if machine is None:
            raise NotFound(f"machine {operation.machine} of operation {operation.id} is gone")
        return machine


async def _save_release(
    connection: asyncpg.Connection, operation: Operation, state: int, message: str, now_us: int
) -> None:
    """The last step of a decommission, in the transaction that has locked it."""
    position = len(operation.steps) - 1
    former = operation.steps[position]
    step = replace(
        former,
        state=state,
        attempts=former.attempts + (state == model.STEP_RUNNING),
        start_us=former.start_us or now_us,
        done_us=now_us if state == model.STEP_DONE else None,
        message=message,
    )
    await store.save_step(connection, operation.id, position, step, (operation.hold_fence, now_us, 0))


def _told(step: Step, result: StepResult) -> Step:
    """The step after the result."""
    state = _STEP_STATES.get(result.outcome, step.state)
    return replace(
        step,
        state=state,
        attempts=result.attempt,
        start_us=step.start_us or result.at_us,
        done_us=result.at_us if state in (model.STEP_DONE, model.STEP_FAILED) else None,
        evidence=result.evidence or step.evidence,
        message=result.message,
    )


def _reason(operation: Operation, position: int, result: StepResult) -> str:
    doing = DOING.get(result.step, result.step)
    if result.outcome == task_pb2.OUTCOME_RETRYING:
        return f"{doing}: {result.message}"
    following = operation.steps[position + 1 : position + 2]
    return f"{doing}; next is {following[0].name}" if following else doing


def _given_back(operation: Operation, machine: Machine) -> str:
    """Why a decommissioned machine is so, with what is known of its hardware."""
    if all(step.name == model.RELEASE_CLAIM for step in operation.steps):
        return "It was removed by force and may still be on; its claim was given back"
    told = "It is off, and its claim was given back"
    return f"{told}; its provider is quarantined, for {machine.fault}" if machine.fault else told


def _public_reason(fault: str) -> str:
    """Of a fault what every tenant may read: nothing of the machine, its project, its BMC or who did it."""
    code = _CODE.match(fault)
    what = f"Its hardware failed: {code[1]}" if code else "A machine was removed from it by force and may still be on"
    return f"{what}. Operators find more at the last machine on it, and put it back once it is mended"


def _is_lasting(reason: str, machine: Machine) -> bool:
    """Whether the hardware stays suspect although its power switch may work."""
    return reason in _LASTING_REASONS or (reason == "PHONE_HOME_MISSING" and machine.boot_script_us is None)
