"""Takes operations and holds them while they are worked on, so that of many executors one does the work.

Taking an operation takes its machine's fence too: whoever had it before finds out before the next command to the
hardware. While it is held, a second delivery of the task leaves it alone, and no other operation takes the machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

from mulligan.errors import Unavailable
from mulligan.executor.drivers import BmcFailure, BmcTarget, Driver
from mulligan.executor.model import BMC_ANSWER_S, Context, Fenced, Hardware, HomeStatus, Taken
from mulligan.executor.run import Run, Tools, patiently

log = logging.getLogger(__name__)

# An operation whose executor died may be taken by another one after this time.
HOLD_S: Final = 10.0

# What it may take to store the hold for a command; that covers the command's own time from then on.
GUARD_MARGIN_S: Final = 2.0

# Runs of one operation, after crashes in the middle; a task that kills executors is not tried for ever.
MAX_RUNS: Final = 10
ATTEMPTS_EXHAUSTED: Final = "TASK_ATTEMPTS_EXHAUSTED"

# Machines of one region (a site, most often) that one executor powers on at the same time.
POWER_ONS_PER_REGION: Final = 8

LET_GO_DEADLINE_S: Final = 5.0


class Ending(StrEnum):
    """How the work on a task came to its end here."""

    # The operation has ended, or its next part is the control service's.
    FINISHED = "finished"
    # Another delivery of the same message is being worked on, or a run of another operation still has the machine.
    BUSY = "busy"
    # Another message for the same operation is being worked on: this one is not needed.
    DUPLICATE = "duplicate"
    # Another run took the machine over.
    FENCED = "fenced"
    # It was taken too often; its operation failed, now or before this delivery.
    EXHAUSTED = "exhausted"
    # There is no such operation.
    UNKNOWN = "unknown"


class TaskStore(Protocol):
    """What executors read and write in Postgres. Every method may raise Unavailable; all but take raise Fenced."""

    async def take(self, operation: str, message: int, hold_s: float) -> Taken | Ending:
        """Takes the operation and its machine's fence, unless either is held or it has ended."""

    async def hold(self, taken: Taken, hold_s: float, *, shorten: bool = False) -> None:
        """Holds it for so many seconds from now, or longer if it is and `shorten` is not.

        Returns only while the machine's fence is the run's.
        """

    async def let_go(self, taken: Taken, undone: bool, unsure: bool) -> None:
        """Holds it no more, or when `unsure` no longer than it was going to be. Never raises Fenced.

        `undone`: the run does not count against the operation.
        """

    async def find_bmc(self, taken: Taken) -> BmcTarget:
        """How to reach the hardware, as registered now. Raises BmcFailure, never Fenced."""

    async def open_netboot(self, taken: Taken) -> None:
        """Lets the machine be served its boot script from now on; voids tokens and visits of the past."""

    async def home_status(self, taken: Taken) -> HomeStatus:
        """What the machine has told."""

    async def wait_home(self, taken: Taken, until_us: int) -> HomeStatus:
        """The same, as soon as it phoned home or that time has come."""


