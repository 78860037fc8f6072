"""The actor that serves providers and claims of a shard."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from actors.base import InternalMethod, ServiceActor, ShardContext, internal_method
from mulligan.api.internal.v1.claims_pb2 import FindEndedClaimsRequest
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.api.resource.v1 import resource_service_pb2
from mulligan.resource.ended import find_ended_claims
from mulligan.resource.service import INTERNAL, MIGRATIONS, SERVICE, ResourceService

# Objects made before the youngest are looked through for garbage: claims make hundreds each and leave next to none.
_GC_THRESHOLDS = (20_000, 20, 50)


class ResourceActor(ServiceActor):
    """Serves `mulligan.resource.v1.ResourceService`."""

    service = SERVICE
    descriptor: ClassVar[ServiceDescriptor] = resource_service_pb2.DESCRIPTOR.services_by_name["ResourceService"]
    migrations = MIGRATIONS
    # One for the writer, the others for reads.
    pool_size = 6

    async def build(self, context: ShardContext) -> ResourceService:
        """The service with its memory rebuilt."""
        pool, ownership = context.owned()
        gc.set_threshold(*_GC_THRESHOLDS)
        built = await ResourceService.open(pool, ownership, context.etcd)
        built.core.on_read = _settle_memory
        _settle_memory()
        self.keep_running("memory", built.core.watch)
        self.keep_running("housekeeping", built.housekeeper.run)
        return built

    def internals(self, built: Any) -> Mapping[str, InternalMethod]:
        """What the control service calls; it has checked whose the claim is."""
        return {
            "FindEndedClaims": internal_method(FindEndedClaimsRequest, partial(find_ended_claims, built.core)),
            "GetClaim": internal_method(messages.GetClaimRequest, partial(built.get_claim, caller=INTERNAL)),
            "ReleaseClaim": internal_method(
                messages.ReleaseClaimRequest, partial(built.release_claim, caller=INTERNAL)
            ),
            "SetProviderState": internal_method(
                messages.SetProviderStateRequest, partial(built.set_provider_state, caller=INTERNAL)
            ),
        }

    async def release(self, built: Any, deadline_s: float) -> None:
        """Stores what is on its way and stops following etcd."""
        async with asyncio.timeout(deadline_s):
            await built.close()


def _settle_memory() -> None:
    """A hundred thousand providers are not to be looked through for garbage again and again: that takes 0.3 s."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
