"""Wakes whoever waits for a machine or an operation to change, in any process: through etcd.

A bump is a hint: what changed is in Postgres. So nobody waits for etcd to take it; when etcd is away it is told
later, and lost when the process ends before that. Waiters read again every few seconds in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix
from mulligan.stores.transactions import MAX_OPERATIONS, Plan, SharedLease, commit

log = logging.getLogger(__name__)

# How long a bump is kept in etcd: long enough to be seen after etcd was restarted.
BUMP_LIFE_S = 300

# How often a waiter looks for itself.
RECHECK_S = 10.0

# Between attempts to tell etcd.
RETRY_PAUSE_S = 0.5

# What is told at the end of a process, as far as etcd takes it in that time.
LAST_WORDS_S = 1.0


class Changes:
    """Bumps and waits for machines and operations, by id."""

    def __init__(self, client: EtcdClient) -> None:
        """One for each process; nothing happens before start()."""
        self._client = client
        self._lease = SharedLease(client, BUMP_LIFE_S)
        self._watched = WatchedPrefix(client, keys.CONTROL_CHANGED)
        self._watched.on_change.append(self._changed)
        self._waiting: dict[str, set[asyncio.Event]] = {}
        # Bumped, and not told to etcd yet.
        self._untold: set[str] = set()
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to follow bumps; raises Unavailable when etcd is away."""
        await self._watched.start()

    async def close(self) -> None:
        """Stops following; bumps that etcd does not take within a second are given up."""
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=LAST_WORDS_S)
            self._telling.cancel()
            await asyncio.wait([self._telling])
        await self._watched.close()

    def bump(self, *identifiers: str) -> None:
        """Wakes all who wait for them, as soon as etcd takes it."""
        self._untold.update(identifiers)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="bumps")

    async def _tell(self) -> None:
        while self._untold:
            some = list(self._untold)[:MAX_OPERATIONS]
            # Before the attempt: what changes meanwhile is told again.
            self._untold.difference_update(some)
            if not await self._put(some):
                self._untold.update(some)
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _put(self, identifiers: Collection[str]) -> bool:
        try:
            plan, lease = Plan(), await self._lease.current()
            for identifier in identifiers:
                plan.put(keys.control_changed(identifier), new_id(), lease)
            await commit(self._client, plan)
        except Unavailable as error:
            log.warning("etcd is away, watchers see a change later: %s", error)
            return False
        except Exception:
            # The lease may have ended while etcd was away; before long another one is taken.
            log.exception("etcd did not take a bump, watchers see the change later")
            return False
        return True

    @contextmanager
    def listening(self, identifier: str) -> Iterator[asyncio.Event]:
        """An event that is set at every bump from now on; clear it before reading what changed."""
        event = asyncio.Event()
        self._waiting.setdefault(identifier, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[identifier].discard(event)
            if not self._waiting[identifier]:
                del self._waiting[identifier]

    def _changed(self, identifier: str, value: bytes | None) -> None:
        if value is None:
            return
        for event in self._waiting.get(identifier, ()):
            event.set()


async def wait_for(event: asyncio.Event, timeout_s: float) -> None:
    """Waits until the event is set, RECHECK_S or `timeout_s` is over, whatever comes first."""
    try:
        async with asyncio.timeout(max(0.0, min(timeout_s, RECHECK_S))):
            await event.wait()
    except TimeoutError:
        pass
