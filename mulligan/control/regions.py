"""The regions as etcd has them now, for the shard's requests and for results that belong to any shard."""

from __future__ import annotations

from mulligan.control.policy import Territory
from mulligan.meta.regions import DEFAULT_SHARD, RegionTree
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix


class Regions:
    """Follows the regions; made anew when they change, which is rare."""

    def __init__(self, client: EtcdClient, shard: str) -> None:
        """Nothing is known before start()."""
        self._shard = shard
        self._watched = WatchedPrefix(client, keys.META_REGIONS)
        self._watched.on_change.append(lambda key, value: self._forget())
        self._territory: Territory | None = None

    async def start(self) -> None:
        """Reads the regions and follows them; raises Unavailable."""
        await self._watched.start()

    async def close(self) -> None:
        """Stops following."""
        await self._watched.close()

    def territory(self) -> Territory:
        """What the shard serves now."""
        if self._territory is None:
            self._territory = Territory(RegionTree(self._watched.items), self._shard)
        return self._territory

    def shard_of(self, region: str) -> str:
        """The shard of a region; of one that is gone, the default."""
        tree = self.territory().tree
        return tree.shard_of(region) if region in tree else DEFAULT_SHARD

    def _forget(self) -> None:
        self._territory = None
