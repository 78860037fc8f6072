"""The part of the region tree that a decision needs, read from etcd at that moment, so that it is never behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mulligan.meta.regions import RegionRecord, RegionTree
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient

# Regions above one region; more than this is a circle.
_MAX_DEPTH: Final = 64


class Regions:
    """Reads regions with all that lies above them."""

    def __init__(self, etcd: EtcdClient) -> None:
        self._etcd = etcd

    async def tree(self, regions: Iterable[str]) -> RegionTree:
        """The regions given, as far as they exist, and those above them. Raises Unavailable without etcd."""
        found: dict[str, bytes] = {}
        for region in sorted({region for region in regions if region}):
            await self._climb(region, found)
        return RegionTree(found)

    async def _climb(self, region: str, found: dict[str, bytes]) -> None:
        for _ in range(_MAX_DEPTH):
            if not region or region in found:
                return
            response = await self._etcd.kv.get(keys.meta_region(region))
            if not response.kvs:
                return
            found[region] = response.kvs[0].value
            region = RegionRecord.from_json(found[region]).parent
