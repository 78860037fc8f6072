"""Reads by key that are asked for at the same time and are read together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Gathering(Generic[K, V]):
    """Asks once for all that is wanted in one turn of the event loop."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        """`read` answers those of the keys that there are."""
        self._read = read
        self._wanted: dict[K, asyncio.Future[V | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """What there is for the key; raises what the read raises."""
        waiting = self._wanted.get(key)
        if waiting is None:
            loop = asyncio.get_running_loop()
            if not self._wanted:
                loop.call_soon(self._begin)
            waiting = self._wanted[key] = loop.create_future()
        return await asyncio.shield(waiting)

    def _begin(self) -> None:
        wanted, self._wanted = self._wanted, {}
        task = asyncio.get_running_loop().create_task(self._answer(wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, wanted: dict[K, asyncio.Future[V | None]]) -> None:
        try:
            found = await self._read(list(wanted))
        except Exception as error:
            for future in wanted.values():
                future.set_exception(error)
                future.exception()  # whoever asked may be gone
        else:
            for key, future in wanted.items():
                future.set_result(found.get(key))
