"""The permission table against the methods' authz options, and the one function that judges by it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from google.protobuf.descriptor import MethodDescriptor

import mulligan.api
from mulligan.api.options.v1 import options_pb2
from mulligan.caller import Grant
from mulligan.iam import policy
from mulligan.iam.policy import PERMISSIONS, ROLES, SCOPE_PROJECT, SCOPE_SYSTEM, includes, permits

PROJECT = "0190b5a4-7c1e-7000-8000-000000000001"
REGION = "0190b5a4-7c1e-7000-8000-0000000000aa"


def all_methods() -> list[MethodDescriptor]:
    modules = [m.name for m in pkgutil.walk_packages(mulligan.api.__path__, "mulligan.api.") if m.name.endswith("_pb2")]
    services = [s for name in modules for s in importlib.import_module(name).DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def authz(method: MethodDescriptor) -> options_pb2.Authz:
    option: options_pb2.Authz = method.GetOptions().Extensions[options_pb2.authz]  # type: ignore[index]
    return option


def test_every_method_says_who_may_call_it() -> None:
    methods = all_methods()
    assert len(methods) > 60
    for method in methods:
        option = authz(method)
        needs_permission = option.scope in (SCOPE_PROJECT, SCOPE_SYSTEM)
        assert option.scope != options_pb2.SCOPE_UNSPECIFIED, method.full_name
        assert bool(option.permission) == needs_permission, method.full_name


def test_table_and_methods_name_the_same_permissions() -> None:
    asked = {authz(method).permission for method in all_methods()} - {""}
    assert asked - PERMISSIONS == set(), "permissions that no role has"
    assert PERMISSIONS - asked - policy.ASKED_IN_CODE == set(), "permissions that no method asks for"


def test_admin_may_do_everything() -> None:
    assert ROLES["admin"] == PERMISSIONS


def test_operator_runs_everything_but_identity() -> None:
    missing = PERMISSIONS - ROLES["operator"]
    assert all(name.startswith("iam.") for name in missing)
    assert all(name.split(".")[2] in ("get", "list") for name in ROLES["operator"] if name.startswith("iam."))


def test_reader_changes_nothing() -> None:
    assert {name.split(".")[2] for name in ROLES["reader"]} <= {"get", "list", "resolve", "explain"}


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
@pytest.mark.parametrize("role", sorted(ROLES))
def test_project_grants_never_reach_the_system(role: str, permission: str) -> None:
    grants = [Grant(role, False, "")]
    assert not permits(grants, permission, SCOPE_SYSTEM, PROJECT).allowed
    assert permits(grants, permission, SCOPE_PROJECT, PROJECT).allowed == (permission in ROLES[role])
    assert not permits(grants, permission, SCOPE_PROJECT, "").allowed


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
@pytest.mark.parametrize("role", sorted(ROLES))
def test_system_grants_count_everywhere(role: str, permission: str) -> None:
    grants = [Grant(role, True, "")]
    for scope in (SCOPE_PROJECT, SCOPE_SYSTEM):
        decision = permits(grants, permission, scope, "")
        assert decision.allowed == (permission in ROLES[role])
        assert decision.system == decision.allowed


def test_unknown_roles_and_no_grants_allow_nothing() -> None:
    assert not permits([], "resource.claim.get", SCOPE_PROJECT, PROJECT).allowed
    assert not permits([Grant("root", True, "")], "resource.claim.get", SCOPE_PROJECT, PROJECT).allowed


def test_bound_grant_counts_only_where_it_covers() -> None:
    grants = [Grant("operator", True, REGION)]
    inside = permits(grants, "resource.provider.create", SCOPE_SYSTEM, "", lambda region: region == REGION)
    assert inside.allowed
    assert not permits(grants, "resource.provider.create", SCOPE_SYSTEM, "", lambda _: False).allowed
    assert permits(grants, "resource.provider.list", SCOPE_PROJECT, "").regions == (REGION,)


def test_bound_admin_cannot_step_out_of_its_region() -> None:
    grants = [Grant("admin", True, REGION)]
    for permission in ("iam.assignment.create", "iam.account.create", "iam.key.rotate", "resource.service.configure"):
        assert not permits(grants, permission, SCOPE_SYSTEM, "").allowed


@pytest.mark.parametrize("permission", ["resource.quota.set", "resource.quota.delete"])
def test_quotas_of_a_whole_shard_are_not_for_who_is_bound_to_a_region_of_it(permission: str) -> None:
    for covers in (None, lambda _: True):
        assert not permits([Grant("operator", True, REGION)], permission, SCOPE_SYSTEM, "", covers).allowed
    assert permits([Grant("operator", True, "")], permission, SCOPE_SYSTEM, "").allowed


def test_reach_of_a_project_grant_never_mixes_with_rights_of_a_bound_system_grant() -> None:
    grants = [Grant("member", False, ""), Grant("operator", True, REGION)]
    decision = permits(grants, "resource.claim.list", SCOPE_PROJECT, PROJECT)
    assert decision == policy.Decision(allowed=True, system=False, regions=())
    covered = permits(grants[1:], "resource.claim.list", SCOPE_PROJECT, PROJECT)
    assert covered == policy.Decision(allowed=True, system=True, regions=(REGION,))


def test_includes_is_about_permissions() -> None:
    assert includes("admin", "reader")
    assert includes("member", "member")
    assert not includes("member", "operator")
    assert not includes("operator", "member")
    assert not includes("admin", "root")
