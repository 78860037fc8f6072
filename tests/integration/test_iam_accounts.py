"""Accounts and application credentials: what they allow, to whom they show, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.caller import Grant
from mulligan.clock import SECOND, to_timestamp
from mulligan.iam.policy import ROLES
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.iam_bench import NOTHING, PASSWORD, Bench, alive, opened, refused, region, unique


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, state_dir: Path) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, state_dir, unique("admin")) as made:
        yield made


async def test_a_credential_has_what_it_was_given_and_no_more(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    user = await bench.user(admin, ("member", project))
    maker = (await bench.login(user)).access_token
    made = await bench.credential(maker, "reader", "reader")
    assert (made.account.project, made.account.owner) == (project, user)
    robot = await bench.login(made.account.id, made.secret)
    assert robot.project == project
    assert bench.caller(robot.access_token).grants == (Grant("reader", False, ""),)
    for elsewhere in (await bench.project(admin), new_id()):
        assert await refused(bench.login(made.account.id, made.secret, elsewhere)) == "LOGIN_REFUSED"
    assert await refused(bench.login(made.account.id, PASSWORD)) == "LOGIN_REFUSED"
    for role in ("admin", "operator"):
        assert await refused(bench.credential(maker, role)) == "PERMISSION_DENIED"
    assert await refused(bench.credential(maker, "root")) == "INVALID_FIELD"
    assert await refused(bench.credential(maker)) == "INVALID_FIELD"


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_no_way_from_a_credential_to_more_rights(bench: Bench, role: str) -> None:
    """Every call that hands out rights, tried with a credential that has all that its maker could give it."""
    admin = await bench.admin()
    project, other = await bench.project(admin), await bench.project(admin)
    user = await bench.user(admin, ("admin", ""), (role, other))
    maker = (await bench.login(user, project=project)).access_token
    made = await bench.credential(maker, role)
    robot = await bench.login(made.account.id, made.secret)
    held = bench.caller(robot.access_token).grants
    assert held == (Grant(role, False, ""),)
    token = robot.access_token
    refusals = {
        "maker": bench.credential(token, "reader"),
        "assignment": bench.assign(token, made.account.id, "admin"),
        "user": bench.user(token),
        "project": bench.project(token),
        "own secret": bench.call("SetPassword", pb.SetPasswordRequest(new_password="x" * 12), token),
        "maker's": bench.call("SetPassword", pb.SetPasswordRequest(account=user, new_password="x" * 12), token),
        "keys": bench.call("RotateKeys", pb.RotateKeysRequest(), token),
        "enable": bench.call("SetAccountEnabled", pb.SetAccountEnabledRequest(id=user), token),
        "other project": bench.login(made.account.id, made.secret, other),
    }
    for what, attempt in refusals.items():
        reason = await refused(attempt)
        assert reason in ("PERMISSION_DENIED", "NOT_FOUND", "WRONG_STATE", "LOGIN_REFUSED"), (what, reason)
    assert await refused(bench.assign(admin, made.account.id, "admin")) == "WRONG_STATE"
    refreshed = (await bench.call("Refresh", pb.RefreshRequest(refresh_token=robot.refresh_token))).tokens
    assert bench.caller(refreshed.access_token).grants == held
    assert refreshed.project == project


async def test_a_credential_shrinks_with_its_maker(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    user = await bench.user(admin, ("member", project))
    as_admin = await bench.assign(admin, user, "admin", project)
    maker = (await bench.login(user)).access_token
    made = await bench.credential(maker, "admin", "member")
    robot = await bench.login(made.account.id, made.secret)
    await bench.call("DeleteAssignment", pb.DeleteAssignmentRequest(id=as_admin), admin)
    for token in (maker, robot.access_token):
        assert await alive(bench, token) == "TOKEN_REVOKED"
    refreshed = (await bench.call("Refresh", pb.RefreshRequest(refresh_token=robot.refresh_token))).tokens
    assert bench.caller(refreshed.access_token).grants == (Grant("member", False, ""),)
    await bench.call("SetAccountEnabled", pb.SetAccountEnabledRequest(id=user, enabled=False), admin)
    assert await alive(bench, refreshed.access_token) == "TOKEN_REVOKED"
    assert await refused(bench.login(made.account.id, made.secret)) == "LOGIN_REFUSED"
    await bench.call("SetAccountEnabled", pb.SetAccountEnabledRequest(id=user, enabled=True), admin)
    await bench.login(made.account.id, made.secret)


async def test_a_credential_stays_within_the_regions_of_its_maker(bench: Bench) -> None:
    admin = await bench.admin()
    top, hidden = await region(bench.etcd), await region(bench.etcd, visibility="internal")
    inner, beside = await region(bench.etcd, top), await region(bench.etcd)
    project = await bench.project(admin)
    user = await bench.user(admin)
    bound = await bench.assign(admin, user, "member", project, top)
    maker = (await bench.login(user)).access_token
    as_bound = await bench.credential(maker, "reader")
    within = await bench.credential(maker, "reader", region=inner)
    assert await refused(bench.credential(maker, "reader", region=beside)) == "PERMISSION_DENIED"
    assert await refused(bench.credential(maker, "reader", region=new_id())) == "NOT_FOUND"
    assert await refused(bench.credential(maker, "reader", region=hidden)) == "NOT_FOUND"
    for made, where in ((as_bound, top), (within, inner)):
        token = (await bench.login(made.account.id, made.secret)).access_token
        assert bench.caller(token).grants == (Grant("reader", False, where),)
    await bench.assign(admin, user, "member", project, inner)
    await bench.call("DeleteAssignment", pb.DeleteAssignmentRequest(id=bound), admin)
    token = (await bench.login(as_bound.account.id, as_bound.secret)).access_token
    assert bench.caller(token).grants == (Grant("reader", False, inner),)


async def test_who_is_bound_to_a_region_deletes_its_own_credentials_only(bench: Bench) -> None:
    admin = await bench.admin()
    project, place = await bench.project(admin), await region(bench.etcd)
    bound = await bench.user(admin)
    await bench.assign(admin, bound, "member", project, place)
    free = await bench.user(admin, ("member", project))
    tokens = {each: (await bench.login(each)).access_token for each in (bound, free)}

    async def made_by(owner: str) -> str:
        return str((await bench.credential(tokens[owner], "member")).account.id)

    def delete(credential: str, caller: str) -> Coroutine[Any, Any, Any]:
        return bench.call("DeleteAccount", pb.DeleteAccountRequest(id=credential), tokens[caller])

    assert await refused(delete(await made_by(free), bound)) == "PERMISSION_DENIED"
    await delete(await made_by(bound), bound)
    await delete(await made_by(bound), free)


async def test_a_credential_ends_when_it_expires(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    maker = (await bench.login(await bench.user(admin, ("member", project)))).access_token
    past, soon = to_timestamp(bench.clock() - SECOND), to_timestamp(bench.clock() + 300 * SECOND)
    assert await refused(bench.credential(maker, "member", expire_time=past)) == "INVALID_FIELD"
    made = await bench.credential(maker, "member", expire_time=soon)
    robot = await bench.login(made.account.id, made.secret)
    assert robot.access_expire_time.seconds <= soon.seconds
    assert robot.refresh_expire_time == soon == made.account.expire_time
    bench.clock.ahead_us = 301 * SECOND
    assert await refused(bench.login(made.account.id, made.secret)) == "LOGIN_REFUSED"
    assert await refused(bench.call("Refresh", pb.RefreshRequest(refresh_token=robot.refresh_token))) == "TOKEN_EXPIRED"
    assert await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), robot.access_token)) == "TOKEN_EXPIRED"


async def test_the_disabled_are_shut_out_until_enabled(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    tokens = await bench.login(user)
    disable = pb.SetAccountEnabledRequest(id=user, enabled=False)
    assert not (await bench.call("SetAccountEnabled", disable, admin)).account.enabled
    assert await alive(bench, tokens.access_token) == "TOKEN_REVOKED"
    assert await refused(bench.login(user)) == "LOGIN_REFUSED"
    refresh = pb.RefreshRequest(refresh_token=tokens.refresh_token)
    assert await refused(bench.call("Refresh", refresh)) == "TOKEN_REVOKED"
    enabled = await bench.call("SetAccountEnabled", pb.SetAccountEnabledRequest(id=user, enabled=True), admin)
    assert enabled.account.enabled
    again = (await bench.login(user)).access_token
    assert await alive(bench, again) == NOTHING
    assert await alive(bench, tokens.access_token) == "TOKEN_REVOKED"


async def test_the_last_administrator_stays(bench: Bench) -> None:
    tokens = await bench.login(bench.admin_name)
    admin, account = tokens.access_token, tokens.account
    roles = await bench.call("ListAssignments", pb.ListAssignmentsRequest(account=account), admin)
    ending: dict[str, Message] = {
        "SetAccountEnabled": pb.SetAccountEnabledRequest(id=account, enabled=False),
        "DeleteAccount": pb.DeleteAccountRequest(id=account),
        "DeleteAssignment": pb.DeleteAssignmentRequest(id=roles.assignments[0].id),
    }
    for method, request in ending.items():
        assert await refused(bench.call(method, request, admin)) == "WRONG_STATE", method
    assert await alive(bench, admin) == NOTHING
    other = await bench.user(admin, ("admin", ""))
    successor = (await bench.login(other)).access_token
    both = [
        bench.call("DeleteAccount", pb.DeleteAccountRequest(id=account), successor),
        bench.call("DeleteAccount", pb.DeleteAccountRequest(id=other), admin),
    ]
    assert sorted(await asyncio.gather(*map(refused, both))) == ["WRONG_STATE", NOTHING]


async def test_a_new_password_kills_tokens(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    tokens = await bench.login(user)

    def change(**fields: str) -> Any:
        return bench.call("SetPassword", pb.SetPasswordRequest(**fields), tokens.access_token)

    assert await refused(change(new_password="another password")) == "LOGIN_REFUSED"
    assert await refused(change(old_password=PASSWORD, new_password="short")) == "INVALID_FIELD"
    for someone in (new_id(), (await bench.login(bench.admin_name)).account):
        assert (
            await refused(change(account=someone, old_password=PASSWORD, new_password="another password"))
            == "NOT_FOUND"
        )
    await change(old_password=PASSWORD, new_password="another password")
    assert await alive(bench, tokens.access_token) == "TOKEN_REVOKED"
    refresh = pb.RefreshRequest(refresh_token=tokens.refresh_token)
    assert await refused(bench.call("Refresh", refresh)) == "TOKEN_REVOKED"
    assert await refused(bench.login(user)) == "LOGIN_REFUSED"
    await bench.login(user, "another password")
    await bench.call("SetPassword", pb.SetPasswordRequest(account=user, new_password="a third password"), admin)
    await bench.login(user, "a third password")


async def test_old_passwords_are_guessed_no_faster_than_at_login(bench: Bench) -> None:
    """Side by side as well; the right one begins anew."""
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    bench.clock.stop()

    def change(token: str, old: str) -> Coroutine[Any, Any, Any]:
        return bench.call("SetPassword", pb.SetPasswordRequest(old_password=old, new_password=PASSWORD), token)

    token = (await bench.login(user)).access_token
    reasons = await asyncio.gather(*(refused(change(token, "wrong")) for _ in range(12)))
    assert sorted(reasons) == ["LOGIN_REFUSED"] * 5 + ["TOO_MANY_REQUESTS"] * 7
    bench.clock.ahead_us = 2 * SECOND
    await change(token, PASSWORD)
    logins = [await refused(bench.login(user, "wrong")) for _ in range(6)]
    assert logins == ["LOGIN_REFUSED"] * 5 + ["TOO_MANY_REQUESTS"]


async def test_tenants_see_nothing_of_each_other(bench: Bench) -> None:
    admin = await bench.admin()
    ours, theirs = await bench.project(admin), await bench.project(admin)
    us, them = await bench.user(admin, ("admin", ours)), await bench.user(admin, ("admin", theirs))
    our_token, their_token = (await bench.login(us)).access_token, (await bench.login(them)).access_token
    our_robot = (await bench.credential(our_token, "member")).account.id
    their_robot = (await bench.credential(their_token, "member")).account.id
    listed = await bench.call("ListAccounts", pb.ListAccountsRequest(), our_token)
    assert sorted(account.id for account in listed.accounts) == sorted([us, our_robot])
    projects = await bench.call("ListProjects", pb.ListProjectsRequest(), our_token)
    assert [project.id for project in projects.projects] == [ours]
    for foreign in (them, their_robot, new_id()):
        for request in (pb.GetAccountRequest(id=foreign), pb.DeleteAccountRequest(id=foreign)):
            method = request.DESCRIPTOR.name.removesuffix("Request")
            assert await refused(bench.call(method, request, our_token)) == "NOT_FOUND"
    assert await refused(bench.call("GetProject", pb.GetProjectRequest(id=theirs), our_token)) == "NOT_FOUND"
    assert (await bench.call("GetProject", pb.GetProjectRequest(id=ours), our_token)).project.id == ours
    assert (await bench.call("GetAccount", pb.GetAccountRequest(id=our_robot), our_token)).account.owner == us
    assert await refused(bench.call("DeleteAccount", pb.DeleteAccountRequest(id=us), our_token)) == "PERMISSION_DENIED"
    assert await refused(bench.call("ListAssignments", pb.ListAssignmentsRequest(), our_token)) == "PERMISSION_DENIED"
    await bench.call("DeleteAccount", pb.DeleteAccountRequest(id=our_robot), our_token)
    await bench.call("GetAccount", pb.GetAccountRequest(id=their_robot), admin)


async def test_an_operator_reads_identity_and_changes_none(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    token = (await bench.login(await bench.user(admin, ("operator", "")))).access_token
    assert project in [each.id for each in (await bench.call("ListProjects", pb.ListProjectsRequest(), token)).projects]
    assert len((await bench.call("ListAccounts", pb.ListAccountsRequest(), token)).accounts) == 2
    assert await refused(bench.project(token)) == "PERMISSION_DENIED"
    assert await refused(bench.user(token)) == "PERMISSION_DENIED"


async def test_deleting_a_user_deletes_its_credentials(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    user = await bench.user(admin, ("member", project))
    made = await bench.credential((await bench.login(user)).access_token, "member")
    robot = (await bench.login(made.account.id, made.secret)).access_token
    await bench.call("DeleteAccount", pb.DeleteAccountRequest(id=user), admin)
    assert await alive(bench, robot) == "TOKEN_REVOKED"
    assert await refused(bench.login(made.account.id, made.secret)) == "LOGIN_REFUSED"
    assert await bench.service.parts.names.lookup([user, made.account.id]) == {}
