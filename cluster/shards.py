"""Which shards a service should have, and which actors a component of this host should keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mulligan.config import Settings
from mulligan.meta.regions import DEFAULT_SHARD, RegionTree
from mulligan.stores.addresses import Addresses

# The only shard of a service that is not partitioned.
GLOBAL_SHARD = "global"

PARTITIONED = frozenset({"resource", "control", "results"})

# Shards first: a gateway that listens should find somebody to ask.
SERVICES_OF_COMPONENT: Mapping[str, tuple[str, ...]] = {
    "iam": ("iam", "gateway-iam"),
    "meta": ("meta", "gateway-meta"),
    "resource": ("resource", "gateway-resource"),
    "control": ("control", "results", "gateway-control", "boot"),
    "executor": ("executor",),
}


@dataclass(frozen=True, slots=True)
class Target:
    """An actor that should serve."""

    service: str
    shard: str
    # It belongs to this host and to no other.
    pinned: bool = False

    @property
    def path(self) -> str:
        """service/shard."""
        return f"{self.service}/{self.shard}"


@dataclass(frozen=True, slots=True)
class Making:
    """The class of an actor, as module:Class, and what its constructor gets."""

    kind: str
    arguments: tuple[Any, ...]


def desired_shards(service: str, regions: Mapping[str, bytes]) -> frozenset[str]:
    """The shards of a service, given the records of all regions; "default" is always there."""
    if service not in PARTITIONED:
        return frozenset({GLOBAL_SHARD})
    tree = RegionTree(regions)
    return frozenset({DEFAULT_SHARD, *(tree.shard_of(region) for region in tree)})


def desired_targets(component: str, regions: Mapping[str, bytes], host: str, executors: int) -> list[Target]:
    """Every actor that a component of this host keeps, in the order in which they should start."""
    found: list[Target] = []
    for service in SERVICES_OF_COMPONENT[component]:
        if service.startswith("gateway-") or service == "boot":
            found.append(Target(service, host, pinned=True))
        elif service == "executor":
            found += [Target(service, f"{host}-{number}", pinned=True) for number in range(1, executors + 1)]
        else:
            found += [Target(service, shard) for shard in sorted(desired_shards(service, regions))]
    return found


def is_gateway(service: str) -> bool:
    """Whether it is what callers reach first, and so what must stop accepting first."""
    return service.startswith("gateway-") or service == "boot"


def making(target: Target, name: str, addresses: Addresses, settings: Settings) -> Making:
    """How the actor of that name is made for a target."""
    if target.service == "boot":
        return Making("gateways.boot:BootActor", (addresses, settings, name))
    if target.service.startswith("gateway-"):
        served = target.service.removeprefix("gateway-")
        return Making("gateways.gateway:GatewayActor", (addresses, settings, served, name))
    # actors.iam:IamActor, and so on: one file and one class for each service.
    kind = f"actors.{target.service}:{target.service.capitalize()}Actor"
    return Making(kind, (addresses, target.shard, name))


def leftover(names: Iterable[str], targets: Iterable[Target], services: Iterable[str], host: str) -> list[str]:
    """Names of this component's actors that no target wants: shards that no region names any more, fewer executors."""
    wanted = {target.path for target in targets}
    mine = set(services)
    found = []
    for name in names:
        path, _, _ = name.rpartition("#")
        service, _, shard = path.partition("/")
        elsewhere = (is_gateway(service) and shard != host) or (
            service == "executor" and not shard.startswith(f"{host}-")
        )
        if service in mine and path not in wanted and not elsewhere:
            found.append(name)
    return found
