"""How far apart two providers are: as the closest of their common groups says, at the farthest when they have none.

A bound on the distance from a given provider is a statement about groups: "at least rack" forbids those of its groups
whose members are nearer than that, "at most site" asks for one of those whose members are that near. So distances
are judged a cell at a time, never pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mulligan.resource.index import Cell
from mulligan.resource.model import Provider, ProviderGroup


@dataclass(frozen=True, slots=True)
class Distance:
    """Bounds on the distance from the provider of an earlier group; positions are indexes from near (0) to far."""

    # Index of the earlier group.
    origin: int
    distance_type: str
    at_least: int
    at_most: int
    farthest: int
    # For people: "distance failure from a at least rack".
    label: str


@dataclass(slots=True)
class Membership:
    """Which provider groups a provider must and must not be in; of `any_of` at least one of each set."""

    require: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()
    any_of: tuple[frozenset[str], ...] = ()

    def admits(self, groups: frozenset[str]) -> bool:
        """Whether a provider in these groups satisfies it."""
        return (
            self.require <= groups
            and self.forbid.isdisjoint(groups)
            and not any(each.isdisjoint(groups) for each in self.any_of)
        )


@dataclass(slots=True)
class Surroundings(Membership):
    """A membership narrowed by distances from given providers."""

    # Providers that are too near, being the origin itself.
    excluded: list[Provider] = field(default_factory=list)
    # Groups near enough to an origin; the origin itself is near enough too.
    near: list[tuple[frozenset[str], Provider]] = field(default_factory=list)
    # Whether it would be the same around any other provider in the origins' groups.
    by_groups_only: bool = True

    def admits_cell(self, cell: Cell) -> bool:
        """Whether some provider of the cell may satisfy it."""
        groups = cell.groups
        return self.admits(groups) and all(
            not near.isdisjoint(groups) or origin.cell is cell for near, origin in self.near
        )

    def admits_provider(self, provider: Provider) -> bool:
        """Whether a provider of an admitted cell satisfies it."""
        return provider not in self.excluded and all(
            not near.isdisjoint(provider.groups) or origin is provider for near, origin in self.near
        )


def distance(
    one: Provider, other: Provider, distance_type: str, farthest: int, groups: Mapping[str, ProviderGroup]
) -> int:
    """How far apart they are; a provider is at the nearest position from itself."""
    if one is other:
        return 0
    common = (groups[each].spans.get(distance_type) for each in one.groups & other.groups)
    return min((span for span in common if span is not None), default=farthest)


def surroundings(
    fixed: Membership, bounds: Iterable[tuple[Distance, Provider]], groups: Mapping[str, ProviderGroup]
) -> Surroundings:
    """Where a provider may be: as `fixed` says and within the bounds from the given providers."""
    result = Surroundings(fixed.require, fixed.forbid, fixed.any_of)
    for bound, origin in bounds:
        spans = [(each, groups[each].spans.get(bound.distance_type, bound.farthest + 1)) for each in origin.groups]
        if bound.at_least > 0:
            too_near = frozenset(each for each, span in spans if span < bound.at_least)
            result.forbid |= too_near
            result.excluded.append(origin)
            result.by_groups_only &= bool(too_near)
        if bound.at_most < bound.farthest:
            near = frozenset(each for each, span in spans if span <= bound.at_most)
            result.near.append((near, origin))
            result.by_groups_only &= bool(near)
    return result
