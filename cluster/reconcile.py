"""Makes one actor be what it should be: there, serving, of this version; one generation at a time.

A generation is made beside its predecessor, prepares, is pointed at in etcd (compare-and-swap), starts, and only then
the predecessor drains and ends. Ray makes an actor anew that died; what is dead for good, or silent for too long, gets
a successor. Everything here may be repeated at any point by any host.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from actors.names import ActorName, Pointer
from cluster.shards import Target

log = logging.getLogger(__name__)

PING_DEADLINE_S = 3.0
# A worker process, its imports and a migration.
PREPARE_DEADLINE_S = 90.0
START_DEADLINE_S = 60.0
# An actor that is there and says nothing for this long is replaced.
SILENT_LIMIT_S = 20.0
# Ray brings one back in 1.5 to 3 s, a whole node's on a busy host in 40: replaced sooner, they would begin once more.
RETURN_LIMIT_S = 60.0
# Between two passes; while it does not serve they begin close together.
CALM_PAUSE_S = 2.0
BUSY_PAUSE_S = 0.1


class Action(Enum):
    """What to do about an actor now."""

    KEEP = auto()
    START = auto()
    CREATE = auto()
    REPLACE = auto()
    SWAP = auto()
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of the generation that is pointed at."""

    pointer: Pointer
    # Ray knows an actor of that name.
    exists: bool
    # What it says it is doing; empty: it did not answer.
    state: str = ""
    version: str = ""
    silent_s: float = 0.0
    # The connection to it was lost, or it was not heard of yet: Ray may be making it anew.
    returning: bool = False


def decide(seen: Observation, version: str) -> Action:
    """The step that brings the actor nearer to serving at this version. An older version never replaces a newer."""
    if not seen.pointer.generation or not seen.exists:
        return Action.CREATE
    if not seen.state:
        limit_s = RETURN_LIMIT_S if seen.returning else SILENT_LIMIT_S
        return Action.REPLACE if seen.silent_s > limit_s else Action.WAIT
    if seen.state == "draining":
        return Action.REPLACE if seen.silent_s > SILENT_LIMIT_S else Action.WAIT
    if is_newer(version, seen.version):
        return Action.SWAP
    return Action.KEEP if seen.state == "serving" else Action.START


def is_newer(version: str, than: str) -> bool:
    """Whether a version is later; by its numbers, and a release after its own pre-releases."""
    return _version_key(version) > _version_key(than)


def _version_key(version: str) -> tuple[list[int], bool, str]:
    numbers, rest = [], ""
    for part in version.partition("+")[0].split("."):
        digits = len(part) - len(part.lstrip("0123456789"))
        if digits:
            numbers.append(int(part[:digits]))
        if digits < len(part):
            rest += part[digits:]
    return numbers, not rest, rest


