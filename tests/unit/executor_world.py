"""A machine, its BMC and the task store in memory, and a clock that moves only when somebody sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.api.internal.v1 import task_pb2
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import SECOND
from mulligan.control.model import PLANS, PROVISION
from mulligan.errors import Unavailable
from mulligan.executor.drivers import BmcFailure, BmcTarget, BootDevice, Power, PowerCommand
from mulligan.executor.engine import Ending, Engine
from mulligan.executor.model import Fenced, HomeStatus, Taken
from mulligan.executor.run import Tools

START_US = 1_800_000_000 * SECOND
BMC = BmcTarget("ipmi", "10.1.2.3", 623, "admin", b"secret")


class Clock:
    """Sleeping moves it; nothing else does."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now_us

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_us += int(seconds * SECOND)
        await asyncio.sleep(0)


@dataclass
class MemoryBmc:
    """Obeys the Driver protocol with a machine in memory."""

    power: Power = Power.OFF
    boot: str = "default"
    password: bytes = b"secret"
    # Power commands that it takes and does not carry out.
    ignores: set[PowerCommand] = field(default_factory=set)
    # Commands that it refuses with a completion code.
    refuses: set[PowerCommand] = field(default_factory=set)
    keeps_boot_device: bool = False
    # Questions that get no answer before it answers again.
    silent_for: int = 0
    commands: list[str] = field(default_factory=list)
    # Called with each command before it is carried out.
    on_command: Callable[[str], None] = lambda command: None

    async def read_power(self, bmc: BmcTarget, timeout_s: float) -> Power:
        self._answer(bmc)
        return self.power

    async def set_power(self, bmc: BmcTarget, command: PowerCommand, timeout_s: float) -> None:
        self._answer(bmc)
        self.on_command(command.value)
        self.commands.append(command.value)
        if command in self.refuses:
            raise BmcFailure("BMC_COMMAND_FAILED", f"BMC {bmc.address} refused {command}", retryable=False)
        if command not in self.ignores:
            self.power = Power.ON if command is PowerCommand.ON else Power.OFF

    async def read_boot_device(self, bmc: BmcTarget, timeout_s: float) -> BootDevice:
        self._answer(bmc)
        return BootDevice(self.boot, persistent=False)

    async def set_boot_device(self, bmc: BmcTarget, device: str, timeout_s: float) -> None:
        self._answer(bmc)
        self.on_command(f"boot {device}")
        self.commands.append(f"boot {device}")
        if not self.keeps_boot_device:
            self.boot = device

    def _answer(self, bmc: BmcTarget) -> None:
        if self.silent_for:
            self.silent_for -= 1
            raise BmcFailure("BMC_UNREACHABLE", f"BMC {bmc.address} does not answer", retryable=True)
        if bmc.password != self.password:
            raise BmcFailure("BMC_REFUSED_CREDENTIALS", f"BMC {bmc.address} refused the password", retryable=False)


@dataclass
class MemoryTasks:
    """Obeys the TaskStore protocol for one operation, and saves results as the results service does."""

    kind: int = PROVISION
    bmc: BmcTarget | None = BMC
    fence: int = 0
    runs: int = 0
    ended: bool = False
    held_by: int | None = None
    # The operation's steps; None: all of its kind.
    steps: set[str] | None = None
    done: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    started_us: dict[str, int] = field(default_factory=dict)
    # What the machine tells once its netboot was opened and somebody waits; None: nothing.
    home: HomeStatus = field(default_factory=lambda: HomeStatus(START_US, START_US, "phoned home from 10.9.9.9"))
    netboots: int = 0
    unavailable_for: int = 0
    results: list[StepResult] = field(default_factory=list)
    # Called with each result before it is stored; may raise, as a process that dies.
    on_result: Callable[[StepResult], None] = lambda result: None
    clock: Clock = field(default_factory=Clock)

    async def take(self, operation: str, message: int, hold_s: float) -> Taken | Ending:
        self._answer()
        if self.ended:
            return Ending.FINISHED
        if self.held_by is not None:
            return Ending.BUSY if self.held_by == message else Ending.DUPLICATE
        self.fence += 1
        self.runs += 1
        self.held_by = message
        return Taken(
            operation,
            "machine",
            "region",
            self.kind,
            self.fence,
            self.runs,
            frozenset(PLANS[self.kind] if self.steps is None else self.steps),
            frozenset(self.done),
            dict(self.attempts),
            dict(self.started_us),
        )

    async def hold(self, taken: Taken, hold_s: float, *, shorten: bool = False) -> None:
        self._answer()
        self._check(taken)

    async def let_go(self, taken: Taken, undone: bool, unsure: bool) -> None:
        if taken.fence == self.fence:
            self.held_by = self.held_by if unsure else None
            self.runs -= undone

    async def find_bmc(self, taken: Taken) -> BmcTarget:
        if self.bmc is None:
            raise BmcFailure("PROVIDER_HAS_NO_BMC", "it has no BMC", retryable=False)
        return self.bmc

    async def open_netboot(self, taken: Taken) -> None:
        self._check(taken)
        self.netboots += 1

    async def home_status(self, taken: Taken) -> HomeStatus:
        self._check(taken)
        return self.home

    async def wait_home(self, taken: Taken, until_us: int) -> HomeStatus:
        self._check(taken)
        if self.home.phone_home_us is None:
            await self.clock.sleep((until_us - self.clock()) / SECOND)
        return self.home

    async def publish(self, result: StepResult) -> None:
        self.on_result(result)
        self.results.append(result)
        self.attempts[result.step] = result.attempt
        self.started_us.setdefault(result.step, result.at_us)
        if result.outcome == task_pb2.OUTCOME_DONE:
            self.done.add(result.step)
        self.ended = self.ended or result.outcome == task_pb2.OUTCOME_FAILED

    def told(self, outcome: task_pb2.Outcome) -> list[str]:
        """Steps with that outcome, in order."""
        return [result.step for result in self.results if result.outcome == outcome]

    def _answer(self) -> None:
        if self.unavailable_for:
            self.unavailable_for -= 1
            raise Unavailable("PostgreSQL is away", reason="STORE_UNAVAILABLE")

    def _check(self, taken: Taken) -> None:
        if taken.fence != self.fence:
            raise Fenced


def settings(**changed: int) -> ExecutorSettings:
    """Short ones."""
    values = {"max_tasks": 10, "phone_home_seconds": 600, "bmc_state_seconds": 30, "step_attempts": 3, **changed}
    return ExecutorSettings(log_level="info", **values)


def engine(tasks: MemoryTasks, bmc: MemoryBmc, **changed: int) -> Engine:
    """An engine in that world."""
    now = settings(**changed)
    tools = Tools(tasks, lambda: now, "executor-1", tasks.clock, tasks.clock.sleep, lambda: 1.0)
    return Engine(tasks, {"ipmi": bmc}, tools)


def with_password(password: bytes) -> BmcTarget:
    """The BMC as registered with another password."""
    return replace(BMC, password=password)
