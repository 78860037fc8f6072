"""Logging in, refreshing, revoking, keys: on real stores, as a gateway sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.clock import SECOND
from mulligan.errors import MulliganError
from mulligan.iam import tokens as access_tokens
from mulligan.iam.first_admin import create_first_admin
from mulligan.iam.service import POOL_SIZE
from mulligan.iam.sessions import RefreshToken
from mulligan.iam.tables import metadata
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.iam_bench import NOTHING, PASSWORD, Bench, another, opened, prepared, refused, unique
from tests.waiting import eventually


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, state_dir: Path) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, state_dir, unique("admin")) as made:
        yield made


def refresh(token: str) -> pb.RefreshRequest:
    return pb.RefreshRequest(refresh_token=token)


async def test_first_admin_logs_in_by_name_and_by_id(bench: Bench) -> None:
    by_name = await bench.login(bench.admin_name)
    caller = bench.caller(by_name.access_token)
    assert [(grant.role, grant.system, grant.region) for grant in caller.grants] == [("admin", True, "")]
    assert by_name.project == ""
    by_id = await bench.login(by_name.account)
    assert by_id.account == by_name.account
    who = await bench.call("WhoAmI", pb.WhoAmIRequest(), by_id.access_token)
    assert (who.account, who.project, who.expire_time) == (by_id.account, "", by_id.access_expire_time)


async def test_a_former_owner_is_fenced_and_the_admin_is_made_once(bench: Bench) -> None:
    async with another(bench.addresses, bench.etcd, bench.admin_name) as second:
        accounts = await second.call("ListAccounts", pb.ListAccountsRequest(), await second.admin())
        assert len(accounts.accounts) == 1
        assert await refused(bench.admin()) == "FENCED"


async def test_the_first_admin_is_made_once_by_many_at_once(
    fresh_addresses: Addresses, etcd: EtcdClient, state_dir: Path
) -> None:
    own, file = await prepared(fresh_addresses, state_dir, unique("admin"))
    empty = replace(own, state_dir=state_dir / "elsewhere")
    async with another(empty, etcd, "") as bench:
        made = await asyncio.gather(*(create_first_admin(bench.service.parts, file) for _ in range(4)))
        assert sorted(made) == [False, False, False, True]


async def test_what_is_refused_never_says_why(bench: Bench) -> None:
    admin = await bench.admin()
    project, foreign = await bench.project(admin), await bench.project(admin)
    user = await bench.user(admin, ("member", project))
    messages = set()
    attempts = [(user, "wrong password", ""), (new_id(), PASSWORD, ""), ("nobody", PASSWORD, ""), ("", "", "")]
    attempts += [(user, PASSWORD, foreign), (user, PASSWORD, new_id()), (user, "x" * 5000, project)]
    for account, secret, project_ in attempts:
        with pytest.raises(MulliganError) as caught:
            await bench.login(account, secret, project_)
        assert caught.value.reason == "LOGIN_REFUSED"
        messages.add(str(caught.value))
    assert len(messages) == 1


async def test_project_to_act_in(bench: Bench) -> None:
    admin = await bench.admin()
    one, two = await bench.project(admin), await bench.project(admin)
    user = await bench.user(admin)
    assert await refused(bench.login(user)) == "LOGIN_REFUSED"
    await bench.assign(admin, user, "member", one)
    assert (await bench.login(user)).project == one
    await bench.assign(admin, user, "reader", two)
    assert await refused(bench.login(user)) == "INVALID_FIELD"
    in_two = await bench.login(user, project=two)
    assert [grant.role for grant in bench.caller(in_two.access_token).grants] == ["reader"]
    await bench.assign(admin, user, "operator")
    assert (await bench.login(user)).project == ""
    roles = [
        (grant.role, grant.system) for grant in bench.caller((await bench.login(user, project=two)).access_token).grants
    ]
    assert roles == [("operator", True), ("reader", False)]


async def test_project_by_name(bench: Bench) -> None:
    admin, name = await bench.admin(), unique("project")
    project = (await bench.call("CreateProject", pb.CreateProjectRequest(name=name), admin)).project.id
    user = await bench.user(admin, ("member", project), ("member", await bench.project(admin)))
    assert (await bench.login(user, project=name)).project == project


async def test_refreshing_yields_new_tokens_until_the_session_ends(bench: Bench) -> None:
    first = await bench.login(bench.admin_name)
    second = (await bench.call("Refresh", refresh(first.refresh_token))).tokens
    assert second.refresh_token != first.refresh_token
    assert second.refresh_expire_time == first.refresh_expire_time
    assert bench.caller(second.access_token).session == bench.caller(first.access_token).session
    bench.clock.ahead_us = 13 * 3600 * SECOND
    assert await refused(bench.call("Refresh", refresh(second.refresh_token))) == "TOKEN_EXPIRED"


async def test_a_refresh_token_used_twice_kills_its_line(bench: Bench) -> None:
    first = await bench.login(bench.admin_name)
    other = await bench.login(bench.admin_name)
    second = (await bench.call("Refresh", refresh(first.refresh_token))).tokens
    assert await refused(bench.call("Refresh", refresh(first.refresh_token))) == "TOKEN_REVOKED"
    assert await refused(bench.call("Refresh", refresh(second.refresh_token))) == "TOKEN_REVOKED"
    await bench.settled()
    for token in (first.access_token, second.access_token):
        assert await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), token)) == "TOKEN_REVOKED"
    await bench.call("WhoAmI", pb.WhoAmIRequest(), other.access_token)


async def test_of_refreshes_at_the_same_time_one_works(bench: Bench) -> None:
    first = await bench.login(bench.admin_name)
    results = await asyncio.gather(*(refused(bench.call("Refresh", refresh(first.refresh_token))) for _ in range(4)))
    assert sorted(results) == ["TOKEN_REVOKED"] * 3 + ["nothing was refused"]


async def test_forged_refresh_tokens_end_nothing(bench: Bench) -> None:
    real = await bench.login(bench.admin_name)
    parsed = RefreshToken.parse(real.refresh_token)
    for turn in (0, 1, 2):
        forged = str(RefreshToken(parsed.session, turn, bytes(32)))
        assert await refused(bench.call("Refresh", refresh(forged))) == "TOKEN_FORGED"
    later = str(RefreshToken(parsed.session, 2, parsed.code))
    assert await refused(bench.call("Refresh", refresh(later))) == "TOKEN_FORGED"
    for text in ("", "mlr_", "mlr_é", real.access_token, real.refresh_token + "AAAA"):
        assert await refused(bench.call("Refresh", refresh(text))) == "TOKEN_MALFORMED"
    await bench.call("Refresh", refresh(real.refresh_token))


async def test_revoking_by_account_session_and_token(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    one, two, three = [await bench.login(user) for _ in range(3)]
    await bench.call("Revoke", pb.RevokeRequest(token=one.access_token), two.access_token)
    await bench.call("Revoke", pb.RevokeRequest(token=two.refresh_token), three.access_token)
    await bench.settled()
    for dead in (one, two):
        assert await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), dead.access_token)) == "TOKEN_REVOKED"
    assert await refused(bench.call("Refresh", refresh(two.refresh_token))) == "TOKEN_REVOKED"
    renewed = (await bench.call("Refresh", refresh(one.refresh_token))).tokens
    await bench.call("Revoke", pb.RevokeRequest(account=user), admin)
    await bench.settled()
    for dead in (renewed, three):
        assert await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), dead.access_token)) == "TOKEN_REVOKED"
        assert await refused(bench.call("Refresh", refresh(dead.refresh_token))) == "TOKEN_REVOKED"
    fresh = await bench.login(user)
    await bench.call("WhoAmI", pb.WhoAmIRequest(), fresh.access_token)


async def test_many_revocations_at_once_do_not_wait_for_each_other(bench: Bench) -> None:
    """As many as there are connections, each of which has to do with one."""
    user = await bench.user(await bench.admin(), ("reader", ""))
    doomed, last = [(await bench.login(user)).access_token for _ in range(2 * POOL_SIZE)], await bench.login(user)
    revocations = [bench.call("Revoke", pb.RevokeRequest(token=each), last.access_token) for each in doomed]
    assert set(await asyncio.gather(*(refused(each) for each in revocations))) == {NOTHING}


async def test_revocations_are_leased_for_a_tokens_life(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    await bench.call("Revoke", pb.RevokeRequest(account=user), admin)
    stored = (await bench.etcd.kv.get(keys.iam_revoked("account", user))).kvs[0]
    assert json.loads(stored.value)["before_us"] <= bench.clock()
    left = await bench.etcd.lease.time_to_live(stored.lease)
    assert access_tokens.ACCESS_LIFETIME_US // SECOND < left.TTL <= access_tokens.ACCESS_LIFETIME_US // SECOND + 60


async def test_revoking_what_is_not_ones_own(bench: Bench) -> None:
    admin = await bench.login(bench.admin_name)
    project = await bench.project(admin.access_token)
    user = await bench.user(admin.access_token, ("member", project))
    token = (await bench.login(user)).access_token
    for target, reason in [
        ({"account": admin.account}, "NOT_FOUND"),
        ({"account": new_id()}, "NOT_FOUND"),
        ({"project": project}, "PERMISSION_DENIED"),
        ({"project": new_id()}, "NOT_FOUND"),
        ({"token": admin.access_token}, "INVALID_FIELD"),
        ({"token": admin.refresh_token}, "INVALID_FIELD"),
        ({"token": "rubbish"}, "INVALID_FIELD"),
        ({"account": "rubbish"}, "INVALID_UUID"),
        ({}, "INVALID_FIELD"),
    ]:
        assert await refused(bench.call("Revoke", pb.RevokeRequest(**target), token)) == reason, target
    await bench.call("Revoke", pb.RevokeRequest(project=project), admin.access_token)
    await bench.settled()
    assert await refused(bench.call("WhoAmI", pb.WhoAmIRequest(), token)) == "TOKEN_REVOKED"


async def test_rotation_keeps_older_tokens_valid(bench: Bench) -> None:
    before = await bench.admin()
    request = pb.RotateKeysRequest(request_id=new_id())
    rotated = (await bench.call("RotateKeys", request, before)).key_id
    assert (await bench.call("RotateKeys", request, before)).key_id == rotated
    await eventually(lambda: rotated in bench.keys.items)
    after = await bench.admin()
    assert jwt.get_unverified_header(after)["kid"] == rotated
    assert jwt.get_unverified_header(before)["kid"] != rotated
    await bench.service.maintain_once()
    for token in (before, after):
        await bench.call("WhoAmI", pb.WhoAmIRequest(), token)
    jwks = json.loads((await bench.call("GetJwks", pb.GetJwksRequest())).jwks_json)
    assert {key["kid"] for key in jwks["keys"]} >= {rotated, jwt.get_unverified_header(before)["kid"]}


async def test_a_new_key_signs_only_once_gateways_know_it(bench: Bench) -> None:
    signing_keys, database = bench.service.parts.keys, bench.service.parts.database
    async with database.write() as connection:
        before = (await signing_keys.signing(connection))[0]
        added, active_us = await signing_keys.add(connection)
        assert active_us > bench.clock()
        assert (await signing_keys.signing(connection))[0] == before
        bench.clock.ahead_us = SECOND
        assert (await signing_keys.signing(connection))[0] == added


async def test_replaced_keys_go_when_their_tokens_are_gone(bench: Bench) -> None:
    admin = await bench.admin()
    old = jwt.get_unverified_header(admin)["kid"]
    await bench.call("RotateKeys", pb.RotateKeysRequest(), admin)
    await bench.service.maintain_once()
    assert old in bench.keys.items
    bench.clock.ahead_us = 12 * 60 * SECOND
    await bench.service.maintain_once()
    await eventually(lambda: old not in bench.keys.items)
    bench.clock.ahead_us = 40 * 86_400 * SECOND
    await bench.service.maintain_once()
    jwks = json.loads((await bench.call("GetJwks", pb.GetJwksRequest())).jwks_json)
    assert len(jwks["keys"]) == 2, "a key that is too old gets a successor by itself"


async def test_private_keys_and_secrets_are_not_in_the_database_in_clear(bench: Bench) -> None:
    admin = await bench.admin()
    project = await bench.project(admin)
    token = (await bench.login(await bench.user(admin, ("member", project)))).access_token
    secret = (await bench.credential(token, "member")).secret
    private = (await _signing_key(bench)).private_bytes_raw()
    found = await _whole_schema(bench)
    for clear in (PASSWORD, secret, PASSWORD.encode().hex(), secret.encode().hex(), private.hex()):
        assert clear not in found
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in found


async def _signing_key(bench: Bench) -> Ed25519PrivateKey:
    async with bench.service.parts.database.read() as connection:
        return (await bench.service.parts.keys.signing(connection))[1]


async def _whole_schema(bench: Bench) -> str:
    rows = []
    async with bench.service.parts.database.read() as connection:
        for table in metadata.tables.values():
            for row in await connection.execute(select(table)):
                rows += [value.hex() if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(rows)


async def test_failures_delay_the_next_login_and_are_forgotten(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    bench.clock.stop()
    for who in (user, "somebody who is not there"):
        reasons = [await refused(bench.login(who, "wrong password")) for _ in range(6)]
        assert reasons == ["LOGIN_REFUSED"] * 5 + ["TOO_MANY_REQUESTS"], who
    with pytest.raises(MulliganError) as caught:
        await bench.login(user)
    assert caught.value.retry_after_s == 1
    bench.clock.ahead_us = 2 * SECOND
    await bench.login(user)
    assert await refused(bench.login(user, "wrong password")) == "LOGIN_REFUSED"
    await bench.login(user)


async def test_accounts_that_are_not_there_are_counted_as_those_that_are(bench: Bench) -> None:
    """However they are spelt, and by whoever owns the service next: else the delays tell who is there."""
    bench.clock.stop()
    bench.clock.ahead_us = 60 * SECOND
    there, absent = unique("Jane Doe"), unique("Jane Doe")
    await bench.call("CreateUser", pb.CreateUserRequest(name=there, password=PASSWORD), await bench.admin())
    for name in (there, absent):
        spellings = [name, name.lower().replace(" ", "-"), name.upper(), name, name.replace(" ", "_"), name]
        reasons = [await refused(bench.login(each, "wrong password")) for each in spellings]
        assert reasons == ["LOGIN_REFUSED"] * 5 + ["TOO_MANY_REQUESTS"], name
    async with another(bench.addresses, bench.etcd, bench.admin_name) as successor:
        for name in (there, absent):
            assert await refused(successor.login(name, "wrong password")) == "TOO_MANY_REQUESTS", name


async def test_names_without_a_latin_letter_are_counted_apart(bench: Bench) -> None:
    bench.clock.stop()
    for name in ("山田太郎", "鈴木花子"):
        reasons = [await refused(bench.login(name, "wrong password")) for _ in range(6)]
        assert reasons == ["LOGIN_REFUSED"] * 5 + ["TOO_MANY_REQUESTS"], name


async def test_guesses_side_by_side_count_one_after_another(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    bench.clock.stop()
    guesses = [bench.login(user, "wrong password") for _ in range(12)]
    reasons = await asyncio.gather(*(refused(each) for each in guesses))
    assert reasons.count("LOGIN_REFUSED") == 5
    assert reasons.count("TOO_MANY_REQUESTS") == 7


async def test_requests_given_up_half_way_leave_the_service_well(bench: Bench) -> None:
    tokens = await bench.login(bench.admin_name)
    for delay_ms in range(0, 40, 2):
        attempts = [
            asyncio.ensure_future(bench.project(tokens.access_token)),
            asyncio.ensure_future(bench.call("ListAccounts", pb.ListAccountsRequest(), tokens.access_token)),
        ]
        await asyncio.wait(attempts, timeout=delay_ms / 1000)
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
    listings = [bench.call("ListProjects", pb.ListProjectsRequest(), tokens.access_token) for _ in range(16)]
    counts = {len(listing.projects) for listing in await asyncio.gather(*listings)}
    assert len(counts) == 1
    await bench.project(tokens.access_token)


async def test_configure_tells_and_changes(bench: Bench) -> None:
    admin = await bench.admin()
    told = (await bench.call("IamConfigure", pb.IamConfigureRequest(), admin)).settings
    change = pb.IamConfigureRequest(validate_only=True)
    change.settings.max_in_flight = told.max_in_flight + 1
    change.update_mask.paths.append("max_in_flight")
    assert (await bench.call("IamConfigure", change, admin)).settings.max_in_flight == told.max_in_flight + 1
    assert (await bench.call("IamConfigure", pb.IamConfigureRequest(), admin)).settings == told
