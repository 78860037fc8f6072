"""Whether a caller may make a request: the method's `authz` option judged by the roles that its token carries."""

from __future__ import annotations

from dataclasses import replace

from gateways.methods import Method
from mulligan.caller import Caller
from mulligan.errors import PermissionDenied
from mulligan.iam.policy import Decision, permits
from mulligan.meta.regions import RegionTree


def require_some(caller: Caller, method: Method) -> Decision:
    """Raises PermissionDenied when the caller may not use the method in any region, so before it learns of regions."""
    decision = permits(caller.grants, method.permission, method.scope, caller.project)
    if not decision.allowed:
        raise _denied(method, "none of its roles has it")
    return decision


def require_here(caller: Caller, method: Method, region: str, tree: RegionTree) -> Decision:
    """Raises PermissionDenied when the region is in no tree that a fitting role is bound to."""

    def covers(granted: str) -> bool:
        return tree.is_within(region, granted)

    decision = permits(caller.grants, method.permission, method.scope, caller.project, covers)
    if not decision.allowed:
        raise _denied(method, "the roles that have it are bound to other regions")
    return decision


def require_everywhere(decision: Decision, method: Method) -> Decision:
    """Raises PermissionDenied when the decision holds in some regions only and the request names none."""
    if decision.regions:
        raise _denied(method, "the roles that have it are bound to regions, so the request has to name one of those")
    return decision


def allowed(caller: Caller, method: Method, decision: Decision) -> Caller:
    """The caller as a service sees it: with the permission that let the request in, and how far it reaches."""
    return replace(caller, permission=method.permission, system=decision.system)


def _denied(method: Method, why: str) -> PermissionDenied:
    return PermissionDenied(
        f"{method.name} needs {method.permission}; {why}. Ask an administrator for an assignment",
        metadata={"permission": method.permission},
    )
