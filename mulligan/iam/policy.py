"""Which role may do what: the permission table, and the one function that judges a request by it.

The permissions are those of the protos' `authz` options; a test fails when one of them is in no role, or when a role
lists one that no method asks for. Pure: gateways judge with it, nothing here reads a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mulligan.api.options.v1 import options_pb2
from mulligan.caller import Grant

SCOPE_ANONYMOUS: Final = options_pb2.SCOPE_ANONYMOUS
SCOPE_AUTHENTICATED: Final = options_pb2.SCOPE_AUTHENTICATED
SCOPE_PROJECT: Final = options_pb2.SCOPE_PROJECT
SCOPE_SYSTEM: Final = options_pb2.SCOPE_SYSTEM

# What looks and changes nothing.
_READ: Final = frozenset(
    {
        "catalog.status.get",
        "control.bmc.get",
        "control.bmc.list",
        "control.machine.get",
        "control.machine.list",
        "control.operation.get",
        "control.operation.list",
        "iam.account.get",
        "iam.account.list",
        "iam.assignment.list",
        "iam.project.get",
        "iam.project.list",
        "meta.name.resolve",
        "meta.region.get",
        "meta.region.list",
        "resource.claim.explain",
        "resource.claim.get",
        "resource.claim.list",
        "resource.group.list",
        "resource.provider.get",
        "resource.provider.list",
        "resource.quota.list",
        "resource.usage.get",
        "resource.vocabulary.get",
    }
)

# What a tenant does with the machines of its project.
_USE: Final = frozenset(
    {
        "control.machine.decommission",
        "control.machine.provision",
        "meta.name.update",
        "meta.tag.update",
        "resource.claim.create",
        "resource.claim.release",
    }
)

# Application credentials of one's own project; who is bound to a region deletes only those that it made. Whom else one
# may delete, the IAM service asks for beyond this.
_DELEGATE: Final = frozenset({"iam.account.delete", "iam.credential.create"})

# What running the machines and the services takes.
_OPERATE: Final = frozenset(
    {
        "control.bmc.delete",
        "control.bmc.register",
        "control.executor.configure",
        "control.service.configure",
        "meta.region.create",
        "meta.region.delete",
        "meta.region.update",
        "meta.service.configure",
        "resource.group.create",
        "resource.group.delete",
        "resource.provider.create",
        "resource.provider.delete",
        "resource.provider.update",
        "resource.quota.delete",
        "resource.quota.set",
        "resource.service.configure",
        "resource.vocabulary.define",
        "resource.vocabulary.delete",
    }
)

# Who may do what.
_ADMINISTER: Final = frozenset(
    {
        "iam.account.create",
        "iam.account.update",
        "iam.assignment.create",
        "iam.assignment.delete",
        "iam.key.rotate",
        "iam.project.create",
        "iam.project.delete",
        "iam.service.configure",
        "iam.token.revoke",
    }
)

# Permissions that no method's option names, because the method asks for them only in some cases.
ASKED_IN_CODE: Final = frozenset({"iam.token.revoke"})

ROLES: Final[dict[str, frozenset[str]]] = {
    "admin": _READ | _USE | _DELEGATE | _OPERATE | _ADMINISTER,
    "operator": _READ | _USE | _OPERATE,
    "member": _READ | _USE | _DELEGATE,
    "reader": _READ,
}

PERMISSIONS: Final = frozenset().union(*ROLES.values())

# What these do reaches beyond any region, so a grant that is bound to a region does not allow them:
# its holder would step out of the region with them.
_EVERYWHERE: Final = _ADMINISTER | {
    "control.executor.configure",
    "control.service.configure",
    "meta.region.create",
    "meta.region.delete",
    "meta.region.update",
    "meta.service.configure",
    "resource.quota.delete",
    "resource.quota.set",
    "resource.service.configure",
    "resource.vocabulary.define",
    "resource.vocabulary.delete",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, and how far."""

    allowed: bool
    # A system grant allowed it: the caller sees every project.
    system: bool = False
    # UUIDs of the regions whose trees it is bound to; empty: every region.
    regions: tuple[str, ...] = ()


DENIED: Final = Decision(allowed=False)


def permits(
    grants: Iterable[Grant],
    permission: str,
    scope: int,
    project_in_token: str,
    covers: Callable[[str], bool] | None = None,
) -> Decision:
    """Judges a method's `authz` option against the grants of a token.

    `covers` tells whether the region that the request names lies in the tree of a grant's region; without it the
    request names none, and `Decision.regions` says where it may reach. A project grant counts only in the token's
    project. An anonymous method is allowed; for the others the caller has to have been authenticated before.
    """
    if scope in (SCOPE_ANONYMOUS, SCOPE_AUTHENTICATED):
        return Decision(allowed=True)
    counting = [grant for grant in grants if _counts(grant, permission, covers)]
    by_system = [grant for grant in counting if grant.system]
    by_project = (
        [grant for grant in counting if not grant.system] if scope == SCOPE_PROJECT and project_in_token else []
    )
    return _widest(by_system, by_project)


def _counts(grant: Grant, permission: str, covers: Callable[[str], bool] | None) -> bool:
    if permission not in ROLES.get(grant.role, frozenset()):
        return False
    if not grant.region:
        return True
    return permission not in _EVERYWHERE and (covers is None or covers(grant.region))


def _widest(by_system: list[Grant], by_project: list[Grant]) -> Decision:
    """System and project grants are never mixed: the reach of the one with the rights of the other would be more."""
    for grants, system in ((by_system, True), (by_project, False)):
        if any(not grant.region for grant in grants):
            return Decision(allowed=True, system=system)
    for grants, system in ((by_system, True), (by_project, False)):
        if grants:
            return Decision(allowed=True, system=system, regions=tuple(sorted({grant.region for grant in grants})))
    return DENIED


def includes(role: str, other: str) -> bool:
    """Whether who holds `role` may do everything that `other` allows."""
    return other in ROLES and ROLES[other] <= ROLES.get(role, frozenset())
