"""Which claims have ended: asked by the control service about the machines that it runs."""

from __future__ import annotations

from mulligan.api.internal.v1.claims_pb2 import FindEndedClaimsRequest, FindEndedClaimsResponse
from mulligan.resource.core import Core
from mulligan.resource.spec import canonical_id


async def find_ended_claims(core: Core, request: FindEndedClaimsRequest) -> FindEndedClaimsResponse:
    """Those that are over, were released, or are not in the shard; in one query. Raises Unavailable."""
    asked = [canonical_id(each, "claims") for each in request.claims]
    now = core.clock()
    live = {each.id for each in await core.store.claims(asked) if not each.released and each.release_us > now}
    return FindEndedClaimsResponse(ended=[each for each in asked if each not in live])
