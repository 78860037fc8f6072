"""Finds providers for a claim: all of its groups or none.

Groups are placed in order, each on the first candidate of the strategy. When a later group then finds none, the search
goes back to the latest choice that had a part in it (conflict-directed backjumping), so that what is possible is found
without trying every combination.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from mulligan.resource.candidates import SPREAD, Match, candidates, has_room
from mulligan.resource.demand import Demand, GroupDemand, Needs
from mulligan.resource.distance import Distance, Membership, Surroundings, surroundings
from mulligan.resource.model import Profile, Provider
from mulligan.resource.timeline import ALREADY
from mulligan.resource.world import World

# What one search may cost before it gives up: about a cell or candidate looked at, half a microsecond.
MAX_COST = 80_000
_COST_OF_CHOICE = 16


@dataclass(slots=True)
class Placement:
    """A request group on a provider; the amounts are in use from the moment it is made."""

    group: GroupDemand
    provider: Provider
    needs: Needs


@dataclass(slots=True)
class _Conflict:
    """Why a group found no provider: the earlier choices that had a part in it."""

    groups: set[int]
    # In place of one of them any provider in the very same provider groups would have led to the same.
    by_groups_only: bool
    # The latest of them and a provider group: any provider in that group would have led to the same.
    nogood: tuple[int, str] | None = None


class Scope:
    """The regions that a request may be placed in."""

    __slots__ = ("regions",)

    def __init__(self, regions: Collection[str]) -> None:
        """Keep it and use it again: what a demand means in a scope is remembered by the scope's identity."""
        self.regions = frozenset(regions)


class Planner:
    """Plans claims against a world, one after the other; what it plans is in use at once."""

    def __init__(self, world: World, random: Random | None = None) -> None:
        """`random` is for the strategy of that name."""
        self._world = world
        self._random = random or Random()

    def plan(
        self,
        demand: Demand,
        scope: Scope,
        begin: int,
        end: int,
        strategy: int,
        headroom: Mapping[str, int] | None = None,
    ) -> list[Placement] | None:
        """One placement for each group, or None and nothing is changed.

        `headroom` is what the project's quotas leave.
        """
        if begin <= self._world.now:
            begin = ALREADY
        search = _Search(self._world, self._random, demand, scope, begin, end, strategy, headroom)
        if len(demand.groups) == 1:
            return search.placements if search.place_only() else None
        return search.placements if search.place(0) is None else None

    def undo(self, placements: Collection[Placement], begin: int, end: int) -> None:
        """Gives back what was planned."""
        for placement in placements:
            self._world.use(placement.provider, placement.needs, begin, end, -1)


def matches(world: World, demand: Demand, index: int, scope: Scope) -> list[Match]:
    """The pools in scope whose providers could satisfy a group, those with the fewest capabilities first.

    So what is special is kept for those who ask for it. Remembered until pools come or go.
    """
    key = (scope, index)
    remembered = demand.pools.get(key)
    if remembered is not None and remembered[0] is world.index and remembered[1] == world.index.version:
        return remembered[2]
    group = demand.groups[index]
    found = [
        Match(pool, needs)
        for pool in world.index.pools()
        if pool.region in scope.regions and (needs := group.needs(pool.profile)) is not None
    ]
    found.sort(key=lambda match: len(match.pool.profile.capabilities))
    if len(demand.pools) >= 256:  # scopes come and go with the regions
        demand.pools.clear()
    demand.pools[key] = (world.index, world.index.version, found)
    return found


