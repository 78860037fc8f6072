"""One run of an operation: from the first step that is not done to the last, or to the one that fails."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.api.internal.v1 import task_pb2
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import SECOND, Clock
from mulligan.control import model as control
from mulligan.errors import Unavailable
from mulligan.executor import decommission, provision
from mulligan.executor.drivers import BmcFailure
from mulligan.executor.model import Context, Done, Failed, Fenced, Outcome, Retry, Sleep, Step, Taken

log = logging.getLogger(__name__)

PLANS: Final[Mapping[int, Sequence[Step]]] = {
    control.PROVISION: provision.STEPS,
    control.DECOMMISSION: decommission.STEPS,
}

# Pauses before another attempt at a step: half to all of these, growing.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0

# Pauses while a store is away or the driver is busy, which is no fault of the step's.
STORE_PAUSE_S: Final = 1.0

# What an attempt may take beyond its own deadline, for the stores.
GRACE_S: Final = 15.0


class ResultPublisher(Protocol):
    """Where step results go."""

    async def publish(self, result: StepResult) -> None:
        """Returns when the result is stored; tries for ever."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What runs share."""

    results: ResultPublisher
    settings: Callable[[], ExecutorSettings]
    # Tells this executor in results.
    executor: str
    clock: Clock
    sleep: Sleep = asyncio.sleep
    # 0 to 1.
    jitter: Callable[[], float] = random.random


async def patiently(ask: Callable[[], Awaitable[object]], sleep: Sleep) -> object:
    """What `ask` gives, however long its store is away."""
    while True:
        try:
            return await ask()
        except Unavailable as error:
            log.warning("waiting for a store: %s", error)
            await sleep(STORE_PAUSE_S)


class Run:
    """Works on one operation that was taken."""

    def __init__(
        self,
        taken: Taken,
        tools: Tools,
        context: Callable[[int], Awaitable[Context]],
        power_gate: AbstractAsyncContextManager[object],
    ) -> None:
        """`context` gives what an attempt may use, from when its step began (microseconds).

        `power_gate` is held by attempts that power a machine on; the wait for it is none of their time.
        """
        self._taken = taken
        self._tools = tools
        self._context = context
        self._power_gate = power_gate
        self._plan = PLANS[taken.kind]
        self._count = len(control.PLANS[taken.kind])

    async def work(self) -> None:
        """Returns when the last step is done or one failed, and that is published. Raises Fenced."""
        left = [step for step in self._plan if step.name in self._taken.steps - self._taken.done]
        if not left:
            await self._tell_nothing_left()
        for step in left:
            if not await self._work_on(step):
                return

    async def fail(self, reason: str, message: str) -> None:
        """Ends the operation at the first step that is not done, without trying it."""
        left = self._taken.steps - self._taken.done
        step = next((each for each in self._plan if each.name in left), self._plan[-1])
        attempt = max(1, self._taken.attempts.get(step.name, 0))
        await self._tell(step, task_pb2.OUTCOME_FAILED, attempt, Failed(reason, message))

    async def _work_on(self, step: Step) -> bool:
        """Tries a step until it is done (True), or it fails or no attempt is left (False)."""
        attempt = max(1, self._taken.attempts.get(step.name, 0))
        started_us = self._taken.started_us.get(step.name) or self._tools.clock()
        while True:
            outcome = await self._attempt(step, attempt, started_us)
            most = self._tools.settings().step_attempts
            if isinstance(outcome, Done):
                await self._tell(step, task_pb2.OUTCOME_DONE, attempt, outcome)
                return True
            if isinstance(outcome, Retry) and attempt < most:
                await self._pause(step, attempt, most, outcome)
                attempt += 1
                continue
            if isinstance(outcome, Retry) and attempt > 1:
                outcome = Failed(outcome.reason, f"{outcome.message} (tried {attempt} times)", outcome.evidence)
            await self._tell(step, task_pb2.OUTCOME_FAILED, attempt, outcome)
            return False

    async def _attempt(self, step: Step, attempt: int, started_us: int) -> Outcome:
        seconds = step.deadline_s(self._tools.settings())
        deadline_us = self._tools.clock() + int(seconds * SECOND)
        await self._tell(step, task_pb2.OUTCOME_STARTED, attempt, Done(""), deadline_us)
        while True:
            try:
                async with self._power_gate if step.powers_on else nullcontext(), asyncio.timeout(seconds + GRACE_S):
                    return await step.run(await self._context(started_us))
            except BmcFailure as failure:
                kind = Retry if failure.retryable else Failed
                return kind(failure.reason, failure.message)
            except TimeoutError:
                return Retry("DEADLINE_EXCEEDED", f"{step.name} took longer than {seconds:g} s")
            except Unavailable as error:
                log.warning("operation=%s step=%s waits: %s", self._taken.operation, step.name, error)
                await self._tools.sleep(STORE_PAUSE_S)
            except Fenced:
                raise
            except Exception:
                log.exception("operation=%s step=%s failed", self._taken.operation, step.name)
                message = f"{step.name} met a fault of the executor {self._tools.executor}; its log says which"
                return Retry("INTERNAL", message)

    async def _pause(self, step: Step, attempt: int, most: int, outcome: Retry) -> None:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
        pause_s = longest * (0.5 + 0.5 * self._tools.jitter())
        seconds = pause_s + step.deadline_s(self._tools.settings())
        told = Retry(
            outcome.reason,
            f"{outcome.message}; attempt {attempt + 1} of {most} follows in {max(1, round(pause_s))} s",
            outcome.evidence,
        )
        deadline_us = self._tools.clock() + int(seconds * SECOND)
        await self._tell(step, task_pb2.OUTCOME_RETRYING, attempt, told, deadline_us)
        await self._tools.sleep(pause_s)

    async def _tell_nothing_left(self) -> None:
        """A result of no step: what follows belongs to the control service, and its turn has come."""
        taken, tools = self._taken, self._tools
        result = StepResult(operation=taken.operation, machine=taken.machine, region=taken.region, fence=taken.fence)
        result.at_us, result.count, result.executor = tools.clock(), self._count, tools.executor
        await tools.results.publish(result)

    async def _tell(
        self, step: Step, outcome: task_pb2.Outcome, attempt: int, detail: Outcome, deadline_us: int = 0
    ) -> None:
        result = StepResult(
            operation=self._taken.operation,
            machine=self._taken.machine,
            region=self._taken.region,
            step=step.name,
            outcome=outcome,
            evidence=detail.evidence,
            at_us=self._tools.clock(),
            fence=self._taken.fence,
            index=self._plan.index(step),
            count=self._count,
            executor=self._tools.executor,
            attempt=attempt,
            deadline_us=deadline_us,
        )
        if not isinstance(detail, Done):
            result.reason, result.message = detail.reason, detail.message
        log.info(
            "operation=%s step=%s attempt=%d outcome=%s evidence=%s message=%s",
            result.operation,
            step.name,
            attempt,
            task_pb2.Outcome.Name(outcome),
            result.evidence,
            result.message,
        )
        await self._tools.results.publish(result)
