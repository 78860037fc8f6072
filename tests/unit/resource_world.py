"""Small worlds for planner tests, and a planner that is obviously right because it tries everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.resource.inventory import parse_inventories
from mulligan.resource.model import Profile, Provider, ProviderGroup
from mulligan.resource.planner import Placement
from mulligan.resource.timeline import FOREVER
from mulligan.resource.vocabulary import Vocabulary
from mulligan.resource.world import World

POSITIONS = ("local", "rack", "row", "site")
RESOURCES = ("cpu", "disk", "memory")
CAPABILITIES = ("avx2", "ssd", "vmx")


def identifier(kind: int, number: int) -> str:
    """A UUID that sorts by number."""
    return f"{kind:08d}-0000-7000-8000-{number:012d}"


@dataclass
class Use:
    """What the naive planner knows to be in use."""

    provider: str
    resource_type: str
    amount: int
    begin: int
    end: int


@dataclass
class Naive:
    """Providers and use as plain data."""

    regions: dict[str, str] = field(default_factory=dict)
    configs: dict[str, provider_pb2.ProviderConfig] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    # Provider group -> index of its span.
    spans: dict[str, int] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)

    def capacities(self, provider: str) -> dict[str, int]:
        inventories = self.configs[provider].inventories
        return {each.resource_type: int((each.total - each.reserved) * each.allocation_ratio) for each in inventories}

    def free(self, provider: str, resource_type: str, begin: int, end: int) -> int:
        """Capacity less the most in use at any instant of the window: it can only change where a use begins."""
        mine = [use for use in self.uses if (use.provider, use.resource_type) == (provider, resource_type)]
        instants = {begin} | {use.begin for use in mine if begin <= use.begin < end}
        used = [sum(use.amount for use in mine if use.begin <= at < use.end) for at in instants]
        return self.capacities(provider)[resource_type] - max(used)

    def distance(self, one: str, other: str) -> int:
        if one == other:
            return 0
        common = set(self.configs[one].groups) & set(self.configs[other].groups)
        return min((self.spans[group] for group in common), default=len(POSITIONS) - 1)

    def fits(self, spec: claim_pb2.ClaimSpec, chosen: tuple[str, ...], begin: int, end: int) -> bool:
        """Whether the groups of the claim fit on these providers, in this order."""
        before = list(self.uses)
        names = [group.name or str(at) for at, group in enumerate(spec.groups)]
        try:
            return all(
                self._suits(group, provider)
                and self._near_enough(group, provider, names, chosen)
                and self._take(group, provider, begin, end)
                for group, provider in zip(spec.groups, chosen, strict=True)
            )
        finally:
            self.uses = before

    def plans(self, spec: claim_pb2.ClaimSpec, regions: set[str], begin: int, end: int) -> list[tuple[str, ...]]:
        """Every way to place the claim."""
        usable = [each for each in self.configs if self.regions[each] in regions and each not in self.out]
        ways = product(usable, repeat=len(spec.groups))
        return [chosen for chosen in ways if self.fits(spec, chosen, begin, end)]

    def _suits(self, group: claim_pb2.RequestGroup, provider: str) -> bool:
        config, capabilities = self.configs[provider], set(self.configs[provider].capabilities)
        inventories = {each.resource_type: each for each in config.inventories}
        for wanted in group.resources:
            if wanted.resource_type not in inventories or not holds(wanted.capabilities, capabilities):
                return False
            inventory, capacity = inventories[wanted.resource_type], self.capacities(provider)[wanted.resource_type]
            units = inventory.min_unit <= wanted.min <= inventory.max_unit and wanted.min % inventory.step_size == 0
            if group.exclusive and (capacity < wanted.min or 0 < wanted.max < capacity):
                return False
            if not group.exclusive and not units:
                return False
        any_holds = not group.capabilities or any(holds(each, capabilities) for each in group.capabilities)
        return any_holds and holds(group.provider_groups, set(config.groups))

    def _near_enough(
        self, group: claim_pb2.RequestGroup, provider: str, names: list[str], chosen: tuple[str, ...]
    ) -> bool:
        for bound in group.distances:
            apart = self.distance(chosen[names.index(bound.from_group)], provider)
            if bound.at_least and apart < POSITIONS.index(bound.at_least):
                return False
            if bound.at_most and apart > POSITIONS.index(bound.at_most):
                return False
        return True

    def _take(self, group: claim_pb2.RequestGroup, provider: str, begin: int, end: int) -> bool:
        amounts = {each.resource_type: each.min for each in group.resources}
        if group.exclusive:
            amounts = {kind: capacity for kind, capacity in self.capacities(provider).items() if capacity}
        if not amounts or any(self.free(provider, kind, begin, end) < amount for kind, amount in amounts.items()):
            return False
        self.uses += [Use(provider, kind, amount, begin, end) for kind, amount in amounts.items()]
        return True


def holds(constraint: claim_pb2.CapabilityConstraint | claim_pb2.ProviderGroupConstraint, present: set[str]) -> bool:
    return (
        set(constraint.require) <= present
        and not set(constraint.forbid) & present
        and (not constraint.any or bool(set(constraint.any) & present))
    )


def empty_world() -> World:
    """A world with the vocabulary."""
    world, vocabulary = World(), Vocabulary()
    vocabulary.provider_types = {"compute"}
    vocabulary.resource_types = dict.fromkeys(RESOURCES, "units")
    vocabulary.capabilities = set(CAPABILITIES)
    vocabulary.distance_types = {"failure": POSITIONS}
    world.extend_vocabulary(vocabulary)
    return world


def world_of(naive: Naive, now: int) -> World:
    """The same providers and use, as the planner knows them."""
    world = empty_world()
    for group, span in naive.spans.items():
        world.add_group(ProviderGroup(group, identifier(1, 0), {"failure": span}))
    for each, config in naive.configs.items():
        inventories = parse_inventories(config.inventories, "inventories")
        profile: Profile = world.profile("compute", frozenset(config.capabilities), inventories)
        provider = Provider(each, naive.regions[each], profile, frozenset(config.groups), 0)
        provider.state = 2 if each in naive.out else 1
        world.add_provider(provider)
    for use in naive.uses:
        provider = world.providers[use.provider]
        needs = ((provider.profile.position[use.resource_type], use.amount),)
        world.use(provider, needs, use.begin, use.end)
    world.advance(now)
    return world


def chosen_by(placements: list[Placement]) -> tuple[str, ...]:
    """The providers that were chosen, in order of the groups."""
    return tuple(placement.provider.id for placement in placements)


def window_of(spec: claim_pb2.ClaimSpec, now: int) -> tuple[int, int]:
    """The window in microseconds."""
    begin = spec.acquire.ToMicroseconds() if spec.HasField("acquire") else now
    return begin, spec.release.ToMicroseconds() if spec.HasField("release") else FOREVER
