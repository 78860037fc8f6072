"""The class that Ray knows: it imports the actor's own class where the actor runs, and hands every call on.

So the drivers that make actors need not import what actors import: a second of CPU and 30 MB for each. And Ray wraps
the methods of this class alone, not those that an actor calls on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from actors.health import ComponentHealth
from mulligan.caller import Caller
from mulligan.dispatch import PageReply, Reply


class ActorHost:
    """Hosts one actor of ours. `kind` is `module:Class`; the arguments are that class's."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        module, _, name = kind.partition(":")
        self._actor: Any = getattr(import_module(module), name)(*arguments)

    async def prepare(self) -> str:
        """See ActorBase.prepare."""
        return str(await self._actor.prepare())

    async def start(self) -> str:
        """See ActorBase.start."""
        return str(await self._actor.start())

    async def ping(self) -> tuple[str, str]:
        """See ActorBase.ping."""
        state, version = await self._actor.ping()
        return state, version

    async def health(self) -> list[ComponentHealth]:
        """See ActorBase.health."""
        return list(await self._actor.health())

    async def drain(self, deadline_s: float) -> None:
        """See ActorBase.drain."""
        await self._actor.drain(deadline_s)

    async def call(self, batch: Sequence[tuple[str, Caller, bytes]]) -> list[Reply]:
        """See ServiceActor.call."""
        replies: list[Reply] = await self._actor.call(batch)
        return replies

    async def poll(self, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float) -> PageReply:
        """See ServiceActor.poll."""
        page: PageReply = await self._actor.poll(method, caller, request, cursor, wait_s)
        return page

    async def chunk(self, method: str, caller: Caller, requests: Sequence[bytes], position: int) -> Reply:
        """See ServiceActor.chunk."""
        reply: Reply = await self._actor.chunk(method, caller, requests, position)
        return reply

    async def internal(self, method: str, request: bytes) -> Reply:
        """See ServiceActor.internal."""
        reply: Reply = await self._actor.internal(method, request)
        return reply


def host_class(kind: str) -> type[ActorHost]:
    """The host under the name of the class it hosts, which is what process lists then show."""
    return type(kind.partition(":")[2], (ActorHost,), {})
