"""What the loader's parts share: names to UUIDs in bulk, patience with what is not there yet, stable request ids."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar
from uuid import UUID, uuid5

from google.protobuf.message import Message

from mulligan.api.meta.v1.meta_pb2 import NameKey
from mulligan.client import Backoff, Client
from mulligan.errors import MulliganError, NotFound, Unavailable

_T = TypeVar("_T")
_R = TypeVar("_R")

_NAMESPACE = UUID("6d756c6c-6967-516e-8000-6c6f61646572")

# ResolveNames takes at most so many at once. So many calls under way travel in few batches, and crowd nobody out.
_BATCH = 1000
AT_ONCE = 64


def stable_id(*parts: str | Message) -> str:
    """The request id that follows from these parts: sent again, it is the same request."""
    texts = (part if isinstance(part, str) else part.SerializeToString(deterministic=True).hex() for part in parts)
    return str(uuid5(_NAMESPACE, "\0".join(texts)))


async def find_ids(client: Client, kind: str, scope: str, names: Iterable[str]) -> dict[str, str]:
    """UUIDs by name, straight from the service; names that are not there are left out."""

    async def resolve(batch: list[str]) -> dict[str, str]:
        keys = [NameKey(kind=kind, scope=scope, name=name) for name in batch]
        response = await client.meta.resolve_names(names=keys)
        return {resolved.key.name: resolved.id for resolved in response.resolved}

    remaining = iter(names)
    batches = iter(lambda: list(itertools.islice(remaining, _BATCH)), [])
    found: dict[str, str] = {}
    for part in await all_of(resolve, batches):
        found |= part
    return found


async def all_of(work: Callable[[_T], Awaitable[_R]], items: Iterable[_T]) -> list[_R]:
    """The work's results for every item, a few at once; the first failure ends it and is raised."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: _T) -> _R:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except* MulliganError as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


class Patience:
    """How long to go on after failures that pass by themselves."""

    # A new region takes a moment to be known everywhere; a part that restarts takes up to half a minute.
    UNKNOWN_S = 10.0
    AWAY_S = 60.0

    def __init__(self) -> None:
        self._backoff = Backoff()
        self.progressed()

    def progressed(self) -> None:
        """Something went well: patience begins anew."""
        self._since = asyncio.get_running_loop().time()
        self._failures = 0

    async def bear(self, error: MulliganError) -> None:
        """Waits before the next attempt, or raises the error when there should be none."""
        longest = {NotFound: self.UNKNOWN_S, Unavailable: self.AWAY_S}
        limit = max((seconds for kind, seconds in longest.items() if isinstance(error, kind)), default=0.0)
        if asyncio.get_running_loop().time() - self._since >= limit:
            raise error
        self._failures += 1
        await asyncio.sleep(self._backoff.delay_s(self._failures))


async def once_known(call: Callable[[], Awaitable[_T]]) -> _T:
    """The call's result, called again while the region that it names is not known yet."""
    patience = Patience()
    while True:
        try:
            return await call()
        except NotFound as error:
            await patience.bear(error)
