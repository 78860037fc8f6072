"""The wiring that shard actors share: stores, ownership, catalogue, requests in, answers out.

A subclass names its service and builds the object that serves it; nothing of the domain is in here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from actors.handles import ActorDirectory
from actors.health import ComponentHealth, probe
from actors.lifecycle import ActorBase, State
from mulligan.caller import Caller
from mulligan.dispatch import MethodTable, PageReply, Reply, failure
from mulligan.errors import Unavailable, Unimplemented, from_status, to_status
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient

if TYPE_CHECKING:
    import asyncpg

    from mulligan.stores.addresses import Addresses
    from mulligan.stores.postgres import Ownership

GUARD_PAUSE_S = 5.0

# A call from another service of ours: serialized request in, serialized response out.
InternalMethod = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True)
class ShardContext:
    """What an actor hands to the service that it builds."""

    addresses: Addresses
    shard: str
    # The actor's whole name, for logs and results.
    name: str
    etcd: EtcdClient
    # How other services' actors are reached.
    directory: ActorDirectory
    pool: asyncpg.Pool | None = None
    ownership: Ownership | None = None

    def owned(self) -> tuple[asyncpg.Pool, Ownership]:
        """Pool and ownership of an actor that owns its shard."""
        if self.pool is None or self.ownership is None:
            raise TypeError(f"{self.name} owns no shard")
        return self.pool, self.ownership


class ServiceActor(ActorBase):
    """One shard of one service. Constructor: (addresses, shard, name)."""

    # iam, meta, resource, control, results or executor.
    service: ClassVar[str]
    # The public service that it serves; None: it only works in the background.
    descriptor: ClassVar[ServiceDescriptor | None] = None
    # Folder of its Alembic revisions; None: it has no schema of its own.
    migrations: ClassVar[Path | None] = None
    # Schema that the revisions are for; empty: as the service.
    schema: ClassVar[str] = ""
    # Connections to Postgres at most; 0: it uses none.
    pool_size: ClassVar[int] = 4
    # It is the single writer of its shard, fenced in Postgres.
    owns_shard: ClassVar[bool] = True

    def __init__(self, addresses: Addresses, shard: str, name: str) -> None:
        super().__init__(addresses, name)
        self.shard = shard
        self._pool: asyncpg.Pool | None = None
        self._directory: ActorDirectory | None = None
        self._table: MethodTable | None = None
        self._internals: Mapping[str, InternalMethod] = {}
        self._built: Any = None
        self._epoch = 0

    # What a subclass fills in.

    async def build(self, context: ShardContext) -> object:
        """The object that has the methods of `descriptor`, its memory rebuilt, ready to serve.

        Called until it succeeds, and then no more. What it keeps running it begins last.
        """
        raise TypeError(f"{type(self).__name__} has no build()")

    def internals(self, built: Any) -> Mapping[str, InternalMethod]:
        """The calls that other services may make, by name; see `internal_method`."""
        return {}

    async def release(self, built: Any, deadline_s: float) -> None:
        """Ends what build() began: subscriptions, connections of its own."""

    # What gateways and other actors call.

    async def call(self, batch: Sequence[tuple[str, Caller, bytes]]) -> list[Reply]:
        """Serves unary requests at the same time; replies are in the order of the batch."""
        table = self._table
        if table is None or self.state is not State.SERVING:
            return [self._refusal()] * len(batch)
        self.enter(len(batch))
        try:
            if len(batch) == 1:
                replies = [await table.call(*batch[0])]
            else:
                replies = await asyncio.gather(*[table.call(*item) for item in batch])
        finally:
            self.leave(len(batch))
        for code, payload in replies:
            if code == Code.ABORTED:
                self._check_fence(payload)
        return replies

    async def poll(self, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float) -> PageReply:
        """Serves the next part of a server stream; when the actor drains, an empty page at once."""
        if self._table is None or self.state is not State.SERVING:
            code, status = self._refusal()
            return PageReply([], cursor, True, code, status)
        page = asyncio.ensure_future(self._table.poll(method, caller, request, cursor, wait_s))
        leaving = asyncio.ensure_future(self.leaving.wait())
        try:
            await asyncio.wait((page, leaving), return_when=asyncio.FIRST_COMPLETED)
            return page.result() if page.done() else PageReply([], cursor, False)
        finally:
            leaving.cancel()
            page.cancel()

    async def chunk(self, method: str, caller: Caller, requests: Sequence[bytes], position: int) -> Reply:
        """Serves some messages of a client stream."""
        if self._table is None or self.state is not State.SERVING:
            return self._refusal()
        self.enter(1)
        try:
            reply = await self._table.chunk(method, caller, requests, position)
        finally:
            self.leave(1)
        if reply[0] == Code.ABORTED:
            self._check_fence(reply[1])
        return reply

    async def internal(self, method: str, request: bytes) -> Reply:
        """Serves a call from another service of ours."""
        if self.state is not State.SERVING:
            return self._refusal()
        self.enter(1)
        try:
            reply = await self._internal(method, request)
        finally:
            self.leave(1)
        if reply[0] == Code.ABORTED:
            self._check_fence(reply[1])
        return reply

    # The life of a shard.

    async def prepare_to_open(self) -> None:
        """Connects the stores and brings the schema to this version; the older version runs on with it."""
        # Imported by those who need it only: SQLAlchemy and Alembic take 20 MB of each process.
        if self.pool_size and self._pool is None:
            from mulligan.stores.postgres import connect_pool

            self._pool = await connect_pool(self.addresses, minimum=1, maximum=self.pool_size)
        if self.migrations is not None:
            from mulligan.stores.migrate import migrate

            await migrate(self.addresses, self.schema or self.service, self.migrations)
        if self._directory is None:
            self._directory = ActorDirectory(self.etcd)
            await self._directory.start()

    async def open(self) -> None:
        """Takes ownership, builds the service, announces itself. Tried again, it keeps what it took and built."""
        if self._built is None:
            await self._take_and_build()
        await self.announce(keys.catalog_actor(self.service, self.shard))

    async def _take_and_build(self) -> None:
        ownership = None
        if self.owns_shard:
            from mulligan.stores.postgres import Ownership

            assert self._pool is not None, "an owner needs Postgres"
            ownership = await Ownership.take(self._pool, self.service, self.shard)
            self._epoch = ownership.epoch
        assert self._directory is not None
        context = ShardContext(
            self.addresses, self.shard, str(self.name), self.etcd, self._directory, self._pool, ownership
        )
        built = await self.build(context)
        self._table = MethodTable(self.descriptor, built) if self.descriptor is not None else None
        self._internals = self.internals(built)
        self._built = built
        self.keep_running("guard", lambda: self._guard(context))

    async def close(self, deadline_s: float) -> None:
        """Releases what was built and the connections."""
        if self._built is not None:
            await self.release(self._built, deadline_s)
        if self._directory is not None:
            await self._directory.close()
        if self._pool is not None:
            async with asyncio.timeout(deadline_s):
                await self._pool.close()

    async def dependencies(self) -> list[ComponentHealth]:
        """Postgres, when it is used."""
        if self._pool is None:
            return []
        pool = self._pool
        return [await probe("postgres", lambda: pool.fetchval("SELECT 1"))]

    def detail(self) -> str:
        """Its epoch and load."""
        owned = f"epoch {self._epoch}, " if self.owns_shard else ""
        return f"{owned}{self.in_flight} in flight"

    async def _guard(self, context: ShardContext) -> None:
        """Sees within seconds that another actor took over, even if this one only reads."""
        while True:
            await asyncio.sleep(GUARD_PAUSE_S)
            if context.pool is not None and context.ownership is not None:
                async with context.pool.acquire(timeout=GUARD_PAUSE_S) as connection:
                    await context.ownership.check(connection)
            if context.directory.incarnation(self.service, self.shard) != self.incarnation:
                await self.announce_again()

    async def _internal(self, method: str, request: bytes) -> Reply:
        handler = self._internals.get(method)
        try:
            if handler is None:
                raise Unimplemented(f"{self.service} has no internal method {method}; update its component")
            return Code.OK, await handler(request)
        except Exception as error:
            return failure(method, error)

    def _refusal(self) -> Reply:
        draining = self.state is State.DRAINING
        error = Unavailable(
            f"{self.service} of shard {self.shard} is {self.state.value}; try again",
            reason="DRAINING" if draining else "SHARD_UNAVAILABLE",
            retry_after_s=0.2,
        )
        return error.code, to_status(error).SerializeToString()

    def _check_fence(self, payload: bytes) -> None:
        if from_status(Status.FromString(payload)).reason == "FENCED":
            self.step_down()


def internal_method(request: type[Message], handler: Callable[[Any], Awaitable[Message]]) -> InternalMethod:
    """An internal method over messages: parses the request, serializes the response."""

    async def serve(data: bytes) -> bytes:
        return (await handler(request.FromString(data))).SerializeToString()

    return serve
