"""Which objects a caller may see and change. Pure.

Providers and provider groups are visible to everybody who may see their region, as claims name them. Projects,
accounts and machines are visible to their own project only. What a caller may not see does not exist for it.
"""

from __future__ import annotations

from typing import NamedTuple

from mulligan.api.options.v1 import options_pb2
from mulligan.caller import Caller
from mulligan.errors import PermissionDenied
from mulligan.iam.policy import permits
from mulligan.meta.errors import object_not_found
from mulligan.meta.model import ACCOUNT, MACHINE, PROJECT, PROVIDER, PROVIDER_GROUP, REGION, NamedObject
from mulligan.meta.regions import RegionTree

# Kinds that lie in no region's tree, or are its trunk: only who reaches every region may change them.
_ABOVE_REGIONS = (REGION, PROJECT, ACCOUNT)


class Facets(NamedTuple):
    """What decides who sees an object, and where a list shows it."""

    kind: str
    project: str
    region: str
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, each: NamedObject) -> Facets:
        """Those of an object."""
        return cls(each.kind, each.project, each.region, each.tags)


class Eyes:
    """One caller's view at one moment."""

    def __init__(self, caller: Caller, tree: RegionTree) -> None:
        self._caller = caller
        self._tree = tree
        self._bound_to = _reach(caller) if caller.system else ()
        # Sees and, with the permission, changes everything.
        self.everywhere = caller.system and not self._bound_to
        self._seen: dict[str, bool] = {}

    def sees(self, object_id: str, facets: Facets) -> bool:
        """Whether the caller may know of the object."""
        if self.everywhere:
            return True
        if facets.kind == REGION:
            return self._sees_region(object_id)
        if self._reaches(facets):
            return True
        if facets.kind in (PROVIDER, PROVIDER_GROUP):
            return self._sees_region(facets.region)
        return object_id in self.own_ids(facets.kind) or self._owns(facets)

    def looks_into(self, kind: str, project: str) -> bool:
        """Whether the caller may see any of that kind and project beside its `own_ids`."""
        if self._caller.system or kind in (REGION, PROVIDER, PROVIDER_GROUP):
            return True
        return project == self._caller.project or (not project and kind not in (PROJECT, ACCOUNT))

    def own_ids(self, kind: str) -> tuple[str, ...]:
        """Ids of the caller's own project and account, as far as they are of the kind; empty: of both."""
        own = {PROJECT: self._caller.project, ACCOUNT: self._caller.account}
        return tuple(each for of_kind, each in own.items() if each and kind in ("", of_kind))

    def check_change(self, each: NamedObject) -> None:
        """Raises NotFound for what the caller may not see, PermissionDenied for what it may only see."""
        facets = Facets.of(each)
        if not self.sees(each.id, facets):
            raise object_not_found(each.id)
        if self.everywhere or (facets.kind == MACHINE and self._owns(facets)):
            return
        if facets.kind not in _ABOVE_REGIONS and self._reaches(facets):
            return
        raise PermissionDenied(
            f"{each.kind} {each.id} is not yours to change; an operator can",
            metadata={"kind": each.kind, "id": each.id},
        )

    def _owns(self, facets: Facets) -> bool:
        return bool(facets.project) and facets.project == self._caller.project

    def _reaches(self, facets: Facets) -> bool:
        return any(self._tree.is_within(facets.region, bound) for bound in self._bound_to)

    def _sees_region(self, region: str) -> bool:
        if region not in self._seen:
            self._seen[region] = self._tree.is_visible(region, self._caller)
        return self._seen[region]


def _reach(caller: Caller) -> tuple[str, ...]:
    """Regions that a system caller is bound to; empty: every region. A caller of our own has no grants."""
    decision = permits(caller.grants, caller.permission, options_pb2.SCOPE_SYSTEM, caller.project)
    if decision.allowed:
        return decision.regions
    return tuple(grant.region for grant in caller.grants if grant.system and grant.region)