class Engine:
    """Runs tasks, any number at a time."""

    def __init__(self, store: TaskStore, drivers: Mapping[str, Driver], tools: Tools, hold_s: float = HOLD_S) -> None:
        """`drivers` by the name that BmcConfig.driver uses."""
        self._store = store
        self._drivers = drivers
        self._tools = tools
        self._hold_s = hold_s
        self._gates: dict[str, asyncio.Semaphore] = {}

    async def run(self, operation: str, message: int) -> Ending:
        """Works on an operation until it ends here. `message` tells deliveries of one message from other messages.

        Cancelled, it leaves the operation to be taken up where it was; nobody does before the last command is settled.
        """
        taken = await patiently(partial(self._store.take, operation, message, self._hold_s), self._tools.sleep)
        if isinstance(taken, Ending):
            return taken
        assert isinstance(taken, Taken)
        hold = _Hold(self._store, taken, self._hold_s)
        finished = False
        try:
            ending = await self._hold_and_work(taken, hold)
            finished = True
            return ending
        finally:
            await hold.let_go(undone=not finished)

    async def _hold_and_work(self, taken: Taken, hold: _Hold) -> Ending:
        ending = Ending.FINISHED
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(hold.keep(), name=f"hold {taken.operation}")
                ending = await self._work(taken, hold)
                keeper.cancel()
        except* Fenced:
            log.warning("operation=%s fence=%d was taken over", taken.operation, taken.fence)
            ending = Ending.FENCED
        return ending

    async def _work(self, taken: Taken, hold: _Hold) -> Ending:
        run = Run(taken, self._tools, partial(self._context, taken, hold), self.power_gate(taken.region))
        if taken.runs > MAX_RUNS:
            message = f"{MAX_RUNS} executors stopped while they worked on it; the dead-letter stream has its history"
            await run.fail(ATTEMPTS_EXHAUSTED, message)
            return Ending.EXHAUSTED
        await run.work()
        return Ending.FINISHED

    async def _context(self, taken: Taken, hold: _Hold, started_us: int) -> Context:
        """For one attempt: settings and BMC as they are now."""
        bmc = await self._store.find_bmc(taken)
        if bmc.driver not in self._drivers:
            message = f"this executor has no driver {bmc.driver}; update it, or register the BMC with another"
            raise BmcFailure("BMC_COMMAND_FAILED", message, retryable=False)
        settings = self._tools.settings()
        timeout_s = min(BMC_ANSWER_S, float(settings.bmc_state_seconds))
        return Context(
            hardware=Hardware(self._drivers[bmc.driver], bmc, hold.through, timeout_s),
            settings=settings,
            clock=self._tools.clock,
            sleep=self._tools.sleep,
            started_us=started_us,
            open_netboot=partial(self._store.open_netboot, taken),
            wait_home=partial(self._store.wait_home, taken),
        )

    def power_gate(self, region: str) -> asyncio.Semaphore:
        """Held while a machine of the region is powered on."""
        return self._gates.setdefault(region, asyncio.Semaphore(POWER_ONS_PER_REGION))


class _Hold:
    """Keeps others from a machine while a run works on it, and until its last command is settled."""

    def __init__(self, store: TaskStore, taken: Taken, hold_s: float) -> None:
        self._store = store
        self._taken = taken
        self._hold_s = hold_s
        # A command was given up without a word about its outcome: it may come into force until its time is over.
        self._unsure = False

    async def keep(self) -> None:
        """Keeps the hold; while Postgres is away nobody else can take the operation either."""
        while True:
            await asyncio.sleep(self._hold_s / 3)
            with suppress(Unavailable):
                await self._store.hold(self._taken, self._hold_s)

    @asynccontextmanager
    async def through(self, command_s: float) -> AsyncIterator[None]:
        """Around a command that cannot come into force later than `command_s` after its begin. Raises Fenced."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._store.hold(self._taken, max(command_s + GUARD_MARGIN_S, self._hold_s))
        if (took_s := clock() - began) > GUARD_MARGIN_S:
            message = f"it took {took_s:.0f} s to hold the machine for a command, which was not given"
            raise Unavailable(message, reason="STORE_UNAVAILABLE")
        self._unsure = True
        try:
            yield
        except (BmcFailure, Unavailable):
            # The driver's word that nothing of it, or of an earlier one, is on its way any more.
            self._unsure = False
            raise
        self._unsure = False
        await self._store.hold(self._taken, self._hold_s, shorten=True)

    async def let_go(self, undone: bool) -> None:
        """Ends the hold; an unsure one ends by itself."""
        try:
            async with asyncio.timeout(LET_GO_DEADLINE_S):
                await self._store.let_go(self._taken, undone, self._unsure)
        except (Unavailable, TimeoutError) as error:
            log.warning("operation=%s is held %g s longer: %s", self._taken.operation, self._hold_s, error)
