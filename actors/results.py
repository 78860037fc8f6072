"""The actor that saves what executors saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from actors.base import ServiceActor, ShardContext
from actors.health import ComponentHealth
from actors.nats_link import NatsLink
from actors.pulling import pull_until_left
from actors.resource_calls import ResourceCalls
from mulligan.api.internal.v1.task_pb2 import StepResult
from mulligan.clock import now_us
from mulligan.control.changes import Changes
from mulligan.control.regions import Regions
from mulligan.control.results import ResultSaver
from mulligan.control.store import MIGRATIONS, Database
from mulligan.control.store import SERVICE as CONTROL
from mulligan.ids import is_id
from mulligan.meta.names import NameStore
from mulligan.stores.nats import RESULTS, Poisoned, PullLoop

if TYPE_CHECKING:
    from nats.aio.msg import Msg

# The consumer that all results actors share: any of them saves results of any shard, guarded by row locks.
DURABLE: Final = "results"
CONCURRENCY: Final = 32
# What an actor held that died comes to another one after this time.
ACK_WAIT_S: Final = 6.0


class ResultsActor(ServiceActor):
    """Takes step results from their stream; serves nobody."""

    service = "results"
    migrations = MIGRATIONS
    schema = CONTROL
    pool_size = 8
    owns_shard = False

    _nats: NatsLink | None = None
    _saver: ResultSaver | None = None
    _loop: PullLoop | None = None

    async def build(self, context: ShardContext) -> Any:
        """Begins to take results."""
        assert context.pool is not None
        if self._nats is None:
            self._nats = NatsLink(context.addresses, context.name)
        connected = self._nats.jetstream
        await connected()
        regions, changes = Regions(context.etcd, context.shard), Changes(context.etcd)
        await regions.start()
        resources = ResourceCalls(context.directory, regions.shard_of)
        self._saver = ResultSaver(Database(context.pool), resources, NameStore(context.etcd), changes, now_us)

        async def pull() -> None:
            self._loop = PullLoop(await connected(), RESULTS, DURABLE, self._save, CONCURRENCY, ACK_WAIT_S)
            await pull_until_left(self, self._loop)

        self.keep_running("pull", pull)
        return regions

    async def release(self, built: Any, deadline_s: float) -> None:
        """Stops following etcd and leaves NATS."""
        await built.close()
        if self._nats is not None:
            await self._nats.close()

    async def dependencies(self) -> list[ComponentHealth]:
        """Postgres and NATS."""
        known = await super().dependencies()
        return known if self._nats is None else [*known, await self._nats.health()]

    def detail(self) -> str:
        """Results that are being saved."""
        return f"{self._loop.in_flight if self._loop else 0} results in flight"

    async def _save(self, message: Msg) -> None:
        assert self._saver is not None
        try:
            result = StepResult.FromString(message.data)
        except DecodeError:
            raise Poisoned("it is not a mulligan.internal.v1.StepResult") from None
        if not is_id(result.operation):
            raise Poisoned("it is a mulligan.internal.v1.StepResult without the UUID of an operation")
        await self._saver.save(result)
