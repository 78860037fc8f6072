"""The regions as trees: who is above whom, which shard owns what, and what a caller may see. Pure; no etcd here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mulligan.caller import Caller
from mulligan.meta.errors import region_not_found

log = logging.getLogger(__name__)

DEFAULT_SHARD = "default"

PUBLIC, INTERNAL, PROJECTS = "public", "internal", "projects"


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """A region as etcd keeps it, as JSON under `/mulligan/meta/regions/<id>`."""

    id: str
    # Empty: a root.
    parent: str
    # Empty: the parent's; of a root: "default".
    shard: str
    visibility: str = PUBLIC
    # Ids of the projects that see it when its visibility is "projects".
    projects: tuple[str, ...] = ()
    # What fails -> (what to expect, regions that share this fate).
    failures: Mapping[str, tuple[str, tuple[str, ...]]] | None = None
    # Counts its updates; the etag.
    version: int = 1
    created_us: int = 0

    def to_json(self) -> bytes:
        """The stored form."""
        failures = {
            thing: {"expectation": expectation, "shared_with": list(shared)}
            for thing, (expectation, shared) in (self.failures or {}).items()
        }
        return json.dumps(
            {
                "id": self.id,
                "parent": self.parent,
                "shard": self.shard,
                "visibility": self.visibility,
                "projects": list(self.projects),
                "failures": failures,
                "version": self.version,
                "created_us": self.created_us,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> RegionRecord:
        """Reads the stored form; fields that a newer version added are ignored. Raises ValueError for anything else."""
        fields: dict[str, Any] = json.loads(data)
        return cls(
            id=fields["id"],
            parent=fields.get("parent", ""),
            shard=fields.get("shard", ""),
            visibility=fields.get("visibility", PUBLIC),
            projects=tuple(fields.get("projects", ())),
            failures={
                thing: (each.get("expectation", ""), tuple(each.get("shared_with", ())))
                for thing, each in fields.get("failures", {}).items()
            },
            version=fields.get("version", 1),
            created_us=fields.get("created_us", 0),
        )


class RegionTree:
    """The regions at one moment, made from what a `WatchedPrefix` of `/mulligan/meta/regions/` holds.

    Make a new one when the prefix changed: regions are few and change rarely. A region hides its whole tree:
    who may not see it sees nothing below it either. A region whose parent is missing, or that is its own ancestor,
    is no part of any tree; no request can make one.
    """

    def __init__(self, items: Mapping[str, bytes]) -> None:
        self._records = _reachable(_parsed(items))
        self._children: dict[str, list[str]] = {}
        for record in sorted(self._records.values(), key=lambda each: each.id):
            self._children.setdefault(record.parent, []).append(record.id)

    def __contains__(self, region: object) -> bool:
        return region in self._records

    def __iter__(self) -> Iterator[str]:
        """Ids of all regions, in order."""
        return iter(sorted(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, region: str) -> RegionRecord:
        """The region's record; raises NotFound when there is none."""
        record = self._records.get(region)
        if record is None:
            raise region_not_found(region)
        return record

    def parent_of(self, region: str) -> str:
        """Id of the region directly above; empty for a root. Raises NotFound."""
        return self.get(region).parent

    def shard_of(self, region: str) -> str:
        """The shard that owns the region: its own, else that of the nearest region above that has one."""
        for ancestor in self.path(region):
            if self._records[ancestor].shard:
                return self._records[ancestor].shard
        return DEFAULT_SHARD

    def path(self, region: str) -> list[str]:
        """The region and all above it, up to its root. Raises NotFound."""
        ids = [self.get(region).id]
        while parent := self._records[ids[-1]].parent:
            ids.append(parent)
        return ids

    def children(self, region: str) -> list[str]:
        """Ids of the regions directly below; of the roots when `region` is empty."""
        return list(self._children.get(region, ()))

    def descendants(self, region: str) -> list[str]:
        """The region and all below it, parents before children; every region when `region` is empty."""
        ids = [self.get(region).id] if region else self.children("")
        for each in ids:  # grows while it is walked
            ids.extend(self._children.get(each, ()))
        return ids

    def is_within(self, region: str, ancestor: str) -> bool:
        """Whether `region` is `ancestor` or lies below it; False when either is unknown."""
        return region in self._records and ancestor in self.path(region)

    @cached_property
    def shards(self) -> frozenset[str]:
        """Every shard that owns a region."""
        return frozenset(self.shard_of(region) for region in self._records)

    def shards_under(self, region: str, caller: Caller) -> list[str]:
        """Shards that own the region or a region below it, of those that the caller may see; each once, in order."""
        visible = (each for each in self.descendants(region) if self.is_visible(each, caller))
        return list(dict.fromkeys(self.shard_of(each) for each in visible))

    def regions_of(self, shard: str) -> list[str]:
        """Ids of the regions that the shard owns, in order."""
        return [region for region in self if self.shard_of(region) == shard]

    def is_visible(self, region: str, caller: Caller) -> bool:
        """Whether the caller may know of the region; False when there is none."""
        if region not in self._records:
            return False
        return self.is_run_by(region, caller) or all(
            _shows_to(self._records[each], caller.project) for each in self.path(region)
        )

    def is_run_by(self, region: str, caller: Caller) -> bool:
        """Whether a role of the caller in the system, whichever it is, reaches the region. Raises NotFound."""
        path = self.path(region)
        by_system = [grant.region for grant in caller.grants if grant.system]
        return any(reach in ("", *path) for reach in by_system) or (caller.system and not by_system)

    def shown(self, region: str, caller: Caller) -> RegionRecord:
        """The record as the caller may know it. Raises NotFound.

        Who has no role in the system there learns which projects see it of its own alone, and nobody of regions that
        he may not see.
        """
        record = self.get(region)
        if not self.is_run_by(region, caller):
            record = replace(record, projects=tuple(each for each in record.projects if each == caller.project))
        failures = {
            thing: (expectation, tuple(each for each in shared if self.is_visible(each, caller)))
            for thing, (expectation, shared) in (record.failures or {}).items()
        }
        return replace(record, failures=failures)

    def visible(self, caller: Caller) -> list[str]:
        """Ids of the regions that the caller may know of, in order."""
        return [region for region in self if self.is_visible(region, caller)]


def _shows_to(record: RegionRecord, project: str) -> bool:
    if record.visibility == PROJECTS:
        return project in record.projects
    return record.visibility == PUBLIC


def _parsed(items: Mapping[str, bytes]) -> dict[str, RegionRecord]:
    records = {}
    for key, data in items.items():
        try:
            records[key] = RegionRecord.from_json(data)
        except (ValueError, KeyError, TypeError, AttributeError):
            log.error("region=%s has a record that cannot be read; it is left out", key)
    return records


def _reachable(records: Mapping[str, RegionRecord]) -> dict[str, RegionRecord]:
    """Those whose chain of parents ends at a root."""
    children: dict[str, list[RegionRecord]] = {}
    for record in records.values():
        children.setdefault(record.parent, []).append(record)
    found = {record.id: record for record in children.get("", ())}
    queue = list(found)
    for region in queue:  # grows while it is walked
        for child in children.get(region, ()):
            found[child.id] = child
            queue.append(child.id)
    for lost in records.keys() - found.keys():
        log.error("region=%s parent=%s belongs to no tree; it is left out", lost, records[lost].parent)
    return found
