"""Which regions a request may touch: the tree below the region that it names, as far as its caller may see it."""

from __future__ import annotations

from collections.abc import Collection

from mulligan.api.options.v1 import options_pb2
from mulligan.caller import Caller, Grant
from mulligan.errors import FailedPrecondition, NotFound
from mulligan.iam.policy import permits
from mulligan.meta.regions import RegionTree
from mulligan.resource.planner import Scope
from mulligan.resource.spec import canonical_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix

# Callers that differ in what they may see, times the regions that they name; beyond that it is worked out anew.
_REMEMBERED_SCOPES = 10_000


class Regions:
    """The regions of a shard, followed in etcd."""

    def __init__(self, etcd: EtcdClient, shard: str) -> None:
        """Nothing is known before `start`."""
        self._shard = shard
        self._prefix = WatchedPrefix(etcd, keys.META_REGIONS)
        self._prefix.on_change.append(lambda key, value: self._forget())
        self._tree: RegionTree | None = None
        self._scopes: dict[tuple[str, str, bool, tuple[Grant, ...]], Scope] = {}
        # One instance for each set of regions.
        self._interned: dict[frozenset[str], Scope] = {}

    async def start(self) -> None:
        """Reads the regions and follows them; raises Unavailable."""
        await self._prefix.start()

    async def close(self) -> None:
        """Stops following."""
        await self._prefix.close()

    @property
    def tree(self) -> RegionTree:
        """All regions as they are now."""
        if self._tree is None:
            self._tree = RegionTree(self._prefix.items)
        return self._tree

    def scope(self, region: str, caller: Caller) -> Scope:
        """The shard's own regions in the tree below `region` (empty: all of them) that the caller may see.

        Raises InvalidArgument (INVALID_UUID), NotFound, FailedPrecondition (WRONG_REGION).
        """
        key = (region, caller.project, caller.system, caller.grants)
        scope = self._scopes.get(key)
        if scope is None:
            found = frozenset(self._visible(canonical_id(region, "region") if region else "", caller))
            scope = self._interned.setdefault(found, Scope(found))
            if len(self._scopes) >= _REMEMBERED_SCOPES:
                self._scopes.clear()
            self._scopes[key] = scope
        return scope

    def require(self, region: str, caller: Caller) -> str:
        """The region itself, for something that is to live in it; raises as `scope` does, and for an empty one."""
        region = canonical_id(region, "region")
        if not self.tree.is_visible(region, caller):
            raise region_not_found(region)
        self._check_shard(region, [region])
        return region

    def reaches(self, regions: Collection[str], named: str, caller: Caller) -> bool:
        """Whether a request that names `named` (empty: none) may touch what lies in all of these regions.

        They have to be in the tree below it and in those that the caller's grants are bound to. Our own services
        find things by their ids alone. Raises as `scope` does.
        """
        if caller.system and not caller.account:
            return True
        if named and not self.scope(named, caller).regions.issuperset(regions):
            return False
        bounds = _bounds(caller)
        return not bounds or all(any(self.tree.is_within(each, bound) for bound in bounds) for each in regions)

    def mine(self) -> list[str]:
        """Ids of the regions that the shard owns."""
        return self.tree.regions_of(self._shard)

    def is_mine(self, region: str) -> bool:
        """Whether the shard owns the region."""
        return region in self.tree and self.tree.shard_of(region) == self._shard

    def common(self, regions: Collection[str], asked: str) -> str:
        """The region of a claim on providers in these regions: theirs, or what was asked for when they are several."""
        return asked if len(regions) > 1 and asked else min(regions)

    def line_of(self, region: str) -> list[str]:
        """The region, all above and all below it: whoever claimed something in it named one of these."""
        tree, region = self.tree, canonical_id(region, "region")
        return [*tree.path(region), *tree.descendants(region)[1:]]

    def _visible(self, region: str, caller: Caller) -> list[str]:
        tree = self.tree
        if region and not tree.is_visible(region, caller):
            raise region_not_found(region)
        visible = [each for each in tree.descendants(region) if tree.is_visible(each, caller)]
        mine = [each for each in visible if tree.shard_of(each) == self._shard]
        if region:
            self._check_shard(region, mine)
        return mine

    def _check_shard(self, region: str, candidates: list[str]) -> None:
        if not any(self.tree.shard_of(each) == self._shard for each in candidates):
            raise FailedPrecondition(
                f"region {region} is in shard {self.tree.shard_of(region)}, not in {self._shard}; send it there",
                reason="WRONG_REGION",
                metadata={"region": region, "shard": self.tree.shard_of(region)},
            )

    def _forget(self) -> None:
        self._tree = None
        self._scopes.clear()
        self._interned.clear()


def _bounds(caller: Caller) -> tuple[str, ...]:
    """Regions that the grants which let the request in are bound to; none: they are not."""
    scope = options_pb2.SCOPE_SYSTEM if caller.system else options_pb2.SCOPE_PROJECT
    counting = [grant for grant in caller.grants if grant.system == caller.system]
    return permits(counting, caller.permission, scope, caller.project).regions


def region_not_found(region: str) -> NotFound:
    """There is no such region, or the caller may not know of it."""
    return NotFound(f"there is no region {region[:64]}; ListRegions tells which there are", metadata={"region": region})
