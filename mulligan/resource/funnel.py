"""How many providers each constraint of a claim leaves: what a refusal and ExplainClaim tell.

It looks at every provider, so it gives others a turn every few milliseconds; the memory may change meanwhile, and the
counts are those of slightly different moments then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from mulligan.api.resource.v1 import claim_pb2
from mulligan.resource.candidates import has_room
from mulligan.resource.demand import Demand, GroupDemand, Needs
from mulligan.resource.distance import Distance
from mulligan.resource.index import Cell
from mulligan.resource.model import Provider
from mulligan.resource.planner import Scope
from mulligan.resource.timeline import FOREVER
from mulligan.resource.world import World

# Seconds that the event loop is held at most, and providers between two looks at the clock.
SLICE_S = 0.003
_LOOK_EVERY = 64

# Moments at which a provider is tried for when it would first have room.
_MAX_MOMENTS = 64

# Providers that are still there, by cell.
Left = list[tuple[Cell, list[Provider]]]


class Turns:
    """Gives others a turn when it has taken long enough."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._count = 0

    async def step(self, count: int = 1) -> None:
        """To be called in every round of a long loop, with the number of providers looked at in it."""
        self._count += count
        if self._count >= _LOOK_EVERY:
            self._count = 0
            if perf_counter() - self._began > SLICE_S:
                await asyncio.sleep(0)
                self._began = perf_counter()


class Funnel:
    """The constraints of a claim, applied one after the other."""

    def __init__(self, world: World, demand: Demand, scope: Scope, begin: int, end: int) -> None:
        self._world = world
        self._demand = demand
        self._scope = scope
        self._begin = begin
        self._end = end
        self._turns = Turns()
        # What is left of each group after all its constraints but room, and after that too.
        self._suitable: list[Left] = []
        self._left: list[Left] = []

    async def run(self) -> list[claim_pb2.GroupExplanation]:
        """One explanation for each group."""
        return [await self._explain(group) for group in self._demand.groups]

    async def first_fit(self) -> int | None:
        """When a claim of one group would first fit; None when it never would or that was not looked for."""
        if len(self._demand.groups) != 1:
            return None
        group, first = self._demand.groups[0], FOREVER
        for _, providers in self._suitable[0]:
            for provider in providers:
                await self._turns.step()
                needs = group.needs(provider.profile)
                if needs is not None:
                    first = min(first, _first_room(provider, needs, self._begin, self._end))
        return first if first < FOREVER else None

    async def _explain(self, group: GroupDemand) -> claim_pb2.GroupExplanation:
        explanation = claim_pb2.GroupExplanation(name=group.name)

        def note(constraint: str, left: Left) -> Left:
            explanation.funnel.add(constraint=constraint, left=sum(len(providers) for _, providers in left))
            return left

        left = note("provider in the region", await self._in_scope())
        left = note("in service", await self._in_service(left))
        for check in group.checks():
            left = note(check.label, [each for each in left if check.passes(each[0].pool.profile)])
        for label, admits in _membership_checks(group):
            left = note(label, [each for each in left if admits(each[0].groups)])
        for bound in group.distances:
            left = note(bound.label, await self._within(bound, left))
        self._suitable.append(left)
        if group.exclusive:
            left = note("nothing else in use in the window", await self._with_room(group, left, slice(None)))
        for at, amount in enumerate(() if group.exclusive else group.amounts):
            label = f"{amount.resource_type}: {amount.minimum} free in the window"
            left = note(label, await self._with_room(group, left, slice(at, at + 1)))
        self._left.append(left)
        return explanation

    async def _in_scope(self) -> Left:
        left: Left = []
        for pool in self._world.index.pools():
            if pool.region in self._scope.regions:
                for cell in pool.cells:
                    await self._turns.step(len(cell.providers))
                    left.append((cell, list(cell.providers)))
        return left

    async def _in_service(self, left: Left) -> Left:
        active: Left = []
        for cell, providers in left:
            await self._turns.step(len(providers))
            active.append((cell, [each for each in providers if each.placeable]))
        return active

    async def _with_room(self, group: GroupDemand, left: Left, which: slice) -> Left:
        """Those that have room for which of the needs."""
        roomy: Left = []
        for cell, providers in left:
            needs = group.needs(cell.pool.profile)
            if needs is not None:
                kept = []
                for provider in providers:
                    await self._turns.step()
                    if provider.profile is cell.pool.profile and has_room(
                        provider, needs[which], self._begin, self._end
                    ):
                        kept.append(provider)
                roomy.append((cell, kept))
        return roomy

    async def _within(self, bound: Distance, left: Left) -> Left:
        """Those for which some provider of the earlier group is within the bounds."""
        origins = _Origins(self._left[bound.origin])
        spans = {key: group.spans.get(bound.distance_type, bound.farthest) for key, group in self._world.groups.items()}
        judged: dict[frozenset[str], bool] = {}
        kept: Left = []
        for cell, providers in left:
            await self._turns.step(len(providers))
            groups = cell.groups
            if groups not in judged:
                too_near = [each for each in groups if spans.get(each, bound.farthest) < bound.at_least]
                near = None
                if bound.at_most < bound.farthest:
                    near = [each for each in groups if spans.get(each, bound.farthest) <= bound.at_most]
                judged[groups] = origins.has(too_near, near)
            kept.append((cell, providers if judged[groups] else []))
        return kept


class _Origins:
    """Where the providers of an earlier group may be."""

    def __init__(self, left: Left) -> None:
        self._kinds = {cell.groups for cell, providers in left if providers}
        self._by_group: dict[str, set[frozenset[str]]] = {}
        for kind in self._kinds:
            for group in kind:
                self._by_group.setdefault(group, set()).add(kind)

    def has(self, too_near: Sequence[str], near: Sequence[str] | None) -> bool:
        """Whether one is in none of `too_near` and, unless that is None, in one of `near`."""
        excluded = [self._by_group.get(group, set()) for group in too_near]
        wanted = [self._kinds] if near is None else [self._by_group.get(group, set()) for group in near]
        return any(not any(kind in each for each in excluded) for kinds in wanted for kind in kinds)


def _membership_checks(group: GroupDemand) -> list[tuple[str, Callable[[frozenset[str]], bool]]]:
    membership = group.membership
    checks: list[tuple[str, Callable[[frozenset[str]], bool]]] = []
    for each in sorted(membership.require):
        checks.append((f"in provider group {each}", lambda groups, wanted=each: wanted in groups))  # type: ignore[misc]
    for each in sorted(membership.forbid):
        checks.append((f"not in provider group {each}", lambda groups, bad=each: bad not in groups))  # type: ignore[misc]
    if membership.any_of:
        label = f"in any of {len(membership.any_of[0])} provider groups"
        checks.append((label, lambda groups: all(not each.isdisjoint(groups) for each in membership.any_of)))
    return checks


def _first_room(provider: Provider, needs: Needs, begin: int, end: int) -> int:
    """When the provider first has room for a window of this length; FOREVER: not within what is looked at."""
    length = end - begin if end < FOREVER else FOREVER
    steps = {step for use in provider.uses if use is not None for step in use.starts if step > begin}
    for moment in sorted({begin, *steps})[:_MAX_MOMENTS]:
        if has_room(provider, needs, moment, min(moment + length, FOREVER)):
            return moment
    return FOREVER
