"""What the handlers of the resource service share: the memory, the writer, and each request carried out once."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import asyncpg
from google.protobuf.message import Message

from mulligan.caller import Caller
from mulligan.clock import Clock
from mulligan.errors import AlreadyExists, MulliganError, Unavailable
from mulligan.meta.model import PROVIDER, PROVIDER_GROUP, NamedObject
from mulligan.meta.names import NameStore
from mulligan.requests import request_digest, require_request_id
from mulligan.resource.batch import Replay, RequestKey, request_id_reused
from mulligan.resource.model import Provider
from mulligan.resource.planner import Planner
from mulligan.resource.regions import Regions
from mulligan.resource.spec import canonical_id
from mulligan.resource.store import Repeated, Store, record_request
from mulligan.resource.world import World
from mulligan.resource.writer import Writer

log = logging.getLogger(__name__)

# Answers kept in memory, so that a retry that follows at once costs nothing; the others are in the database.
_REMEMBERED_ANSWERS = 20_000

# Seconds between attempts to read the memory anew.
_RELOAD_PAUSE_S = 0.5


class Answer:
    """A response that is serialized already."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 -- the name that protobuf messages have
        """The response as it goes over the wire."""
        return self._data


@dataclass(slots=True)
class Memory:
    """The shard as it is planned with, and who writes it."""

    world: World
    planner: Planner
    writer: Writer


