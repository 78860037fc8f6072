"""What runs where, as etcd announces it, told to each caller as far as it may know."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateways.authentication import Watched
from gateways.routing import Regions
from mulligan.api.catalog.v1.catalog_service_pb2 import (
    Endpoint,
    GetStatusRequest,
    GetStatusResponse,
    RegionRoute,
    Shard,
    WatchCatalogRequest,
    WatchCatalogResponse,
)
from mulligan.caller import Caller
from mulligan.dispatch import Page
from mulligan.meta.regions import RegionTree

log = logging.getLogger(__name__)

# Before login nothing else is told.
ANONYMOUS_SERVICES = frozenset({"iam"})


@dataclass(frozen=True, slots=True)
class Announced:
    """One entry of the catalogue."""

    # Of a gateway without "gateway-": iam, meta, resource, control, boot.
    service: str
    # Of a gateway: its instance.
    shard: str
    # Name of the Ray actor.
    actor: str
    version: str
    # host:port or URL; empty for a shard.
    address: str = ""


class Catalogue:
    """Every announced actor and gateway, and the regions."""

    def __init__(self, actors: Watched, gateways: Watched, regions: Regions, region_changes: Watched) -> None:
        """`region_changes` is what `regions` is made from."""
        self._actors = actors
        self._gateways = gateways
        self._regions = regions
        self._sources = (actors, gateways, region_changes)
        self._changed = asyncio.Event()
        # Counts changes; what was worked out for an earlier state of things is dropped.
        self._version = 0
        for source in self._sources:
            source.on_change.append(self._note_change)

    @property
    def revision(self) -> int:
        """The latest etcd revision that is shown."""
        return max(source.revision for source in self._sources)

    @property
    def version(self) -> int:
        """Another one after each change."""
        return self._version

    @property
    def tree(self) -> RegionTree:
        """The regions."""
        return self._regions.tree

    def shards(self) -> list[Announced]:
        """The actors that serve shards, in order."""
        return _announced(self._actors)

    def gateways(self) -> list[Announced]:
        """The gateways, in order."""
        return [each for each in _announced(self._gateways) if each.address]

    async def wait_changed(self, after: int, timeout_s: float) -> bool:
        """Whether `version` exceeds `after` within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._version <= after:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _note_change(self, _key: str, _value: bytes | None) -> None:
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class CatalogService:
    """Serves `mulligan.catalog.v1.CatalogService` in each gateway."""

    def __init__(self, catalogue: Catalogue, report: Callable[[], Awaitable[GetStatusResponse]]) -> None:
        self._catalogue = catalogue
        self._report = report
        self._shown: dict[Any, WatchCatalogResponse] = {}
        self._shown_version = -1

    async def watch_catalog(self, request: WatchCatalogRequest, caller: Caller, cursor: str, wait_s: float) -> Page:
        """The catalogue when what the caller may see of it is other than at `cursor`, a digest of that."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + wait_s
        while True:
            version = self._catalogue.version
            response = self._response(caller)
            digest = _digest(response)
            if digest != cursor:
                return Page([response], digest)
            if not await self._catalogue.wait_changed(version, ends - loop.time()):
                return Page([], cursor)

    async def get_status(self, request: GetStatusRequest, caller: Caller) -> GetStatusResponse:
        """The health of everything, asked for now."""
        return await self._report()

    def _response(self, caller: Caller) -> WatchCatalogResponse:
        """Callers who may see the same share the answer."""
        if self._shown_version != self._catalogue.version:
            self._shown, self._shown_version = {}, self._catalogue.version
        sees = (caller.project, caller.grants) if caller.account else None
        response = self._shown.get(sees)
        if response is None:
            response = self._shown[sees] = self._all(caller) if caller.account else self._before_login()
        return response

    def _before_login(self) -> WatchCatalogResponse:
        endpoints = [each for each in self._endpoints() if each.service in ANONYMOUS_SERVICES]
        return WatchCatalogResponse(revision=self._catalogue.revision, endpoints=endpoints)

    def _all(self, caller: Caller) -> WatchCatalogResponse:
        tree = self._catalogue.tree
        routes = [
            RegionRoute(region=region, parent=tree.parent_of(region), shard=tree.shard_of(region))
            for region in tree.visible(caller)
        ]
        visible = {route.shard for route in routes}
        shards = [
            Shard(service=each.service, shard=each.shard, actor=each.actor, version=each.version)
            for each in self._catalogue.shards()
            if each.shard in visible or each.shard not in tree.shards
        ]
        return WatchCatalogResponse(
            revision=self._catalogue.revision, endpoints=self._endpoints(), shards=shards, regions=routes
        )

    def _endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(service=each.service, address=each.address, instance=each.shard, version=each.version)
            for each in self._catalogue.gateways()
        ]


def _digest(response: WatchCatalogResponse) -> str:
    """Tells one catalogue from another; not the revision, which also counts changes that this caller may not see."""
    content = WatchCatalogResponse(endpoints=response.endpoints, shards=response.shards, regions=response.regions)
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()


def _announced(watched: Watched) -> list[Announced]:
    found = []
    for key, value in sorted(watched.items.items()):
        service, _, shard = key.partition("/")
        try:
            fields = json.loads(value)
            entry = Announced(
                service, shard, str(fields.get("actor", "")), str(fields.get("version", "")), fields.get("address", "")
            )
        except (ValueError, AttributeError):
            log.error("catalogue entry=%s cannot be read; it is left out", key)
            continue
        found.append(entry)
    return found
