"""Regions on the wire: checking what a request wants of one, and showing one. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Container
from dataclasses import replace
from typing import Any

from mulligan.api.meta.v1 import meta_pb2
from mulligan.api.meta.v1.meta_pb2 import Region, RegionConfig
from mulligan.clock import to_timestamp
from mulligan.errors import InvalidArgument
from mulligan.ids import parse_id
from mulligan.meta.regions import INTERNAL, PROJECTS, PUBLIC, RegionRecord

MAX_FAILURES = 32
MAX_SHARED = 256
MAX_PROJECTS = 1000
MAX_EXPECTATION_CHARACTERS = 1000

_SHARD = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FAILING_THING = re.compile(r"[a-z][a-z0-9_-]{0,62}")

_VISIBILITIES = {
    meta_pb2.VISIBILITY_PUBLIC: PUBLIC,
    meta_pb2.VISIBILITY_INTERNAL: INTERNAL,
    meta_pb2.VISIBILITY_PROJECTS: PROJECTS,
}
_ON_THE_WIRE = {ours: theirs for theirs, ours in _VISIBILITIES.items()}


def check_shard(shard: str) -> str:
    """The shard's name itself; raises InvalidArgument."""
    if not _SHARD.fullmatch(shard):
        raise InvalidArgument(
            "shard must have 1 to 63 lower-case letters, digits and dashes, no dash at either end", field="shard"
        )
    return shard


def with_config(
    record: RegionRecord, config: RegionConfig, names: Collection[str], regions: Container[str]
) -> RegionRecord:
    """The record with the named fields of `config`; raises InvalidArgument. `regions` holds those that exist."""
    if "failures" in names:
        record = replace(record, failures=_failures(config, regions))
    if "visibility" in names:
        record = replace(record, visibility=_visibility(config))
    if "projects" in names:
        record = replace(record, projects=_projects(config))
    return record


def to_message(record: RegionRecord, shard: str) -> Region:
    """The region on the wire; `shard` is the one that owns it."""
    config = RegionConfig(visibility=_ON_THE_WIRE.get(record.visibility, meta_pb2.VISIBILITY_INTERNAL))
    config.projects.extend(record.projects)
    for thing, (expectation, shared_with) in (record.failures or {}).items():
        config.failures[thing].expectation = expectation
        config.failures[thing].shared_with.extend(shared_with)
    return Region(
        id=record.id,
        parent=record.parent,
        shard=shard,
        config=config,
        etag=str(record.version),
        create_time=to_timestamp(record.created_us),
    )


def _visibility(config: RegionConfig) -> str:
    if config.visibility not in _VISIBILITIES:
        raise InvalidArgument(
            "config.visibility must be VISIBILITY_PUBLIC, VISIBILITY_INTERNAL or VISIBILITY_PROJECTS",
            field="config.visibility",
        )
    return _VISIBILITIES[config.visibility]


def _projects(config: RegionConfig) -> tuple[str, ...]:
    if len(config.projects) > MAX_PROJECTS:
        raise InvalidArgument(f"config.projects lists more than {MAX_PROJECTS}", field="config.projects")
    return tuple(sorted({parse_id(each, "config.projects") for each in config.projects}))


def _failures(config: RegionConfig, regions: Container[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    if len(config.failures) > MAX_FAILURES:
        raise InvalidArgument(f"config.failures has more than {MAX_FAILURES} entries", field="config.failures")
    return {thing: _failure(thing, config.failures[thing], regions) for thing in sorted(config.failures)}


def _failure(thing: str, attribute: Any, regions: Container[str]) -> tuple[str, tuple[str, ...]]:
    field = "config.failures"
    if not _FAILING_THING.fullmatch(thing):
        raise InvalidArgument(
            f"{field} has key {thing[:64]!r}; use lower-case letters, digits, _ and -, such as power", field=field
        )
    if len(attribute.expectation) > MAX_EXPECTATION_CHARACTERS:
        raise InvalidArgument(
            f"{field}[{thing}].expectation has more than {MAX_EXPECTATION_CHARACTERS} characters", field=field
        )
    if len(attribute.shared_with) > MAX_SHARED:
        raise InvalidArgument(f"{field}[{thing}].shared_with lists more than {MAX_SHARED} regions", field=field)
    shared = sorted({parse_id(each, f"{field}[{thing}].shared_with") for each in attribute.shared_with})
    for region in shared:
        if region not in regions:
            raise InvalidArgument(f"{field}[{thing}].shared_with names {region}, which is no region", field=field)
    return attribute.expectation, tuple(shared)
