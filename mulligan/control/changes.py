"""Wakes whoever waits for a machine or an operation to change, in any process: through etcd.

A bump is a hint and may be lost; what changed is in Postgres. So waiters read again every few seconds in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix
from mulligan.stores.transactions import Plan, SharedLease, commit

log = logging.getLogger(__name__)

# How long a bump is kept in etcd: long enough to be seen after etcd was restarted.
BUMP_LIFE_S = 300

# How often a waiter looks for itself.
RECHECK_S = 10.0


class Changes:
    """Bumps and waits for machines and operations, by id."""

    def __init__(self, client: EtcdClient) -> None:
        """One for each process; nothing happens before start()."""
        self._client = client
        self._lease = SharedLease(client, BUMP_LIFE_S)
        self._watched = WatchedPrefix(client, keys.CONTROL_CHANGED)
        self._watched.on_change.append(self._changed)
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def start(self) -> None:
        """Begins to follow bumps; raises Unavailable when etcd is away."""
        await self._watched.start()

    async def close(self) -> None:
        """Stops following."""
        await self._watched.close()

    async def bump(self, *identifiers: str) -> None:
        """Wakes all who wait for them. Does not raise: they look again by themselves in a while."""
        try:
            plan, lease = Plan(), await self._lease.current()
            for identifier in set(identifiers):
                plan.put(keys.control_changed(identifier), new_id(), lease)
            await commit(self._client, plan)
        except Unavailable as error:
            log.warning("etcd is away, watchers see a change later: %s", error)
        except Exception:
            # The lease may have ended while etcd was away; the next bump takes another one.
            log.exception("a bump was lost, watchers see the change later")

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
