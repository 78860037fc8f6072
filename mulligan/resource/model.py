"""What the resource service knows: providers and what they are like, groups, claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline

if TYPE_CHECKING:
    from mulligan.resource.index import Cell
    from mulligan.resource.inventory import Inventory

ACTIVE = provider_pb2.PROVIDER_STATE_ACTIVE

# Largest sizes of what one request may bring.
MAX_CAPABILITIES = 256
MAX_GROUPS_OF_PROVIDER = 64
MAX_INVENTORIES = 64


class Profile:
    """What providers of one kind have in common. Providers of one profile are alike but for region, groups and use."""

    __slots__ = ("__weakref__", "capabilities", "capacities", "inventories", "position", "provider_type")

    def __init__(self, provider_type: str, capabilities: frozenset[str], inventories: tuple[Inventory, ...]) -> None:
        """`inventories` are in order of resource type; a resource's index in them is its position everywhere."""
        self.provider_type = provider_type
        self.capabilities = capabilities
        self.inventories = inventories
        self.position = {inventory.resource_type: index for index, inventory in enumerate(inventories)}
        self.capacities = [inventory.capacity for inventory in inventories]

    @property
    def key(self) -> tuple[str, frozenset[str], tuple[Inventory, ...]]:
        """Two profiles with the same key are the same."""
        return self.provider_type, self.capabilities, self.inventories


class Provider:
    """A machine or whatever else has resources. Where it stands in the index is kept by the index."""

    __slots__ = (
        "cell",
        "created_us",
        "frozen",
        "generation",
        "groups",
        "id",
        "next_step",
        "profile",
        "region",
        "slot",
        "state",
        "state_reason",
        "state_since_us",
        "uses",
    )

    def __init__(self, id: str, region: str, profile: Profile, groups: frozenset[str], created_us: int) -> None:
        """An active provider of which nothing is used."""
        self.id = id
        self.region = region
        self.profile = profile
        self.groups = groups
        self.state: int = ACTIVE
        self.state_reason = ""
        self.state_since_us = created_us
        self.generation = 1
        self.created_us = created_us
        # Use of each resource, by position in the profile; None: never used since the start.
        self.uses: list[Timeline | None] = [None] * len(profile.inventories)
        # Changes of it that are being stored; it is out of placement for as long.
        self.frozen = 0
        self.next_step = FOREVER
        self.cell: Cell | None = None
        self.slot = -1

    @property
    def placeable(self) -> bool:
        """Whether claims may be put on it."""
        return self.state == ACTIVE and not self.frozen

    def timeline(self, position: int) -> Timeline:
        """The use of a resource, to be changed."""
        use = self.uses[position]
        if use is None:
            use = self.uses[position] = Timeline()
        return use

    def peak(self, position: int, begin: int = ALREADY, end: int = FOREVER) -> int:
        """The most of a resource in use at one instant of [begin, end)."""
        use = self.uses[position]
        return 0 if use is None else use.peak(begin, end)

    def used(self) -> dict[str, int]:
        """Peak use from now on, by resource type."""
        return {each.resource_type: self.peak(at) for at, each in enumerate(self.profile.inventories)}

    def is_used(self) -> bool:
        """Whether a claim holds any of it now or later."""
        return any(use is not None and max(use.levels) > 0 for use in self.uses)


class ProviderGroup:
    """A set of providers; `spans` says, by distance type, how far apart two members are at most (an index)."""

    __slots__ = ("id", "members", "region", "spans")

    def __init__(self, id: str, region: str, spans: Mapping[str, int]) -> None:
        self.id = id
        self.region = region
        self.spans = dict(spans)
        self.members = 0


class Allocation(NamedTuple):
    """An amount of one resource of one provider, held by a claim's request group."""

    group: str
    provider: str
    resource_type: str
    amount: int
    # The group takes the whole provider.
    exclusive: bool


@dataclass(slots=True)
class Claim:
    """Who uses what and when; the window is [acquire_us, release_us)."""

    id: str
    region: str
    project: str
    consumer: str
    acquire_us: int
    # FOREVER: open-ended.
    release_us: int
    created_us: int
    released: bool = False
    allocations: list[Allocation] = field(default_factory=list)

    def state(self, now: int) -> claim_pb2.ClaimState:
        """Where in its life the claim is at `now`."""
        if self.released:
            return claim_pb2.CLAIM_STATE_RELEASED
        if now >= self.release_us:
            return claim_pb2.CLAIM_STATE_ENDED
        return claim_pb2.CLAIM_STATE_ACTIVE if now >= self.acquire_us else claim_pb2.CLAIM_STATE_RESERVED

    def totals(self) -> dict[str, int]:
        """Amount by resource type over all groups."""
        totals: dict[str, int] = {}
        for allocation in self.allocations:
            totals[allocation.resource_type] = totals.get(allocation.resource_type, 0) + allocation.amount
        return totals
