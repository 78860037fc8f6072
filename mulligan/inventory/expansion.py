"""What a deployment comes to: vocabulary, provider groups with their distances, and every single provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from mulligan.api.resource.v1.provider_pb2 import ProviderConfig, Span
from mulligan.api.resource.v1.vocabulary_pb2 import DistanceType, ResourceType, Vocabulary
from mulligan.inventory.deployment import Deployment, Profile, resource_types


class Level(IntEnum):
    """How large a group is; from near to far."""

    RACK = 0
    ROW = 1
    SITE = 2


@dataclass(frozen=True, slots=True)
class Group:
    """One site, row or rack."""

    name: str
    level: Level


@dataclass(frozen=True, slots=True)
class Node:
    """One machine: its name, its site, row and rack, and its profile's name."""

    name: str
    groups: tuple[str, str, str]
    profile: str


def vocabulary(deployment: Deployment) -> Vocabulary:
    """Every code that the deployment uses."""
    profiles = deployment.profiles.values()
    return Vocabulary(
        provider_types=sorted({profile.provider_type for profile in profiles}),
        resource_types=[
            ResourceType(code=code, unit=deployment.units.get(code) or usual_unit(code))
            for code in sorted(resource_types(deployment))
        ],
        capabilities=sorted({capability for profile in profiles for capability in profile.capabilities}),
        distance_types=[
            DistanceType(code=code, positions=positions)
            for code, positions in sorted(deployment.distance_types.items())
        ],
    )


def usual_unit(resource_type: str) -> str:
    """What amounts of a resource type usually count."""
    family = resource_type.partition(".")[0]
    return {"cpu": "cores", "memory": "bytes", "storage": "bytes"}.get(family, "units")


def spans(deployment: Deployment, level: Level) -> list[Span]:
    """How far apart members of such a group are at most, in every distance type."""
    return [
        Span(distance_type=code, position=position_of(positions, level))
        for code, positions in sorted(deployment.distance_types.items())
    ]


def position_of(positions: tuple[str, ...], level: Level) -> str:
    """The distance inside a group: the first position in a rack, the last but one at most in a site.

    The last position is between sites, which have no group in common. With four positions each level has its own;
    with fewer, rows and sites share: (local, site, remote) is local in a rack and site in a row and in a site.
    """
    return positions[min(level, len(positions) - 2)]


def groups_of(deployment: Deployment, site: str) -> Iterator[Group]:
    """The site itself, its rows and their racks."""
    layout = deployment.layout
    yield Group(site, Level.SITE)
    for row in range(1, layout.rows_per_site + 1):
        yield Group(f"{site}-row{row}", Level.ROW)
        for rack in range(1, layout.racks_per_row + 1):
            yield Group(f"{site}-row{row}-rack{rack}", Level.RACK)


def nodes_of(deployment: Deployment, site: str) -> Iterator[Node]:
    """Every machine of the site, rack by rack."""
    layout, chosen = deployment.layout, deployment.group_profiles
    for row in (f"{site}-row{number}" for number in range(1, layout.rows_per_site + 1)):
        for rack in (f"{row}-rack{number}" for number in range(1, layout.racks_per_row + 1)):
            profile = chosen.get(rack) or chosen.get(row) or chosen.get(site) or deployment.default_profile
            for number in range(1, layout.nodes_per_rack + 1):
                yield Node(f"{rack}-node{number}", (site, row, rack), profile)


def provider_config(profile: Profile, groups: tuple[str, ...], ids: Mapping[str, str]) -> ProviderConfig:
    """The profile as a provider's configuration, in groups whose UUIDs `ids` tells."""
    return ProviderConfig(
        provider_type=profile.provider_type,
        capabilities=profile.capabilities,
        groups=[ids[group] for group in groups],
        inventories=profile.inventories,
    )
