"""Deployment files: where machines stand and what they provide. `deployment.schema.json` describes the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from mulligan.api.resource.v1.provider_pb2 import Inventory
from mulligan.errors import InvalidArgument
from mulligan.inventory.document import Document, PathTo, parse_document, read_text
from mulligan.meta.model import check_name
from mulligan.resource.inventory import parse_inventory

SCHEMA = "deployment"
MAX_NODES = 1_000_000


@dataclass(frozen=True)
class Profile:
    """One kind of machine. Inventories are in order of their resource type."""

    provider_type: str
    capabilities: tuple[str, ...]
    inventories: tuple[Inventory, ...]


@dataclass(frozen=True)
class Layout:
    """How many machines stand where; every site is built alike."""

    sites: tuple[str, ...]
    rows_per_site: int
    racks_per_row: int
    nodes_per_rack: int

    @property
    def nodes_per_site(self) -> int:
        """Machines of one site."""
        return self.rows_per_site * self.racks_per_row * self.nodes_per_rack

    @property
    def nodes(self) -> int:
        """Machines of all sites."""
        return len(self.sites) * self.nodes_per_site


@dataclass(frozen=True)
class Deployment:
    """What a deployment file says."""

    layout: Layout
    profiles: Mapping[str, Profile]
    default_profile: str
    # Positions from near to far, by distance type.
    distance_types: Mapping[str, tuple[str, ...]]
    # Profiles by name of a site, row or rack; the smallest group decides.
    group_profiles: Mapping[str, str] = field(default_factory=dict)
    root: str = "earth"
    # Units by resource type, where they are not the usual ones.
    units: Mapping[str, str] = field(default_factory=dict)


def read_deployment(path: Path) -> Deployment:
    """The deployment of a file; raises InvalidArgument that names line and path of what is wrong."""
    return parse_deployment(read_text(path), str(path))


def packaged_deployment(name: str) -> Deployment:
    """One of the deployments that come along: 100-shared, 2k-shared, 2k-mixed or 10k-shared."""
    folder = files("mulligan") / "deployments"
    known = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    if name not in known:
        raise InvalidArgument(f"there is no deployment {name!r} in the package; there are {', '.join(known)}")
    return parse_deployment((folder / f"{name}.yaml").read_text(), f"{name}.yaml")


def parse_deployment(text: str, source: str) -> Deployment:
    """The deployment of a text; `source` names it in errors."""
    document = parse_document(text, source, SCHEMA)
    content = document.content
    layout = content["layout"]
    deployment = Deployment(
        layout=Layout(
            tuple(layout["sites"]), layout["rows_per_site"], layout["racks_per_row"], layout["nodes_per_rack"]
        ),
        profiles={name: _profile(document, name, profile) for name, profile in content["profiles"].items()},
        default_profile=content["default_profile"],
        distance_types={code: tuple(positions) for code, positions in content["distance_types"].items()},
        group_profiles=content.get("group_profiles", {}),
        root=content.get("root", "earth"),
        units=content.get("units", {}),
    )
    if deployment.layout.nodes > MAX_NODES:
        raise document.refusal(
            ("layout",), f"this makes {deployment.layout.nodes} machines, more than {MAX_NODES}; split it by site"
        )
    _check_names(document, deployment)
    _check_profiles(document, deployment)
    return deployment


def _profile(document: Document, name: str, content: Mapping[str, Any]) -> Profile:
    return Profile(
        content["provider_type"],
        tuple(content.get("capabilities", ())),
        tuple(
            _inventory(document, ("profiles", name, "inventory", code), code, amounts)
            for code, amounts in sorted(content["inventory"].items())
        ),
    )


def _inventory(document: Document, path: PathTo, code: str, amounts: Mapping[str, Any]) -> Inventory:
    """Checked by the service's own rules, so that what passes here is not refused there."""
    inventory = Inventory(resource_type=code, **amounts)
    try:
        checked = parse_inventory(inventory, "")
    except InvalidArgument as error:
        raise document.refusal(path, error.message.removeprefix(": ")) from None
    if checked.capacity < checked.min_unit:
        raise document.refusal(
            path,
            f"the capacity {checked.capacity} is less than min_unit {checked.min_unit}: nothing could ever be claimed",
        )
    return inventory


def _check_names(document: Document, deployment: Deployment) -> None:
    for index, site in enumerate(deployment.layout.sites):
        path: PathTo = ("layout", "sites", index)
        try:
            check_name(site)
        except InvalidArgument as error:
            raise document.refusal(path, error.message) from None
        if site == deployment.root:
            raise document.refusal(path, f"{site!r} is the root region's name too; rename the site or set root")
    unknown = sorted(deployment.units.keys() - resource_types(deployment))
    if unknown:
        raise document.refusal(("units", unknown[0]), "no profile has this resource type; remove it or add it to one")


def _check_profiles(document: Document, deployment: Deployment) -> None:
    known = ", ".join(sorted(deployment.profiles))
    if deployment.default_profile not in deployment.profiles:
        raise document.refusal(
            ("default_profile",), f"there is no profile {deployment.default_profile!r}; there are {known}"
        )
    groups = group_names(deployment)
    for group, profile in deployment.group_profiles.items():
        if profile not in deployment.profiles:
            raise document.refusal(("group_profiles", group), f"there is no profile {profile!r}; there are {known}")
        if group not in groups:
            raise document.refusal(
                ("group_profiles", group),
                "the layout has no such site, row or rack; names are SITE, SITE-rowN and SITE-rowN-rackM, from 1",
            )
    _check_ambiguous(document, deployment)


def _check_ambiguous(document: Document, deployment: Deployment) -> None:
    """A site named as another site's row or rack would make group_profiles mean two things."""
    total = len(deployment.layout.sites) * (1 + deployment.layout.rows_per_site * (1 + deployment.layout.racks_per_row))
    if len(group_names(deployment)) < total:
        raise document.refusal(
            ("layout", "sites"), "a site is named like a row or rack of another one; give it another name"
        )


def group_names(deployment: Deployment) -> set[str]:
    """Names of every site, row and rack."""
    layout = deployment.layout
    sites = set(layout.sites)
    rows = {f"{site}-row{row}" for site in sites for row in range(1, layout.rows_per_site + 1)}
    racks = {f"{row}-rack{rack}" for row in rows for rack in range(1, layout.racks_per_row + 1)}
    return sites | rows | racks


def resource_types(deployment: Deployment) -> set[str]:
    """Codes of every resource type that a profile has."""
    return {each.resource_type for profile in deployment.profiles.values() for each in profile.inventories}
