"""The actor that serves machines, operations and BMCs of a shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from actors.base import InternalMethod, ServiceActor, ShardContext, internal_method
from actors.health import ComponentHealth
from actors.nats_link import NatsLink
from actors.queues import queue_health
from actors.resource_calls import ResourceCalls
from mulligan.api.control.v1 import control_service_pb2
from mulligan.api.internal.v1.boot_pb2 import BootScriptRequest, PhoneHomeRequest
from mulligan.control.assembly import ControlParts
from mulligan.control.outbox import JetStreamTaskQueue
from mulligan.control.service import ControlService
from mulligan.control.store import MIGRATIONS, SERVICE


class ControlActor(ServiceActor):
    """Serves `mulligan.control.v1.ControlService` and the boot endpoint's calls."""

    service = SERVICE
    descriptor: ClassVar[ServiceDescriptor] = control_service_pb2.DESCRIPTOR.services_by_name["ControlService"]
    migrations = MIGRATIONS
    pool_size = 8

    _nats: NatsLink | None = None
    _parts: ControlParts | None = None

    async def build(self, context: ShardContext) -> ControlService:
        """The service, with its sweepers running."""
        if self._nats is None:
            self._nats = NatsLink(context.addresses, context.name)
        await self._nats.jetstream()
        pool, ownership = context.owned()
        queue = JetStreamTaskQueue(self._nats.jetstream)
        claims = ResourceCalls(context.directory, lambda region: context.shard)
        self._parts = await ControlParts.open(context.addresses, context.etcd, pool, ownership, queue, claims)
        self.keep_running("outbox", self._parts.outbox.run)
        self.keep_running("expiry", self._parts.expiry.run)
        return self._parts.service

    def internals(self, built: Any) -> Mapping[str, InternalMethod]:
        """The calls of the boot endpoint."""
        assert self._parts is not None
        boot = self._parts.boot
        return {
            "BootScript": internal_method(BootScriptRequest, boot.boot_script),
            "PhoneHome": internal_method(PhoneHomeRequest, boot.phone_home),
        }

    async def release(self, built: Any, deadline_s: float) -> None:
        """Stops following etcd and leaves NATS."""
        if self._parts is not None:
            await self._parts.close()
        if self._nats is not None:
            await self._nats.close()

    async def dependencies(self) -> list[ComponentHealth]:
        """Postgres, NATS, and what the queues hold."""
        known = await super().dependencies()
        if self._nats is None:
            return known
        return [*known, await self._nats.health(), *await queue_health(self._nats.jetstream)]
