"""The actor that works on hardware."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.base import ServiceActor, ShardContext
from actors.health import ComponentHealth
from actors.nats_link import NatsLink
from actors.pulling import pull_until_left
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.control.store import MIGRATIONS
from mulligan.control.store import SERVICE as CONTROL
from mulligan.executor.assembly import ExecutorParts
from mulligan.executor.tasks import ACK_WAIT_S, DURABLE
from mulligan.runtime_settings import RuntimeSettings
from mulligan.stores.nats import TASKS, PullLoop


class ExecutorActor(ServiceActor):
    """Takes tasks of every region from their queue; serves nobody."""

    kind: ClassVar[str] = "executor"
    service = "executor"
    migrations = MIGRATIONS
    schema = CONTROL
    pool_size = 8
    owns_shard = False

    _nats: NatsLink | None = None
    _parts: ExecutorParts | None = None
    _settings: RuntimeSettings[ExecutorSettings] | None = None
    _loop: PullLoop | None = None

    async def build(self, context: ShardContext) -> Any:
        """Starts the worker process and begins to take tasks."""
        assert context.pool is not None
        if self._nats is None:
            self._nats = NatsLink(context.addresses, context.name)
        connected = self._nats.jetstream
        await connected()
        settings = self._settings = RuntimeSettings(context.etcd, "executor", ExecutorSettings)
        await settings.start()
        settings.on_change.append(self._resize)
        parts = self._parts = await ExecutorParts.open(
            context.addresses, context.etcd, context.pool, connected, lambda: settings.current, context.name
        )

        async def pull() -> None:
            concurrency = settings.current.max_tasks
            self._loop = PullLoop(await connected(), TASKS, DURABLE, parts.handler, concurrency, ACK_WAIT_S)
            await pull_until_left(self, self._loop)

        self.keep_running("pull", pull)
        return parts

    async def release(self, built: Any, deadline_s: float) -> None:
        """Ends the worker process, stops following etcd and leaves NATS."""
        await built.close()
        if self._settings is not None:
            await self._settings.close()
        if self._nats is not None:
            await self._nats.close()

    async def dependencies(self) -> list[ComponentHealth]:
        """Postgres, NATS, and the worker process."""
        known = await super().dependencies()
        if self._nats is None or self._parts is None:
            return known
        worker = self._parts.worker.status
        told = f"pid {worker.pid}, {worker.restarts} restarts, {worker.in_flight} questions under way"
        line = ComponentHealth("executor", f"{self.name} ipmi worker", worker.pid is not None, told)
        return [*known, await self._nats.health(), line]

    def detail(self) -> str:
        """Tasks at the moment."""
        return f"{self._loop.in_flight if self._loop else 0} tasks"

    def _resize(self, settings: ExecutorSettings) -> None:
        if self._loop is not None:
            self._loop.resize(settings.max_tasks)
