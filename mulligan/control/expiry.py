"""Takes machines back when their claims end, so that the next claim finds its provider free."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from mulligan.clock import SECOND, Clock
from mulligan.control import store
from mulligan.control.changes import Changes
from mulligan.control.operations import Operations
from mulligan.control.outbox import Outbox
from mulligan.control.policy import TerritorySource
from mulligan.errors import MulliganError, Unavailable

log = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 2.0

# A machine that failed, perhaps when it was to be taken back, is tried again after this time.
FAILED_PAUSE_S: Final = 600

BATCH: Final = 100


class EndedClaims(Protocol):
    """Whom the sweep asks."""

    async def ended(self, claims: Sequence[str]) -> Sequence[str]:
        """Those of the claims that are over, were released, or are not there; raises when that is not known."""


class Expiry:
    """The ends of claims of one shard."""

    def __init__(
        self,
        database: store.Database,
        operations: Operations,
        claims: EndedClaims,
        outbox: Outbox,
        changes: Changes,
        territory: TerritorySource,
        clock: Clock,
    ) -> None:
        self._database = database
        self._operations = operations
        self._claims = claims
        self._outbox = outbox
        self._changes = changes
        self._territory = territory
        self._clock = clock
        # Provider of the last machine whose claim was asked about; empty: the next round begins.
        self._after = ""

    async def run(self) -> None:
        """Sweeps for ever; a store that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except Unavailable as error:
                log.warning("sweep of ended claims interrupted: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Begins to take machines back: all whose claims' time is over, and a page of those whose claims ended else.

        Returns how many.
        """
        now = self._clock()
        failed_before = now - FAILED_PAUSE_S * SECOND
        async with self._database.reading() as connection:
            due = await store.machines_to_take_back(connection, self._territory().owned, now, failed_before, BATCH)
        taken = [await self.take_back(machine) for machine in due]
        taken += [await self.take_back(machine) for machine in await self._abandoned(failed_before)]
        return sum(taken)

    async def _abandoned(self, failed_before_us: int) -> list[str]:
        """Of the next page of machines those whose claims were released or are gone; none while nobody tells."""
        async with self._database.reading() as connection:
            page = await store.machines_at_rest(
                connection, self._territory().owned, self._after, failed_before_us, BATCH
            )
        try:
            ended = set(await self._claims.ended([claim for _, _, claim in page])) if page else set()
        except MulliganError as error:
            log.warning("it is not known which claims were released: %s", error)
            return []
        self._after = page[-1][0] if len(page) == BATCH else ""
        return [machine for _, machine, claim in page if claim in ended]

    async def take_back(self, machine: str) -> bool:
        """Begins to take back one machine; False when something works on it already."""
        operation = await self._operations.take_back(machine, self._clock())
        if operation is None:
            return False
        log.info("machine=%s operation=%s its claim has ended: it is taken back", machine, operation.id)
        await self._outbox.publish(operation)
        self._changes.bump(operation.id, machine)
        return True
