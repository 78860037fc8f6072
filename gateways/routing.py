"""Where a request goes: from its region through the tree of regions to the shards that own it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from gateways import permission
from gateways.authentication import Identity, Watched
from gateways.methods import FanOut, Method
from mulligan.caller import Caller
from mulligan.errors import InvalidArgument, NotFound
from mulligan.ids import parse_id
from mulligan.meta.regions import DEFAULT_SHARD, RegionTree

# The only shard of services that are not partitioned.
GLOBAL_SHARD: Final = "global"
PARTITIONED: Final = frozenset({"resource", "control"})

# Regions that a refusal names.
MAX_LISTED: Final = 20

# Decisions kept for one token; a caller that names more regions has them judged again.
MAX_PASSAGES: Final = 256


@dataclass(frozen=True, slots=True)
class Passage:
    """Who asks, as the service sees it, and which shards are asked, in order."""

    caller: Caller
    shards: tuple[str, ...]
    # The request concerns no shard more than another: any that is served will do.
    anywhere: bool = False


class Regions:
    """The tree of regions as etcd has it now."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._stale = True
        self._tree = RegionTree({})
        watched.on_change.append(self._changed)

    @property
    def tree(self) -> RegionTree:
        """Another object whenever something changed."""
        if self._stale:
            self._tree, self._stale = RegionTree(self._watched.items), False
        return self._tree

    def _changed(self, _key: str, _value: bytes | None) -> None:
        self._stale = True


class Router:
    """Judges and routes the requests of one service."""

    def __init__(self, service: str, regions: Regions, shards: Callable[[], list[str]]) -> None:
        """`shards` tells those of the service that are served at the moment."""
        self._partitioned = service in PARTITIONED
        self._regions = regions
        self._shards = shards

    def passage(self, identity: Identity, method: Method, request: bytes) -> Passage:
        """Raises what the caller is to be told when the request may not pass or nowhere to."""
        region = region_of(method, request) if method.region_field else ""
        tree = self._regions.tree
        if identity.passages_tree is not tree or len(identity.passages) >= MAX_PASSAGES:
            identity.passages, identity.passages_tree = {}, tree
        key = (method.path, region)
        passage: Passage | None = identity.passages.get(key)
        if passage is None:
            passage = identity.passages[key] = self._judged(identity.caller, method, region, tree)
        return Passage(passage.caller, (self._any_shard(),)) if passage.anywhere else passage

    def _judged(self, caller: Caller, method: Method, region: str, tree: RegionTree) -> Passage:
        decision = permission.require_some(caller, method)
        if not method.region_field:
            only = () if self._partitioned else (GLOBAL_SHARD,)
            return Passage(permission.allowed(caller, method, decision), only, anywhere=self._partitioned)
        if region:
            region = self._visible(caller, method, region, tree)
            decision = permission.require_here(caller, method, region, tree)
        else:
            decision = permission.require_everywhere(decision, method)
        if region and method.mutating and method.fan_out is FanOut.NONE:
            shards: tuple[str, ...] = (tree.shard_of(region),)
        else:
            shards = tuple(tree.shards_under(region, caller))
            _check_fan_out(method, region, shards, tree, caller)
        return Passage(permission.allowed(caller, method, decision), shards)

    @staticmethod
    def _visible(caller: Caller, method: Method, region: str, tree: RegionTree) -> str:
        """The region's id; raises NotFound alike for one that is not there and one that the caller may not see."""
        region = parse_id(region, method.region_field)
        if not tree.is_visible(region, caller):
            raise NotFound(
                f"there is no region {region}; ListRegions tells which there are", metadata={"region": region}
            )
        return region

    def _any_shard(self) -> str:
        shards = self._shards()
        return shards[0] if shards and DEFAULT_SHARD not in shards else DEFAULT_SHARD


def region_of(method: Method, request: bytes) -> str:
    """The region that the request names, as it wrote it; raises InvalidArgument (MALFORMED_MESSAGE)."""
    try:
        region: str = getattr(method.request.FromString(request), method.region_field)
    except DecodeError:
        raise malformed(method) from None
    return region


def malformed(method: Method) -> InvalidArgument:
    """What is told of a request that is no message of the method's."""
    name = method.request.DESCRIPTOR.full_name
    return InvalidArgument(f"the request is not a valid {name}", reason="MALFORMED_MESSAGE")


def _check_fan_out(method: Method, region: str, shards: tuple[str, ...], tree: RegionTree, caller: Caller) -> None:
    field = method.region_field
    if not shards and method.fan_out is not FanOut.MERGE:
        raise NotFound("there is no region yet that you may see; an operator makes one with CreateRegion")
    if len(shards) > 1 and method.fan_out is FanOut.NONE:
        which = f"region {region} spreads over" if region else "without a region it would concern"
        raise InvalidArgument(
            f"{method.name} is for one shard, and {which} {len(shards)}; name a region below in {field}",
            reason="REGION_AMBIGUOUS",
            field=field,
            metadata={"regions": ",".join(_of_one_shard(region, tree, caller))},
        )


def _of_one_shard(region: str, tree: RegionTree, caller: Caller) -> list[str]:
    """The topmost regions below that one shard owns whole, of those the caller may see; not all of many."""
    below = [each for each in tree.descendants(region) if tree.is_visible(each, caller)]
    owners = {each: {tree.shard_of(each)} for each in below}
    for each in reversed(below):  # children before parents
        if (parent := tree.parent_of(each)) in owners:
            owners[parent] |= owners[each]
    whole = {each for each in below if len(owners[each]) == 1}
    return [each for each in below if each in whole and tree.parent_of(each) not in whole][:MAX_LISTED]
