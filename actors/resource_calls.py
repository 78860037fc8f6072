"""What the control service and its results ask the resource service, put to the actor of the right shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from actors.handles import ActorDirectory
from mulligan.api.internal.v1.claims_pb2 import FindEndedClaimsRequest, FindEndedClaimsResponse
from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb

CALL_DEADLINE_S: Final = 10.0


class ResourceCalls:
    """Claims and providers by their ids. Every call may be repeated."""

    def __init__(self, directory: ActorDirectory, shard_of: Callable[[str], str]) -> None:
        """`shard_of` tells the shard of a region; shards of resource and control have the same names."""
        self._directory = directory
        self._shard_of = shard_of

    async def get(self, region: str, claim: str) -> claim_pb2.Claim:
        """A claim of any project; raises NotFound."""
        request = pb.GetClaimRequest(region=region, id=claim)
        answer = await self._ask(region, "GetClaim", request.SerializeToString())
        return pb.GetClaimResponse.FromString(answer).claim

    async def ended(self, claims: Sequence[str]) -> Sequence[str]:
        """Those of the shard's claims that are over, were released, or are not there."""
        request = FindEndedClaimsRequest(claims=claims)
        answer = await self._ask("", "FindEndedClaims", request.SerializeToString())
        return FindEndedClaimsResponse.FromString(answer).ended

    async def release_claim(self, region: str, claim: str, request_id: str) -> None:
        """Ends a claim; one that has ended is left as it is. Raises NotFound."""
        # The id alone names the claim: its own region may lie above the machine's.
        request = pb.ReleaseClaimRequest(request_id=request_id, id=claim)
        await self._ask(region, "ReleaseClaim", request.SerializeToString())

    async def quarantine(self, region: str, provider: str, reason: str, request_id: str) -> None:
        """Takes a provider out of placement; raises NotFound."""
        request = pb.SetProviderStateRequest(
            request_id=request_id,
            id=provider,
            state=provider_pb2.PROVIDER_STATE_QUARANTINED,
            reason=reason,
        )
        await self._ask(region, "SetProviderState", request.SerializeToString())

    async def _ask(self, region: str, method: str, request: bytes) -> bytes:
        return await self._directory.internal("resource", self._shard_of(region), method, request, CALL_DEADLINE_S)
