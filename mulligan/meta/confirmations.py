"""Confirmations that etcd missed, made again until it takes them: whoever asked for them may never ask again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mulligan.errors import MulliganError, Unavailable
from mulligan.meta.model import NamedObject

log = logging.getLogger(__name__)

# Between two attempts; a reservation lasts for many of them.
_PAUSE_S = 1.0

# More than this are left to the next start of their service.
_MAX_WAITING = 10_000


class Confirmations:
    """Stored objects whose registration is still to be made. Its task runs only while there are some."""

    def __init__(self, settle: Callable[[NamedObject], Awaitable[None]], is_closed: Callable[[], bool]) -> None:
        """`settle` registers one; nothing is tried any more once `is_closed`."""
        self._settle = settle
        self._is_closed = is_closed
        self._waiting: dict[str, NamedObject] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, stored: NamedObject) -> None:
        """Registers it as soon as etcd answers."""
        if len(self._waiting) >= _MAX_WAITING:
            log.error("kind=%s id=%s is named when its service starts again: too many wait", stored.kind, stored.id)
            return
        self._waiting[stored.id] = stored
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="confirm names")

    async def close(self) -> None:
        """Leaves the rest to the next start of the service."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting and not self._is_closed():
            for each in list(self._waiting.values()):
                if not await self._is_settled(each):
                    await asyncio.sleep(_PAUSE_S)
                    break
                self._waiting.pop(each.id)

    async def _is_settled(self, stored: NamedObject) -> bool:
        """Whether another attempt would change nothing."""
        try:
            await self._settle(stored)
        except Unavailable:
            return False
        except MulliganError as error:
            log.error("kind=%s id=%s could not be registered: %s", stored.kind, stored.id, error)
        except Exception:
            # Seen here, because nobody awaits this.
            log.exception("kind=%s id=%s is registered when its service starts again", stored.kind, stored.id)
        return True
