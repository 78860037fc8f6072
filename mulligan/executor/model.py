"""What steps are made of: typed outcomes, the hardware behind its fence, and what a step may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.clock import Clock
from mulligan.executor.drivers import BmcTarget, BootDevice, Driver, Power, PowerCommand

# Seconds that one question to a BMC may take. A slow one needs some; a dead one is known after five.
BMC_ANSWER_S = 20.0

Sleep = Callable[[float], Awaitable[None]]


class Fenced(Exception):
    """Another run has the machine: this one must not touch it any more."""


@dataclass(frozen=True, slots=True)
class Done:
    """The step reached what it is for; `evidence` is what was read back."""

    evidence: str


@dataclass(frozen=True, slots=True)
class Retry:
    """It did not, but another attempt may. The reason counts when no attempt is left."""

    reason: str
    message: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """No further attempt helps: the operation ends here."""

    reason: str
    message: str
    evidence: str = ""


Outcome = Done | Retry | Failed


@dataclass(frozen=True, slots=True)
class HomeStatus:
    """What the machine itself has told so far; microseconds since the epoch."""

    boot_script_us: int | None = None
    phone_home_us: int | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """An operation that a run may work on, for as long as the machine's fence is this one."""

    operation: str
    machine: str
    region: str
    kind: int
    fence: int
    # How often the operation was taken, this time included.
    runs: int
    # Its steps by name: all of them, which are done, how often each was tried, when it began.
    steps: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    attempts: Mapping[str, int] = field(default_factory=dict)
    started_us: Mapping[str, int] = field(default_factory=dict)


class Hardware:
    """One machine's hardware. While something is changed there, the guard keeps the machine ours."""

    def __init__(
        self,
        driver: Driver,
        bmc: BmcTarget,
        guard: Callable[[float], AbstractAsyncContextManager[None]],
        timeout_s: float,
    ) -> None:
        """`guard` raises Fenced when another run has the machine, and keeps others away for that many seconds.

        A command may come into force until its deadline, whoever still waits for it.
        """
        self._driver = driver
        self._bmc = bmc
        self._guard = guard
        self._timeout_s = timeout_s

    @property
    def address(self) -> str:
        """Of the BMC, for people."""
        return self._bmc.address

    async def power(self) -> Power:
        """As the BMC tells now."""
        return await self._driver.read_power(self._bmc, self._timeout_s)

    async def command(self, command: PowerCommand) -> None:
        """Gives a power command."""
        async with self._guard(self._timeout_s):
            await self._driver.set_power(self._bmc, command, self._timeout_s)

    async def boot_device(self) -> BootDevice:
        """The boot override, as the BMC tells now."""
        return await self._driver.read_boot_device(self._bmc, self._timeout_s)

    async def set_boot_device(self, device: str) -> None:
        """Sets the device of the next boot."""
        async with self._guard(self._timeout_s):
            await self._driver.set_boot_device(self._bmc, device, self._timeout_s)


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may use."""

    hardware: Hardware
    settings: ExecutorSettings
    clock: Clock
    sleep: Sleep
    # When the step began for the first time, in whatever run (microseconds).
    started_us: int
    # From the moment of this call on, the machine is served its boot script; earlier tokens are void.
    open_netboot: Callable[[], Awaitable[None]]
    # What the machine told, as soon as it phoned home, or at that time (microseconds) at the latest.
    wait_home: Callable[[int], Awaitable[HomeStatus]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an operation. `run` may be repeated at any time, by any executor."""

    name: str
    run: Callable[[Context], Awaitable[Outcome]]
    # Seconds after which an attempt is given up.
    deadline_s: Callable[[ExecutorSettings], float]
    # It powers the machine on: first it waits for its turn, so that a site does not power up all at once.
    powers_on: bool = False
