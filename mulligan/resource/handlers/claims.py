"""Claims: made, read, listed, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from google.rpc.error_details_pb2 import QuotaFailure

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import InvalidArgument, MulliganError, NotFound, PermissionDenied, ResourceExhausted
from mulligan.ids import new_id
from mulligan.requests import decode_page_token, encode_page_token, page_size, request_digest
from mulligan.resource.batch import RequestKey, Write
from mulligan.resource.core import Answer, Core, Memory, request_key, same_request
from mulligan.resource.explain import Explainer, shortages_of_whole_providers
from mulligan.resource.listing import ClaimFilter, list_claims
from mulligan.resource.model import Allocation, Claim
from mulligan.resource.planner import Placement, Scope, named
from mulligan.resource.spec import Request, canonical_id
from mulligan.resource.window import parse_window
from mulligan.resource.wire import claim_message
from mulligan.resource.world import World


@dataclass(slots=True)
class Draft:
    """A valid request that was not planned yet."""

    wanted: Request
    project: str
    # The region that was named; empty: any.
    region: str
    scope: Scope
    now: int


@dataclass(slots=True)
class Planned:
    """A claim whose use is in the memory."""

    claim: Claim
    memory: Memory
    placements: list[Placement]

    def undo(self) -> None:
        """Takes its use out of the memory again."""
        claim, world = self.claim, self.memory.world
        self.memory.planner.undo(self.placements, claim.acquire_us, claim.release_us)
        world.quotas.add(claim.project, claim.totals(), world.now, claim.acquire_us, claim.release_us, -1)


class ClaimHandlers:
    """Serves the RPCs about claims."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._explainer = Explainer(core)
        self._releasing: dict[str, asyncio.Future[bytes | None]] = {}

    async def create_claim(self, request: messages.CreateClaimRequest, caller: Caller) -> object:
        """Claims resources, or with validate_only says what would be claimed."""
        if request.validate_only:
            return await self._rehearse(request, caller)
        key = request_key(caller, request.request_id)
        return await self._core.once(key, request_digest(request), partial(self._create, request, caller))

    async def explain_claim(
        self, request: messages.ExplainClaimRequest, caller: Caller
    ) -> messages.ExplainClaimResponse:
        """How many providers each constraint leaves, and what is short."""
        draft = self._draft(request.region, request.spec, caller)
        return await self._explainer.explain(draft.wanted, draft.project, draft.scope)

    async def get_claim(self, request: messages.GetClaimRequest, caller: Caller) -> messages.GetClaimResponse:
        """One claim."""
        claim = await self._visible(request, caller)
        return messages.GetClaimResponse(claim=claim_message(claim, self._core.clock()))

    async def list_claims(self, request: messages.ListClaimsRequest, caller: Caller) -> messages.ListClaimsResponse:
        """Claims of the caller's project, of all projects for a system assignment."""
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        wanted = ClaimFilter(
            shard=self._core.store.shard,
            after=canonical_id(after, "page_token") if after else "",
            project="" if caller.system else caller.project,
            any_project=caller.system,
            regions=self._core.regions.scope(request.region, caller).regions if request.region else None,
            named=self._core.regions.line_of(request.region) if request.region else (),
            window=parse_window(request.window, self._core.clock()) if request.HasField("window") else None,
            provider=canonical_id(request.provider, "provider") if request.provider else "",
            consumer=canonical_id(request.consumer, "consumer") if request.consumer else "",
        )
        found = await self._core.store.read(lambda connection: list_claims(connection, wanted, size + 1))
        now = self._core.clock()
        return messages.ListClaimsResponse(
            claims=[claim_message(claim, now) for claim in found[:size]],
            next_page_token=encode_page_token({"after": found[size - 1].id}) if len(found) > size else "",
        )

    async def release_claim(self, request: messages.ReleaseClaimRequest, caller: Caller) -> Answer:
        """Gives a claim back; one that is over or was given back is left as it is."""
        key = request_key(caller, request.request_id)
        return await self._core.once(key, request_digest(request), partial(self._release, request, caller))

    # Making a claim.

    async def _create(
        self, request: messages.CreateClaimRequest, caller: Caller, key: RequestKey, digest: bytes
    ) -> bytes:
        draft, planned = await self._plan_in_time(request, caller)
        if not isinstance(planned, Planned):
            return await self._refuse(draft, planned, key, digest)
        message = claim_message(planned.claim, draft.now)
        response = messages.CreateClaimResponse(claim=message).SerializeToString()
        write = Write(key, digest, response, planned.claim, commit=_nothing, undo=planned.undo)
        return await planned.memory.writer.submit(write) or response

    async def _plan_in_time(
        self, request: messages.CreateClaimRequest, caller: Caller
    ) -> tuple[Draft, Planned | list[claim_pb2.QuotaShortage]]:
        """Plans while no quota of the project is being changed, and once more when what has no room may have it soon.

        Whatever was waited for, all may be different then.
        """
        core = self._core
        while True:
            draft = self._draft(request.region, request.spec, caller)
            gate = core.gates.get(draft.project)
            if gate is not None:
                await gate.wait()
                continue
            planned = self._plan(draft)
            if planned != [] or core.thawed.is_set():
                return draft, planned
            await core.thawed.wait()

    def _draft(self, region: str, spec: claim_pb2.ClaimSpec, caller: Caller) -> Draft:
        core = self._core
        world = core.world
        scope = core.regions.scope(region, caller)
        wanted = world.specs.parse(spec, world.now)
        project = wanted.project or caller.project
        if wanted.project and wanted.project != caller.project and not caller.system:
            raise PermissionDenied(
                "spec.project is not your token's project; only a system assignment may name another"
            )
        if not project:
            raise InvalidArgument("your token acts in no project; name one in spec.project", field="spec.project")
        return Draft(wanted, project, region, scope, world.now)

    def _plan(self, draft: Draft) -> Planned | list[claim_pb2.QuotaShortage]:
        """The claim, in use in memory; else the quotas that are short, none when it is capacity that is."""
        memory, wanted = self._core.memory, draft.wanted
        world, begin, end = memory.world, wanted.acquire_us, wanted.release_us
        headroom = world.quotas.headroom(draft.project, world.now, begin, end)
        if headroom is not None:
            shortages = world.quotas.shortages(draft.project, wanted.demand.least, begin, end)
            if shortages:
                return shortages
        placements = memory.planner.plan(wanted.demand, draft.scope, begin, end, wanted.strategy, headroom)
        if placements is None:
            return shortages_of_whole_providers(memory, wanted, draft.project, draft.scope)
        claim = self._claim(draft, placements)
        if headroom is not None:
            world.quotas.add(claim.project, claim.totals(), world.now, begin, end)
        return Planned(claim, memory, placements)

    def _claim(self, draft: Draft, placements: Sequence[Placement]) -> Claim:
        wanted = draft.wanted
        allocations = [
            Allocation(each.group.name, each.provider.id, resource_type, amount, each.group.exclusive)
            for each in placements
            for resource_type, amount in named(each.provider.profile, each.needs)
        ]
        region = placements[0].provider.region
        if len(placements) > 1:
            region = self._core.regions.common({each.provider.region for each in placements}, draft.region)
        return Claim(
            new_id(),
            region,
            draft.project,
            wanted.consumer,
            wanted.acquire_us,
            wanted.release_us,
            draft.now,
            allocations=allocations,
        )

    async def _rehearse(self, request: messages.CreateClaimRequest, caller: Caller) -> messages.CreateClaimResponse:
        draft = self._draft(request.region, request.spec, caller)
        planned = self._plan(draft)
        if not isinstance(planned, Planned):
            raise await self._refusal(draft, planned)
        planned.undo()
        planned.claim.id = ""
        return messages.CreateClaimResponse(claim=claim_message(planned.claim, draft.now))

    async def _refuse(
        self, draft: Draft, shortages: list[claim_pb2.QuotaShortage], key: RequestKey, digest: bytes
    ) -> bytes:
        """The answer of the first time, if the request is a retry; else raises why there is none."""
        known = await self._core.store.replay(key)
        if known is not None:
            return same_request(key, digest, known)
        raise await self._refusal(draft, shortages)

    async def _refusal(self, draft: Draft, shortages: list[claim_pb2.QuotaShortage]) -> MulliganError:
        if shortages:
            return _quota_exceeded(draft.project, shortages)
        return await self._explainer.refusal(draft.wanted, draft.project, draft.scope)

    # Giving one back.

    async def _release(
        self, request: messages.ReleaseClaimRequest, caller: Caller, key: RequestKey, digest: bytes
    ) -> bytes:
        claim = await self._visible(request, caller)
        while (other := self._releasing.get(claim.id)) is not None:
            await asyncio.wait([other])
            claim = await self._visible(request, caller)
        memory = self._core.memory
        now = self._core.world.now
        if claim.released or claim.release_us <= now:
            known = await self._core.store.replay(key)
            if known is not None:
                return same_request(key, digest, known)
            return messages.ReleaseClaimResponse(claim=claim_message(claim, now)).SerializeToString()
        released_us = max(now, claim.acquire_us)
        after = Claim(
            claim.id,
            claim.region,
            claim.project,
            claim.consumer,
            claim.acquire_us,
            released_us,
            claim.created_us,
            True,
            claim.allocations,
        )
        response = messages.ReleaseClaimResponse(claim=claim_message(after, now)).SerializeToString()
        write = Write(
            key, digest, response, claim, commit=partial(_free, memory, claim), undo=_nothing, released_us=released_us
        )
        self._releasing[claim.id] = write.done
        try:
            return await memory.writer.submit(write) or response
        finally:
            del self._releasing[claim.id]

    async def _visible(self, request: messages.GetClaimRequest | messages.ReleaseClaimRequest, caller: Caller) -> Claim:
        """Raises NotFound for a claim that is not there, is somebody else's, or lies where the request cannot reach."""
        identifier, regions = canonical_id(request.id, "id"), self._core.regions
        claim = await self._core.store.claim(identifier)
        if (
            claim is None
            or (claim.project != caller.project and not caller.system)
            or not regions.reaches(_places(self._core.world, claim), request.region, caller)
        ):
            raise NotFound(
                f"there is no claim {identifier}; ListClaims tells which there are", metadata={"claim": identifier}
            )
        return claim


