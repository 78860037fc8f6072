"""Claim files: what is asked for and when. `claim.schema.json` describes the format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mulligan.api.resource.v1.claim_pb2 import (
    CapabilityConstraint,
    ClaimSpec,
    DistanceConstraint,
    ProviderGroupConstraint,
    RequestGroup,
    ResourceConstraint,
)
from mulligan.client import Client
from mulligan.clock import to_timestamp
from mulligan.errors import InvalidArgument
from mulligan.inventory.document import Document, PathTo, parse_document, read_text
from mulligan.inventory.times import parse_time

SCHEMA = "claim"
_SIDES = ("require", "forbid", "any")


@dataclass(frozen=True)
class ClaimFile:
    """A valid claim file; provider groups and the project are still as they were written, by name or UUID."""

    document: Document

    @property
    def project(self) -> str:
        """Name or UUID; empty: the one that is logged in to."""
        project: str = self.document.content.get("project", "")
        return project

    def provider_groups(self) -> list[str]:
        """Every provider group that it names, each once."""
        found: dict[str, None] = {}
        for group in self.document.content["groups"]:
            for names in group.get("provider_groups", {}).values():
                found |= dict.fromkeys(names)
        return list(found)

    def spec(self, now_us: int, provider_groups: Mapping[str, str], project: str = "") -> ClaimSpec:
        """The request. `provider_groups` tells the UUID of each that is named; relative times count from `now_us`."""
        content = self.document.content
        acquire, release = self._time("acquire", now_us), self._time("release", now_us)
        if release is not None and release <= (now_us if acquire is None else acquire):
            raise self.document.refusal(("release",), "this is not after acquire; the window would be empty")
        return ClaimSpec(
            consumer=content.get("consumer", ""),
            project=project,
            acquire=None if acquire is None else to_timestamp(acquire),
            release=None if release is None else to_timestamp(release),
            strategy=f"STRATEGY_{content.get('strategy', 'unspecified').upper()}",
            groups=[_group(group, provider_groups) for group in content["groups"]],
        )

    def _time(self, key: str, now_us: int) -> int | None:
        text = self.document.content.get(key)
        if text is None:
            return None
        try:
            return parse_time(text, now_us)
        except ValueError as error:
            raise self.document.refusal((key,), str(error)) from None


def read_claim(path: Path) -> ClaimFile:
    """The claim of a file; raises InvalidArgument that names line and path of what is wrong."""
    return parse_claim(read_text(path), str(path))


def packaged_claim(name: str) -> ClaimFile:
    """One of the claims that come along, such as 1cpu-64m-10g."""
    folder = files("mulligan") / "deployments" / "claims"
    known = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    if name not in known:
        raise InvalidArgument(f"there is no claim {name!r} in the package; there are {', '.join(known)}")
    return parse_claim((folder / f"{name}.yaml").read_text(), f"{name}.yaml")


def parse_claim(text: str, source: str) -> ClaimFile:
    """The claim of a text; `source` names it in errors."""
    document = parse_document(text, source, SCHEMA)
    names: list[str] = []
    for index, group in enumerate(document.content["groups"]):
        name = group.get("name", str(index))
        if name in names:
            raise document.refusal(("groups", index), f"two groups are named {name!r}; give each a name of its own")
        _check_group(document, ("groups", index), group, names)
        names.append(name)
    return ClaimFile(document)


async def resolve_claim(client: Client, claim: ClaimFile, region: str, now_us: int) -> ClaimSpec:
    """The request with names turned into UUIDs; provider groups are looked for in `region` (UUID) and below it."""
    scopes = await client.regions_below(region)
    ids = {name: (await client.names.find("provider_group", name, scopes))[0] for name in claim.provider_groups()}
    return claim.spec(now_us, ids, await client.names.id_or_name("project", claim.project))


def _check_group(document: Document, path: PathTo, group: Mapping[str, Any], before: Iterable[str]) -> None:
    exclusive = group.get("exclusive", False)
    if not group.get("resources") and not exclusive:
        raise document.refusal(path, "it asks for nothing; give resources, or exclusive: true")
    for code, amount in group.get("resources", {}).items():
        least, most = amount["min"], amount.get("max", amount["min"])
        where = (*path, "resources", code, "max")
        if most < least:
            raise document.refusal(where, f"max {most} is less than min {least}")
        if most > least and not exclusive:
            raise document.refusal(where, "more than min is given only with exclusive: true; make max the same as min")
    for index, distance in enumerate(group.get("distance", ())):
        _check_distance(document, (*path, "distance", index), distance, list(before))


def _check_distance(document: Document, path: PathTo, distance: Mapping[str, Any], before: list[str]) -> None:
    if distance["from_group"] not in before:
        known = f"; there are {', '.join(before)}" if before else ", and this is the first"
        raise document.refusal(
            (*path, "from_group"), f"no group {distance['from_group']!r} stands before this one{known}"
        )
    if "at_least" not in distance and "at_most" not in distance:
        raise document.refusal(path, "it bounds nothing; give at_least, at_most or both")


def _group(group: Mapping[str, Any], provider_groups: Mapping[str, str]) -> RequestGroup:
    wanted = group.get("capabilities", [])
    named = group.get("provider_groups")
    return RequestGroup(
        name=group.get("name", ""),
        resources=[_resource(code, amount) for code, amount in group.get("resources", {}).items()],
        capabilities=[CapabilityConstraint(**each) for each in (wanted if isinstance(wanted, list) else [wanted])],
        provider_groups=ProviderGroupConstraint(
            **{side: [provider_groups[name] for name in named.get(side, ())] for side in _SIDES}
        )
        if named
        else None,
        distances=[_distance(each) for each in group.get("distance", ())],
        exclusive=group.get("exclusive", False),
    )


def _resource(code: str, amount: Mapping[str, Any]) -> ResourceConstraint:
    constraint = amount.get("capabilities")
    return ResourceConstraint(
        resource_type=code,
        min=amount["min"],
        max=amount.get("max", 0),
        capabilities=CapabilityConstraint(**constraint) if constraint else None,
    )


def _distance(distance: Mapping[str, Any]) -> DistanceConstraint:
    return DistanceConstraint(
        from_group=distance["from_group"],
        distance_type=distance["type"],
        at_least=distance.get("at_least", ""),
        at_most=distance.get("at_most", ""),
    )