class Actors(Protocol):
    """What the reconciler needs of Ray and etcd."""

    async def pointer(self, target: Target) -> Pointer:
        """Which generation serves."""

    async def move(self, target: Target, expected: Pointer, new: Pointer) -> bool:
        """Points at another; False when somebody else was first."""

    async def find(self, name: ActorName) -> Any | None:
        """The actor of that name, if Ray knows one."""

    async def create(self, target: Target, name: ActorName) -> Any:
        """Makes it, or finds the one of that name."""

    async def ask(self, handle: Any, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Calls a method; raises TimeoutError or RayError when it does not answer."""

    async def end(self, name: ActorName, handle: Any, *, drain_s: float) -> None:
        """Drains and terminates it; it is gone afterwards."""


@dataclass(slots=True)
class Reconciler:
    """Brings one target nearer to what it should be at each pass."""

    target: Target
    actors: Actors
    version: str
    host: str
    drain_s: float
    # Seconds, from any start.
    clock: Callable[[], float] = time.monotonic
    # What the actor is doing, for people.
    told: str = "not looked at yet"
    # The host that made the current generation.
    made_by: str = ""
    _name: ActorName | None = None
    _handle: Any | None = None
    _last_answer: float = 0.0
    _returning: bool = True

    @property
    def serving(self) -> bool:
        """Whether it served when last looked at."""
        return self.told == "serving"

    async def keep(self) -> None:
        """Goes on until cancelled."""
        pause_s = BUSY_PAUSE_S
        while True:
            await self.try_once()
            pause_s = CALM_PAUSE_S if self.serving else min(pause_s * 2, CALM_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def try_once(self) -> None:
        """One pass; its failure is told, for the next pass to do better."""
        try:
            await self.run_once()
        except Exception as error:
            # What an actor raised comes wrapped, with where it happened in front.
            cause = getattr(error, "cause", None) or error
            self.told = f"{type(cause).__name__}: {cause}".strip().splitlines()[0][:200]
            log.warning("actor=%s failed: %s", self.target.path, self.told)

    async def run_once(self) -> None:
        """Looks, decides, acts."""
        pointer = await self.actors.pointer(self.target)
        self.made_by = pointer.host
        name = ActorName(self.target.service, self.target.shard, pointer.generation)
        seen = await self._observe(pointer, name)
        handle = self._handle
        action = decide(seen, self.version)
        self.told = seen.state or "not answering"
        if action is not Action.KEEP:
            log.info("actor=%s action=%s state=%s", name, action.name.lower(), seen.state or "none")
        if action is Action.START:
            self.told = await self.actors.ask(handle, "start", timeout_s=START_DEADLINE_S)
        elif action is Action.REPLACE:
            await self.actors.end(name, handle, drain_s=0.0)
            await self._advance(pointer, None)
        elif action in (Action.CREATE, Action.SWAP):
            await self._advance(pointer, handle)

    async def drain(self) -> None:
        """Ends the current generation if this host made it."""
        pointer = await self.actors.pointer(self.target)
        name = ActorName(self.target.service, self.target.shard, pointer.generation)
        handle = await self.actors.find(name) if pointer.generation else None
        if handle is not None and pointer.host == self.host and not is_newer(pointer.version, self.version):
            await self.actors.end(name, handle, drain_s=self.drain_s)

    async def _observe(self, pointer: Pointer, name: ActorName) -> Observation:
        if self._name != name:
            self._name, self._handle, self._last_answer = name, None, self.clock()
        if self._handle is None and pointer.generation:
            self._handle = await self.actors.find(name)
        if self._handle is None:
            return Observation(pointer, exists=False)
        try:
            state, version = await self.actors.ask(self._handle, "ping", timeout_s=PING_DEADLINE_S)
        except Exception as error:
            log.info("actor=%s does not answer: %s", name, type(error).__name__)
            state, version = "", ""
            self._returning = self._returning or not isinstance(error, TimeoutError)
            self._handle = await self.actors.find(name)
            if self._handle is None:
                return Observation(pointer, exists=False)
        if state and state != "draining":
            self._last_answer, self._returning = self.clock(), False
        return Observation(pointer, True, state, version, self.clock() - self._last_answer, self._returning)

    async def _advance(self, pointer: Pointer, old: Any | None) -> None:
        """Makes the next generation, points at it, starts it, and ends the one before."""
        name = ActorName(self.target.service, self.target.shard, pointer.generation + 1)
        self.told = "starting"
        handle = await self.actors.create(self.target, name)
        await self.actors.ask(handle, "prepare", timeout_s=PREPARE_DEADLINE_S)
        _, version = await self.actors.ask(handle, "ping", timeout_s=PING_DEADLINE_S)
        new = Pointer(name.generation, version, self.host)
        if not await self.actors.move(self.target, pointer, new):
            log.info("actor=%s: another host was first", name)
            return
        self.made_by = self.host
        self.told = await self.actors.ask(handle, "start", timeout_s=START_DEADLINE_S)
        self._returning = False
        log.info("actor=%s state=%s version=%s", name, self.told, version)
        if old is not None:
            before = ActorName(self.target.service, self.target.shard, pointer.generation)
            await self.actors.end(before, old, drain_s=self.drain_s)