class _Search:
    """The search for one claim."""

    __slots__ = ("begin", "cost", "demand", "end", "headroom", "placements", "random", "scope", "strategy", "world")

    def __init__(
        self,
        world: World,
        random: Random,
        demand: Demand,
        scope: Scope,
        begin: int,
        end: int,
        strategy: int,
        headroom: Mapping[str, int] | None,
    ) -> None:
        self.world = world
        self.random = random
        self.demand = demand
        self.scope = scope
        self.begin = begin
        self.end = end
        self.strategy = strategy
        # Without an exclusive group the amounts are known beforehand and so is whether they are within it.
        self.headroom = headroom if any(group.exclusive for group in demand.groups) else None
        self.placements: list[Placement] = []
        self.cost = 0

    def place_only(self) -> bool:
        """Places the one group of the claim."""
        group = self.demand.groups[0]
        for provider, needs in self._candidates(0, group.membership):
            self._take(group, provider, needs)
            return True
        return False

    def place(self, index: int) -> _Conflict | None:
        """Places the group and all after it; answers why it cannot, with nothing of it in use."""
        if index == len(self.demand.groups):
            return None
        group = self.demand.groups[index]
        where = self._surroundings(group)
        conflict = _Conflict(set(), where.by_groups_only)
        hopeless = _Hopeless()
        for provider, needs in self._candidates(index, where):
            self.cost += 1
            if hopeless.has(provider):
                continue
            self.cost += _COST_OF_CHOICE
            if self.cost > MAX_COST:
                return _Conflict(set(), True)
            self._take(group, provider, needs)
            failure = self.place(index + 1)
            if failure is None:
                return None
            self._give_back()
            if index not in failure.groups:
                return failure
            conflict.groups |= failure.groups - {index}
            conflict.by_groups_only &= failure.by_groups_only
            hopeless.learn(provider, failure, index)
        return self._blame(conflict, index, where)

    def _blame(self, conflict: _Conflict, index: int, where: Surroundings) -> _Conflict:
        """Adds the earlier choices that kept a group from a provider: by distance, by their own use, by quota."""
        group = self.demand.groups[index]
        found_none = not conflict.groups
        conflict.groups.update(each.origin for each in group.distances)
        for provider in {id(each.provider): each.provider for each in self.placements}.values():
            if self._would_fit_alone(group, provider, where):
                conflict.groups.update(at for at, each in enumerate(self.placements) if each.provider is provider)
                conflict.by_groups_only = False
        if self.headroom is not None:
            conflict.groups.update(range(index))
            conflict.by_groups_only = False
        self.cost += sum(len(match.pool.cells) for match in self._matches(index))
        if found_none and conflict.by_groups_only and conflict.groups:
            conflict.nogood = self._widest_nogood(index, max(conflict.groups))
        return conflict

    def _widest_nogood(self, index: int, origin: int) -> tuple[int, str] | None:
        """A single provider group of the latest origin that alone keeps the group from every provider.

        Spares trying every rack of a site when it is the site that is too near.
        """
        group = self.demand.groups[index]
        bounds = [each for each in group.distances if each.origin == origin]
        if any(each.at_most < each.farthest for each in bounds):
            return None
        others = self._surroundings(group, [each for each in group.distances if each.origin != origin])
        groups = self.placements[origin].provider.groups
        for bound in bounds:
            spans = {each: self.world.groups[each].spans.get(bound.distance_type) for each in groups}
            too_near = [(span, each) for each, span in spans.items() if span is not None and span < bound.at_least]
            if too_near:
                widest = max(too_near)[1]
                forbid = others.forbid
                others.forbid = forbid | {widest}
                self.cost += sum(len(match.pool.cells) for match in self._matches(index))
                if next(iter(self._candidates(index, others)), None) is None:
                    return origin, widest
                others.forbid = forbid
        return None

    def _would_fit_alone(self, group: GroupDemand, provider: Provider, where: Membership) -> bool:
        """Whether the provider lacks room for the group only because of this claim's own use."""
        needs = group.needs(provider.profile)
        if needs is None or not where.admits(provider.groups):
            return False
        own: dict[int, int] = {}
        for placement in self.placements:
            if placement.provider is provider:
                for position, amount in placement.needs:
                    own[position] = own.get(position, 0) + amount
        # The claim's own use covers the whole window, so without it every level is lower by as much.
        less = tuple((position, amount - own.get(position, 0)) for position, amount in needs)
        return not has_room(provider, needs, self.begin, self.end) and has_room(provider, less, self.begin, self.end)

    def _surroundings(self, group: GroupDemand, distances: Sequence[Distance] | None = None) -> Surroundings:
        bounds = group.distances if distances is None else distances
        origins = [(each, self.placements[each.origin].provider) for each in bounds]
        return surroundings(group.membership, origins, self.world.groups)

    def _candidates(self, index: int, where: Membership) -> Iterator[tuple[Provider, Needs]]:
        return candidates(self._matches(index), where, self.begin, self.end, self.strategy, self.random)

    def _matches(self, index: int) -> list[Match]:
        found = matches(self.world, self.demand, index, self.scope)
        if self.headroom is None:
            return found
        left = dict(self.headroom)
        for placement in self.placements:
            for resource_type, amount in named(placement.provider.profile, placement.needs):
                if resource_type in left:
                    left[resource_type] -= amount
        return [
            match
            for match in found
            if all(amount <= left.get(kind, amount) for kind, amount in named(match.pool.profile, match.needs))
        ]

    def _take(self, group: GroupDemand, provider: Provider, needs: Needs) -> None:
        cell = provider.cell
        if self.strategy == SPREAD and cell is not None:
            turn = (cell.number, provider.slot + 1)
            cell.pool.rounds += turn <= cell.pool.turn
            cell.pool.turn = turn
        self.placements.append(Placement(group, provider, needs))
        self.world.use(provider, needs, self.begin, self.end)

    def _give_back(self) -> None:
        placement = self.placements.pop()
        self.world.use(placement.provider, placement.needs, self.begin, self.end, -1)


class _Hopeless:
    """Choices that need not be tried, because one like them failed for a reason that they share."""

    __slots__ = ("alike", "members", "tried")

    def __init__(self) -> None:
        self.tried: set[Provider] = set()
        self.alike: set[frozenset[str]] = set()
        self.members: set[str] = set()

    def has(self, provider: Provider) -> bool:
        return provider in self.tried or provider.groups in self.alike or not self.members.isdisjoint(provider.groups)

    def learn(self, provider: Provider, failure: _Conflict, index: int) -> None:
        self.tried.add(provider)
        if failure.nogood is not None and failure.nogood[0] == index:
            self.members.add(failure.nogood[1])
        elif failure.by_groups_only:
            self.alike.add(provider.groups)


def named(profile: Profile, needs: Needs) -> Iterator[tuple[str, int]]:
    """(resource type, amount) of what is needed."""
    return ((profile.inventories[position].resource_type, amount) for position, amount in needs)
