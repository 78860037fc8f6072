"""Says why a claim does not fit: off the hot path, a few at a time, and the same question within a second only once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.clock import SECOND
from mulligan.errors import MulliganError, ResourceExhausted
from mulligan.resource.core import Core, Memory
from mulligan.resource.funnel import Funnel
from mulligan.resource.planner import Scope, named
from mulligan.resource.spec import Request

# A refusal's explanation is used again for as long.
_FRESH_US = SECOND
# Refusals explained at once; of those that come on top only so many wait, the others go without.
_AT_ONCE = 2
_MAX_WAITING = 16

# A status travels in a gRPC trailer, which is short.
MAX_DETAIL_BYTES = 2048

_Key = tuple[object, Scope, int, int]


class Explainer:
    """Explains claims."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._recent: dict[_Key, tuple[int, asyncio.Task[messages.ExplainClaimResponse]]] = {}

    async def explain(self, wanted: Request, project: str, scope: Scope) -> messages.ExplainClaimResponse:
        """The whole explanation."""
        memory = self._core.memory
        response = messages.ExplainClaimResponse()
        response.fits = self._rehearse(memory, wanted, project, scope, response)
        await self._add_funnel(memory, wanted, scope, response)
        return response

    async def refusal(self, wanted: Request, project: str, scope: Scope) -> MulliganError:
        """The error that a claim without capacity gets: it says which constraint left no provider."""
        explanation = await self._shared(wanted, scope)
        if explanation is None:
            return ResourceExhausted("no provider has room for the claim; ask ExplainClaim why", reason="NO_CAPACITY")
        return ResourceExhausted(explanation.summary, reason="NO_CAPACITY", details=[_shortened(explanation)])

    async def _shared(self, wanted: Request, scope: Scope) -> messages.ExplainClaimResponse | None:
        now = self._core.clock()
        begin = wanted.acquire_us if wanted.acquire_us > now else 0
        key = (wanted.demand, scope, begin, wanted.release_us)
        made_us, task = self._recent.get(key, (0, None))
        if task is None or now - made_us > _FRESH_US:
            if self._waiting >= _MAX_WAITING:
                return None
            self._recent = {each: recent for each, recent in self._recent.items() if now - recent[0] <= _FRESH_US}
            task = asyncio.get_running_loop().create_task(self._in_turn(wanted, scope))
            self._recent[key] = now, task
        return await asyncio.shield(task)

    async def _in_turn(self, wanted: Request, scope: Scope) -> messages.ExplainClaimResponse:
        self._waiting += 1
        try:
            async with self._slots:
                response = messages.ExplainClaimResponse()
                await self._add_funnel(self._core.memory, wanted, scope, response)
                return response
        finally:
            self._waiting -= 1

    def _rehearse(
        self, memory: Memory, wanted: Request, project: str, scope: Scope, response: messages.ExplainClaimResponse
    ) -> bool:
        """Whether it fits, quotas included; adds those that are short."""
        begin, end, quotas = wanted.acquire_us, wanted.release_us, memory.world.quotas
        headroom = quotas.headroom(project, memory.world.now, begin, end)
        shortages = [] if headroom is None else quotas.shortages(project, wanted.demand.least, begin, end)
        if not shortages:
            placements = memory.planner.plan(wanted.demand, scope, begin, end, wanted.strategy, headroom)
            if placements is not None:
                memory.planner.undo(placements, begin, end)
                return True
            shortages = shortages_of_whole_providers(memory, wanted, project, scope)
        response.quota_shortages.extend(shortages)
        return False

    async def _add_funnel(
        self, memory: Memory, wanted: Request, scope: Scope, response: messages.ExplainClaimResponse
    ) -> None:
        funnel = Funnel(memory.world, wanted.demand, scope, wanted.acquire_us, wanted.release_us)
        response.groups.extend(await funnel.run())
        first_us = None if response.fits else await funnel.first_fit()
        response.summary = _summary(response, first_us, wanted.acquire_us)


def shortages_of_whole_providers(
    memory: Memory, wanted: Request, project: str, scope: Scope
) -> list[claim_pb2.QuotaShortage]:
    """What the quotas lack of a claim that finds nothing within them, though it asks for no more than they leave.

    An exclusive group takes more than its least: how much is known once it is planned without them.
    """
    begin, end, quotas = wanted.acquire_us, wanted.release_us, memory.world.quotas
    if not quotas.of(project) or not any(group.exclusive for group in wanted.demand.groups):
        return []
    placements = memory.planner.plan(wanted.demand, scope, begin, end, wanted.strategy)
    if placements is None:
        return []
    memory.planner.undo(placements, begin, end)
    asked: dict[str, int] = {}
    for each in placements:
        for kind, amount in named(each.provider.profile, each.needs):
            asked[kind] = asked.get(kind, 0) + amount
    return quotas.shortages(project, asked, begin, end)


def _summary(response: messages.ExplainClaimResponse, first_us: int | None, acquire_us: int) -> str:
    if response.fits:
        return "the claim fits"
    for group in response.groups:
        before = None
        for step in group.funnel:
            if not step.left:
                had = "" if before is None else f" ({before} before it)"
                later = _later(first_us, acquire_us)
                return f"group {group.name}: no provider is left after {step.constraint!r}{had}{later}"
            before = step.left
    if response.quota_shortages:
        short = ", ".join(each.resource_type for each in response.quota_shortages)
        return f"there is capacity, but the project's quota of {short} is short"
    if len(response.groups) > 1:
        return "each group finds providers by itself, but they cannot all be placed together"
    return "a provider had no room when the claim was made and has now; try again"


def _later(first_us: int | None, acquire_us: int) -> str:
    if first_us is None or first_us <= acquire_us:
        return ""
    at = datetime.fromtimestamp(first_us // SECOND + (first_us % SECOND > 0), UTC)
    return f"; it would first fit at {at:%Y-%m-%dT%H:%M:%SZ}"


def _shortened(explanation: messages.ExplainClaimResponse) -> messages.ExplainClaimResponse:
    """The explanation with as many groups and steps as may travel with an error, those that left nobody first."""
    short = messages.ExplainClaimResponse(summary=explanation.summary)
    for group in sorted(explanation.groups, key=lambda each: all(step.left for step in each.funnel)):
        kept = claim_pb2.GroupExplanation(name=group.name)
        for step in group.funnel:
            kept.funnel.append(step)
            if not step.left:
                break
        short.groups.append(kept)
        while short.ByteSize() > MAX_DETAIL_BYTES and short.groups[-1].funnel:
            del short.groups[-1].funnel[0]
        if short.ByteSize() > MAX_DETAIL_BYTES:
            del short.groups[-1]
            break
    return short
