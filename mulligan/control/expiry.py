"""Takes machines back when their claims end, so that the next claim finds its provider free."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from mulligan.clock import SECOND, Clock
from mulligan.control import store
from mulligan.control.changes import Changes
from mulligan.control.operations import Operations
from mulligan.control.outbox import Outbox
from mulligan.control.policy import TerritorySource
from mulligan.errors import Unavailable

log = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 2.0

# A machine that failed, perhaps when it was to be taken back, is tried again after this time.
FAILED_PAUSE_S: Final = 600

BATCH: Final = 100


class Expiry:
    """The ends of claims of one shard."""

    def __init__(
        self,
        database: store.Database,
        operations: Operations,
        outbox: Outbox,
        changes: Changes,
        territory: TerritorySource,
        clock: Clock,
    ) -> None:
        self._database = database
        self._operations = operations
        self._outbox = outbox
        self._changes = changes
        self._territory = territory
        self._clock = clock

    async def run(self) -> None:
        """Sweeps for ever; a store that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except Unavailable as error:
                log.warning("sweep of ended claims interrupted: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Begins to take back every machine whose claim has ended; returns how many."""
        now = self._clock()
        async with self._database.reading() as connection:
            due = await store.machines_to_take_back(
                connection, self._territory().owned, now, now - FAILED_PAUSE_S * SECOND, BATCH
            )
        return sum([await self.take_back(machine) for machine in due])

    async def take_back(self, machine: str) -> bool:
        """Begins to take back one machine; False when something works on it already."""
        operation = await self._operations.take_back(machine, self._clock())
        if operation is None:
            return False
        log.info("machine=%s operation=%s its claim has ended: it is taken back", machine, operation.id)
        await self._outbox.publish(operation)
        await self._changes.bump(operation.id, machine)
        return True
