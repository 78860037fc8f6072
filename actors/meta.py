"""The actor that serves names, tags and regions."""

from __future__ import annotations

from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from actors.base import ServiceActor, ShardContext
from mulligan.api.meta.v1 import meta_service_pb2
from mulligan.meta.service import SERVICE, MetaService


class MetaActor(ServiceActor):
    """Serves `mulligan.meta.v1.MetaService`; its only shard is "global".

    It owns nothing in Postgres: every write is one etcd transaction that names what it expects, so two of these
    at once are as safe as one.
    """

    service = SERVICE
    descriptor: ClassVar[ServiceDescriptor] = meta_service_pb2.DESCRIPTOR.services_by_name["MetaService"]
    pool_size = 0
    owns_shard = False

    async def build(self, context: ShardContext) -> MetaService:
        """The service, with objects and regions in memory."""
        return await MetaService.open(context.etcd)

    async def release(self, built: Any, deadline_s: float) -> None:
        """Stops following etcd."""
        await built.close()
