"""How a gateway reaches the actors behind it: the seam between requests and Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mulligan.caller import Caller
from mulligan.dispatch import MethodTable, PageReply, Reply

# Method, who asks, serialized request.
Item = tuple[str, Caller, bytes]


class ShardCaller(Protocol):
    """Calls whoever serves a shard now; `actors.handles.ActorDirectory` is one.

    When that actor dies or is replaced, the call is sent again to the next one within its time, unless it may not
    be repeated. What cannot be reached answers, or raises, Unavailable (SHARD_UNAVAILABLE).
    """

    def shards(self, service: str) -> list[str]:
        """The shards of a service that are served now."""
        ...

    async def call(
        self, service: str, shard: str, batch: Sequence[Item], timeout_s: float, *, repeatable: bool = True
    ) -> list[Reply]:
        """Replies in the order of the batch."""
        ...

    async def poll(
        self, service: str, shard: str, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float
    ) -> PageReply:
        """The next part of a server stream."""
        ...

    async def chunk(
        self,
        service: str,
        shard: str,
        method: str,
        caller: Caller,
        requests: Sequence[bytes],
        position: int,
        timeout_s: float,
    ) -> Reply:
        """The reply to some messages of a client stream."""
        ...


class Here:
    """Serves what a gateway itself knows, in the way a shard does."""

    def __init__(self, table: MethodTable) -> None:
        self._table = table

    def shards(self, service: str) -> list[str]:
        """One; its name does not matter."""
        return ["global"]

    async def call(
        self, service: str, shard: str, batch: Sequence[Item], timeout_s: float, *, repeatable: bool = True
    ) -> list[Reply]:
        """Replies in the order of the batch."""
        return [await self._table.call(*item) for item in batch]

    async def poll(
        self, service: str, shard: str, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float
    ) -> PageReply:
        """The next part of a server stream."""
        return await self._table.poll(method, caller, request, cursor, wait_s)

    async def chunk(
        self,
        service: str,
        shard: str,
        method: str,
        caller: Caller,
        requests: Sequence[bytes],
        position: int,
        timeout_s: float,
    ) -> Reply:
        """The reply to some messages of a client stream."""
        return await self._table.chunk(method, caller, requests, position)
