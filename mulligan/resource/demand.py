"""What a claim asks for, validated, and which providers could ever satisfy it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mulligan.resource.distance import Distance, Membership
from mulligan.resource.model import Profile

if TYPE_CHECKING:
    from mulligan.resource.candidates import Match
    from mulligan.resource.index import Index

# (position of the resource in the profile, amount), the asked ones first.
Needs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which capabilities a provider must and must not have; of `any_of` at least one, when it is not empty."""

    require: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()

    def admits(self, capabilities: frozenset[str]) -> bool:
        """Whether a provider with these capabilities satisfies it."""
        return (
            self.require <= capabilities
            and self.forbid.isdisjoint(capabilities)
            and not (self.any_of and self.any_of.isdisjoint(capabilities))
        )

    @property
    def label(self) -> str:
        """For people."""
        words = [*sorted(self.require), *(f"not {each}" for each in sorted(self.forbid))]
        if self.any_of:
            words.append(f"any of {', '.join(sorted(self.any_of))}")
        return " and ".join(words)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of a resource type; `maximum` 0: no bound."""

    resource_type: str
    minimum: int
    maximum: int
    capabilities: Capabilities | None


@dataclass(frozen=True, slots=True)
class Check:
    """One constraint on what a provider is like."""

    # For people: "cpu.shared >= 8".
    label: str
    passes: Callable[[Profile], bool]


@dataclass(slots=True)
class GroupDemand:
    """Resources that come from one provider."""

    name: str
    amounts: tuple[Amount, ...]
    # Any one of them must hold; none: no constraint.
    alternatives: tuple[Capabilities, ...]
    membership: Membership
    distances: tuple[Distance, ...]
    exclusive: bool
    _fits: dict[Profile, Needs | None] = field(default_factory=dict)

    def needs(self, profile: Profile) -> Needs | None:
        """What it takes of a provider of this profile; None when such a provider never fits."""
        try:
            return self._fits[profile]
        except KeyError:
            fits = all(check.passes(profile) for check in self.checks())
            # A provider of which nothing can be taken fits nobody.
            self._fits[profile] = (self._needs(profile) or None) if fits else None
            return self._fits[profile]

    def checks(self) -> list[Check]:
        """Every constraint on the profile, in the order in which a refusal explains them."""
        checks = [self._amount_check(amount) for amount in self.amounts]
        checks += [
            Check(
                f"{amount.resource_type} with {amount.capabilities.label}",
                lambda profile, wanted=amount.capabilities: wanted.admits(profile.capabilities),  # type: ignore[misc]
            )
            for amount in self.amounts
            if amount.capabilities is not None
        ]
        if self.alternatives:
            label = " or ".join(each.label for each in self.alternatives)
            checks.append(
                Check(f"capability {label}", lambda at: any(each.admits(at.capabilities) for each in self.alternatives))
            )
        return checks

    def _amount_check(self, amount: Amount) -> Check:
        def passes(profile: Profile) -> bool:
            position = profile.position.get(amount.resource_type)
            if position is None:
                return False
            inventory = profile.inventories[position]
            if not self.exclusive:
                return not inventory.refusal(amount.minimum)
            return amount.minimum <= inventory.capacity and not 0 < amount.maximum < inventory.capacity

        bound = f" and <= {amount.maximum}" if self.exclusive and amount.maximum else ""
        return Check(f"{amount.resource_type} >= {amount.minimum}{bound}", passes)

    def _needs(self, profile: Profile) -> Needs:
        asked = [(profile.position[amount.resource_type], amount.minimum) for amount in self.amounts]
        if not self.exclusive:
            return tuple(asked)
        first = [position for position, _ in asked]
        rest = [position for position in range(len(profile.capacities)) if position not in first]
        whole = [(position, profile.capacities[position]) for position in (*first, *rest)]
        return tuple((position, amount) for position, amount in whole if amount)


@dataclass(slots=True, eq=False)
class Demand:
    """What all groups of a claim ask for; one instance for all claims that ask for the same."""

    groups: tuple[GroupDemand, ...]
    # Least amount of each resource type over all groups.
    least: dict[str, int]
    # Remembered by planner.matches: (scope, number of the group) -> (index, its version, pools with what they need).
    pools: dict[tuple[object, int], tuple[Index, int, list[Match]]] = field(default_factory=dict)