class Core:
    """One shard's state and the ways to change it."""

    def __init__(self, store: Store, regions: Regions, names: NameStore, clock: Clock, random: Random | None = None):
        """Nothing is served before `start`."""
        # Called whenever the memory was read, with the former one gone.
        self.on_read: Callable[[], None] = lambda: None
        self.store = store
        self.regions = regions
        self.names = names
        self.clock = clock
        self._random = random or Random()
        # Providers, groups, vocabulary and quotas change one at a time.
        self.changing = asyncio.Lock()
        # Ids of providers whose names are registered and of which it is not settled yet whether they are stored.
        self.unsettled: set[str] = set()
        # Projects whose quotas are being changed: their claims wait.
        self.gates: dict[str, asyncio.Event] = {}
        # Set while no provider is out of placement only because a change of it is being stored.
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._memory: Memory | None = None
        self._trouble: MulliganError = Unavailable("the shard is being read; try again", retry_after_s=0.2)
        self._troubled = asyncio.Event()
        self._answers: OrderedDict[RequestKey, Replay] = OrderedDict()
        self._running: dict[RequestKey, tuple[bytes, asyncio.Future[bytes]]] = {}

    # The memory.

    @property
    def memory(self) -> Memory:
        """Raises Unavailable while it is read anew, FENCED when somebody else owns the shard."""
        if self._memory is None:
            raise self._trouble
        return self._memory

    @property
    def world(self) -> World:
        """The memory, moved on to now; raises as `memory` does."""
        world = self.memory.world
        world.advance(self.clock())
        return world

    async def start(self) -> None:
        """Reads the shard and begins to write."""
        world = await self.store.load(self.clock())
        async with self.changing:
            await self._settle_names(world)
        writer = Writer(self.store.pool, self.store.ownership, self.clock, world.quotas.charges, self._doubt)
        writer.start()
        self._memory = Memory(world, Planner(world, self._random), writer)
        self.on_read()

    async def _settle_names(self, world: World) -> None:
        """Confirms the names of what is stored and frees those of what is not, where that was left open."""

        def is_ours(named: NamedObject) -> bool:
            return named.kind in (PROVIDER, PROVIDER_GROUP) and self.regions.is_mine(named.region)

        async def stored(identifiers: list[str]) -> set[str]:
            return {each for each in identifiers if each in world.providers or each in world.groups}

        await self.names.recover(is_ours, stored)
        await self._free_unsettled(world)

    async def settle(self) -> None:
        """Frees the names of providers that were to be loaded and are not stored; call it while you hold `changing`.

        Raises Unavailable, and what was unsettled stays so.
        """
        if self.unsettled:
            memory = self.memory
            # A load that was called off may still be on its way to the database.
            await memory.writer.catch_up()
            await self._free_unsettled(memory.world)

    async def _free_unsettled(self, world: World) -> None:
        lost = self.unsettled - world.providers.keys()
        if lost:
            log.warning("shard=%s frees %d names of providers that could not be stored", self.store.shard, len(lost))
            await self.names.remove_many(lost)
        self.unsettled.clear()

    async def stop(self) -> None:
        """Writes what waits, then refuses everything."""
        memory, self._memory = self._memory, None
        if memory is not None:
            await memory.writer.stop()

    async def watch(self) -> None:
        """Reads the memory anew whenever it is in doubt; for ever. Raises Aborted when the shard was taken over."""
        while True:
            await self._troubled.wait()
            if self._trouble.reason == "FENCED":
                raise self._trouble
            try:
                await self.start()
            except Unavailable as error:
                log.warning("shard=%s cannot be read yet: %s", self.store.shard, error)
                await asyncio.sleep(_RELOAD_PAUSE_S)
            except MulliganError as error:
                self._trouble = error
            else:
                log.warning("shard=%s was read anew", self.store.shard)
                self._troubled.clear()

    def _doubt(self, error: MulliganError) -> None:
        log.warning("shard=%s is out of service: %s", self.store.shard, error)
        self._memory, self._trouble = None, error
        self._troubled.set()

    # Each request once.

    async def once(
        self, key: RequestKey, digest: bytes, work: Callable[[RequestKey, bytes], Awaitable[bytes]]
    ) -> Answer:
        """The answer to a request: what `work` makes of it, or what it made of it before.

        Raises Aborted (REQUEST_ID_REUSED) when the id was that of another request.
        """
        known = self._answers.get(key)
        if known is not None:
            return Answer(same_request(key, digest, known))
        running = self._running.get(key)
        if running is not None:
            return Answer(same_request(key, digest, Replay(running[0], await asyncio.shield(running[1]))))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._running[key] = digest, future
        try:
            response = await work(key, digest)
        except BaseException as error:
            future.set_exception(
                error if isinstance(error, MulliganError) else Unavailable("the first attempt broke off; try again")
            )
            future.exception()  # nobody may be waiting
            raise
        else:
            future.set_result(response)
            self._answers[key] = Replay(digest, response)
            if len(self._answers) > _REMEMBERED_ANSWERS:
                self._answers.popitem(last=False)
            return Answer(response)
        finally:
            del self._running[key]

    async def mutate(
        self, request: Any, caller: Caller, work: Callable[[RequestKey, Recorder], Awaitable[Message]]
    ) -> Answer:
        """Carries out a mutation other than a claim once; `work` stores the answer with its own change."""
        key = request_key(caller, request.request_id)

        async def carry_out(key: RequestKey, digest: bytes) -> bytes:
            known = await self.store.replay(key)
            if known is not None:
                return same_request(key, digest, known)
            try:
                return (await work(key, Recorder(key, digest, self.clock))).SerializeToString()
            except (Repeated, AlreadyExists):
                # What is there may be what an attempt made whose caller went away.
                known = await self.store.replay(key)
                if known is None:
                    raise
                return same_request(key, digest, known)

        return await self.once(key, request_digest(request), carry_out)

    @contextmanager
    def frozen(self, provider: Provider) -> Iterator[None]:
        """Puts no claim on a provider, so that what was queued for the writer before is all there is."""
        world = self.memory.world
        world.freeze(provider, 1)
        self.thawed.clear()
        try:
            yield
        finally:
            world.freeze(provider, -1)
            if not world.frozen:
                self.thawed.set()

    @asynccontextmanager
    async def gated(self, project: str) -> AsyncIterator[None]:
        """Keeps new claims of a project waiting, while its quotas change."""
        while project in self.gates:
            await self.gates[project].wait()
        gate = self.gates[project] = asyncio.Event()
        try:
            yield
        finally:
            del self.gates[project]
            gate.set()


class Recorder:
    """Stores the answer of a request in the transaction that carries it out."""

    __slots__ = ("_clock", "_digest", "_key")

    def __init__(self, key: RequestKey, digest: bytes, clock: Clock) -> None:
        self._key = key
        self._digest = digest
        self._clock = clock

    async def __call__(self, connection: asyncpg.Connection, response: Message) -> None:
        """Raises Repeated when the request was carried out meanwhile."""
        await record_request(connection, self._key, self._digest, response.SerializeToString(), self._clock())


def request_key(caller: Caller, request_id: str) -> RequestKey:
    """The same id from another account, or for another project, is another request."""
    identifier = canonical_id(request_id, "request_id") if request_id else require_request_id(request_id)
    return RequestKey(caller.account, caller.project, identifier)


def same_request(key: RequestKey, digest: bytes, known: Replay) -> bytes:
    """The stored answer; raises Aborted (REQUEST_ID_REUSED) when it was given to another request."""
    if known.digest != digest:
        raise request_id_reused(key.request_id)
    return known.response
