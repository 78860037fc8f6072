"""Projects, assignments, names, pages, and requests that are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.clock import SECOND
from mulligan.iam.outcomes import KEEP_US
from mulligan.iam.policy import ROLES
from mulligan.iam.projects import MAX_ROLES
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.iam_bench import PASSWORD, Bench, alive, opened, refused, region, unique


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, state_dir: Path) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, state_dir, unique("admin")) as made:
        yield made


async def test_lists_page_by_page(bench: Bench) -> None:
    admin = await bench.admin()
    made = sorted([await bench.project(admin) for _ in range(5)])
    seen, token = [], ""
    while True:
        page = await bench.call("ListProjects", pb.ListProjectsRequest(page_size=2, page_token=token), admin)
        assert len(page.projects) <= 2
        seen += [project.id for project in page.projects]
        token = page.next_page_token
        if not token:
            break
    assert seen == made
    bad = pb.ListProjectsRequest(page_token="rubbish")
    assert await refused(bench.call("ListProjects", bad, admin)) == "INVALID_PAGE_TOKEN"


async def test_repeated_requests_get_the_first_outcome(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    maker = (await bench.login(await bench.user(admin, ("member", project)))).access_token
    user = pb.CreateUserRequest(request_id=new_id(), name=unique("user"), password=PASSWORD)
    robot = pb.CreateApplicationCredentialRequest(request_id=new_id(), name=unique("robot"), roles=["reader"])
    place = pb.CreateProjectRequest(request_id=new_id(), name=unique("project"))
    attempts: list[tuple[str, Any, str]] = [
        ("CreateUser", user, admin),
        ("CreateApplicationCredential", robot, maker),
        ("CreateProject", place, admin),
    ]
    for method, request, token in attempts:
        first, *others = await asyncio.gather(*(bench.call(method, request, token) for _ in range(3)))
        assert others == [first, first]
        assert await bench.call(method, request, token) == first
        changed = type(request)()
        changed.CopyFrom(request)
        changed.name += "!"
        assert await refused(bench.call(method, changed, token)) == "REQUEST_ID_REUSED"
        renewed = type(request)()
        renewed.CopyFrom(request)
        renewed.request_id = new_id()
        assert await refused(bench.call(method, renewed, token)) == "NAME_TAKEN"
    secret = (await bench.call("CreateApplicationCredential", robot, maker)).secret
    await bench.login(robot.name, secret)


async def test_what_is_repeated_after_its_outcome_was_forgotten_is_there_already(bench: Bench) -> None:
    admin = await bench.admin()
    project, user = await bench.project(admin), await bench.user(admin)
    requests: list[tuple[str, Message]] = [
        ("CreateUser", pb.CreateUserRequest(name=unique("user"), password=PASSWORD)),
        ("CreateProject", pb.CreateProjectRequest(name=unique("project"))),
        ("CreateAssignment", pb.CreateAssignmentRequest(account=user, role="member", project=project)),
    ]
    for method, request in requests:
        await bench.call(method, request, admin)
    bench.clock.ahead_us = KEEP_US + SECOND
    await bench.service.maintain_once()
    admin = await bench.admin()
    reasons = [await refused(bench.call(method, request, admin)) for method, request in requests]
    assert reasons == ["ALREADY_EXISTS"] * 3


async def test_the_same_request_id_of_another_account_is_another_request(bench: Bench) -> None:
    one = await bench.admin()
    two = (await bench.login(await bench.user(one, ("admin", "")))).access_token
    request_id = new_id()
    made = [
        await bench.call("CreateProject", pb.CreateProjectRequest(request_id=request_id, name=unique("p")), token)
        for token in (one, two)
    ]
    assert made[0].project.id != made[1].project.id


async def test_names(bench: Bench) -> None:
    admin = await bench.admin()
    for name in ("", " x", "x ", "a\nb", "x" * 256, "\u202e"):
        assert await refused(bench.call("CreateProject", pb.CreateProjectRequest(name=name), admin)) == "INVALID_FIELD"
    for name in ("x" * 243 + new_id()[-12:], unique("Zürich / 東京 #1")):
        await bench.call("CreateProject", pb.CreateProjectRequest(name=name), admin)
    shared = unique("shared")
    await bench.call("CreateProject", pb.CreateProjectRequest(name=shared), admin)
    await bench.call("CreateUser", pb.CreateUserRequest(name=shared, password=PASSWORD), admin)
    for password in ("short", "x" * 1025):
        request = pb.CreateUserRequest(name=unique("user"), password=password)
        assert await refused(bench.call("CreateUser", request, admin)) == "INVALID_FIELD"


async def test_a_name_is_free_again_after_its_object(bench: Bench) -> None:
    admin = await bench.admin()
    name = unique("user")
    for _ in range(2):
        request = pb.CreateUserRequest(name=name, password=PASSWORD)
        user = (await bench.call("CreateUser", request, admin)).account.id
        await bench.assign(admin, user, "reader")
        token = (await bench.login(name)).access_token
        await bench.call("DeleteAccount", pb.DeleteAccountRequest(id=user), admin)
        assert await alive(bench, token) == "TOKEN_REVOKED"
        assert await refused(bench.login(name)) == "LOGIN_REFUSED"
        assert await refused(bench.call("GetAccount", pb.GetAccountRequest(id=user), admin)) == "NOT_FOUND"


async def test_a_project_in_use_stays(bench: Bench) -> None:
    admin = await bench.admin()
    name = unique("project")
    project = (await bench.call("CreateProject", pb.CreateProjectRequest(name=name), admin)).project.id
    user = await bench.user(admin, ("member", project), ("reader", ""))
    made = await bench.credential((await bench.login(user, project=project)).access_token, "member")
    delete = pb.DeleteProjectRequest(id=project)
    roles = await bench.call("ListAssignments", pb.ListAssignmentsRequest(project=project), admin)
    for assignment in roles.assignments:
        assert await refused(bench.call("DeleteProject", delete, admin)) == "IN_USE"
        delete.ClearField("request_id")
        await bench.call("DeleteAssignment", pb.DeleteAssignmentRequest(id=assignment.id), admin)
    assert await refused(bench.call("DeleteProject", delete, admin)) == "IN_USE"
    await bench.call("DeleteAccount", pb.DeleteAccountRequest(id=made.account.id), admin)
    acting = (await bench.login(user, project=project)).access_token
    delete.ClearField("request_id")
    await bench.call("DeleteProject", delete, admin)
    assert await alive(bench, acting) == "TOKEN_REVOKED"
    assert await refused(bench.login(user, project=project)) == "LOGIN_REFUSED"
    await bench.call("CreateProject", pb.CreateProjectRequest(name=name), admin)


async def test_assignments(bench: Bench) -> None:
    admin = await bench.admin()
    project, place = await bench.project(admin), await region(bench.etcd)
    user = await bench.user(admin)
    for role in ("member", "reader"):
        await bench.assign(admin, user, role, project, place)
    assert await refused(bench.assign(admin, user, "member", project, place)) == "ALREADY_EXISTS"
    await bench.assign(admin, user, "member", project)
    for fields in ({"account": new_id()}, {"project": new_id()}, {"region": new_id()}):
        wanted = {"account": user, "role": "admin", "project": project, "region": place, **fields}
        assert await refused(bench.assign(admin, **wanted)) == "NOT_FOUND", fields
    assert await refused(bench.assign(admin, user, "root")) == "INVALID_FIELD"
    listed = await bench.call("ListAssignments", pb.ListAssignmentsRequest(account=user), admin)
    assert len(listed.assignments) == 3
    delete = pb.DeleteAssignmentRequest(id=new_id())
    assert await refused(bench.call("DeleteAssignment", delete, admin)) == "NOT_FOUND"
    roles = (await bench.call("ListRoles", pb.ListRolesRequest(), admin)).roles
    assert {role.name: frozenset(role.permissions) for role in roles} == ROLES


async def test_the_largest_token_fits_into_headers(bench: Bench) -> None:
    admin = await bench.admin()
    project, user = await bench.project(admin), await bench.user(admin)
    for where in ("", project):
        for _ in range(MAX_ROLES):
            await bench.assign(admin, user, "operator", where, await region(bench.etcd))
        assert await refused(bench.assign(admin, user, "operator", where)) == "QUOTA_EXCEEDED"
    assert len((await bench.login(user, project=project)).access_token) < 7_500


async def test_no_token_of_a_credential_is_larger(bench: Bench) -> None:
    admin = await bench.admin()
    project, user = await bench.project(admin), await bench.user(admin)
    for where in ("", project):
        for _ in range(MAX_ROLES):
            await bench.assign(admin, user, "admin", where, await region(bench.etcd))
    token = (await bench.login(user, project=project)).access_token
    robot = await bench.credential(token, "admin", "operator", "member", "reader")
    held = await bench.login(robot.account.id, robot.secret)
    assert len(held.access_token) < 7_500
    assert {grant.role for grant in bench.caller(held.access_token).grants} == {"admin"}
    assert await refused(bench.credential(token, "operator", "member")) == "QUOTA_EXCEEDED"
    place = bench.caller(token).grants[0].region
    await bench.credential(token, "operator", "member", region=place)


async def test_an_admin_of_a_region_cannot_make_itself_admin_of_all(bench: Bench) -> None:
    admin = await bench.admin()
    place = await region(bench.etcd)
    user = await bench.user(admin)
    await bench.assign(admin, user, "admin", "", place)
    token = (await bench.login(user)).access_token
    assert await refused(bench.assign(token, user, "admin")) == "PERMISSION_DENIED"
    assert await refused(bench.user(token)) == "PERMISSION_DENIED"
    password = pb.SetPasswordRequest(account=(await bench.login(bench.admin_name)).account, new_password="x" * 12)
    assert await refused(bench.call("SetPassword", password, token)) == "NOT_FOUND"
    maker = (await bench.login(await bench.user(admin, ("member", await bench.project(admin))))).access_token
    foreign = pb.DeleteAccountRequest(id=(await bench.credential(maker, "member")).account.id)
    assert await refused(bench.call("DeleteAccount", foreign, token)) == "PERMISSION_DENIED"
