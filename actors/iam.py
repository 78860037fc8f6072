"""The actor that owns accounts, projects, roles and tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from actors.base import ServiceActor, ShardContext
from mulligan.api.iam.v1 import iam_service_pb2
from mulligan.iam.service import MIGRATIONS, SERVICE, IamService


class IamActor(ServiceActor):
    """Serves `mulligan.iam.v1.IamService`; its only shard is "global"."""

    service = SERVICE
    descriptor: ClassVar[ServiceDescriptor] = iam_service_pb2.DESCRIPTOR.services_by_name["IamService"]
    migrations = MIGRATIONS
    # For ownership and health only; the service has an engine of its own.
    pool_size = 1

    async def build(self, context: ShardContext) -> IamService:
        """The service, with its maintenance running."""
        _, ownership = context.owned()
        built = await IamService.open(context.addresses, context.etcd, ownership)
        self.keep_running("maintenance", built.maintain)
        return built

    async def release(self, built: Any, deadline_s: float) -> None:
        """Lets connections and threads go."""
        await built.close()