def _places(world: World, claim: Claim) -> set[str]:
    """Where the claim is: the regions of its providers. Of one that is gone, the claim's own speaks."""
    providers = [world.providers.get(each.provider) for each in claim.allocations]
    return {each.region if each else claim.region for each in providers}


def _free(memory: Memory, claim: Claim) -> None:
    """Takes a released claim's use out of the memory."""
    world = memory.world
    for each in claim.allocations:
        provider = world.provider(each.provider)
        needs = ((provider.profile.position[each.resource_type], each.amount),)
        world.use(provider, needs, claim.acquire_us, claim.release_us, -1)
    world.quotas.add(claim.project, claim.totals(), world.now, claim.acquire_us, claim.release_us, -1)


def _nothing() -> None:
    pass


def _quota_exceeded(project: str, shortages: Sequence[claim_pb2.QuotaShortage]) -> ResourceExhausted:
    lacks = [
        f"{each.resource_type}: {each.asked} asked, {each.used} of {each.limit} in use at the peak of the window"
        for each in shortages
    ]
    violations = [
        QuotaFailure.Violation(subject=f"project:{project}", description=lack, quota_metric=each.resource_type)
        for each, lack in zip(shortages, lacks, strict=True)
    ]
    return ResourceExhausted(
        f"the project's quota is exceeded ({'; '.join(lacks)}); release claims, ask for less or for another time",
        reason="QUOTA_EXCEEDED",
        metadata={"project": project},
        details=[
            QuotaFailure(violations=violations),
            messages.ExplainClaimResponse(quota_shortages=shortages, summary="a quota of the project is exceeded"),
        ],
    )
