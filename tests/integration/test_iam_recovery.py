"""What the IAM service makes good after it died half-way, or etcd was away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.embedded.etcd import EmbeddedEtcd
from mulligan.api.iam.v1 import request_response_pb2 as pb
from mulligan.iam import store
from mulligan.iam.keys import ACTIVATION_US
from mulligan.iam.login import end_account
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.iam_bench import NOTHING, PASSWORD, Bench, alive, another, opened, refused, unique
from tests.stores import running
from tests.waiting import eventually


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, state_dir: Path) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, state_dir, unique("admin")) as made:
        yield made


async def test_what_etcd_did_not_hear_of_is_carried_out_once_it_is_back(
    fresh_addresses: Addresses, state_dir: Path
) -> None:
    """etcd is killed, a user is disabled meanwhile, the same request is sent again afterwards."""
    async with running(EmbeddedEtcd, state_dir / "own") as server:
        own = replace(fresh_addresses, etcd=(server.server.address,), tls_dir=state_dir / "own" / "tls")
        client = await etcd_store.connect(own)
        async with opened(own, client, state_dir / "service", unique("admin")) as bench:
            admin = await bench.admin()
            user = await bench.user(admin, ("reader", ""))
            token = (await bench.login(user)).access_token
            disable = pb.SetAccountEnabledRequest(request_id=new_id(), id=user, enabled=False)
            await server.kill()
            assert await refused(bench.call("SetAccountEnabled", disable, admin)) == "STORE_UNAVAILABLE"
            await server.start()
            assert not (await bench.call("SetAccountEnabled", disable, admin)).account.enabled
            await eventually(lambda: f"account/{user}" in bench.revocations.items)
            assert await alive(bench, token) == "TOKEN_REVOKED"
        await client.close()


async def test_no_key_signs_that_gateways_could_not_hear_of(fresh_addresses: Addresses, state_dir: Path) -> None:
    async with running(EmbeddedEtcd, state_dir / "own") as server:
        own = replace(fresh_addresses, etcd=(server.server.address,), tls_dir=state_dir / "own" / "tls")
        client = await etcd_store.connect(own)
        async with opened(own, client, state_dir / "service", unique("admin")) as bench:
            admin, rotate = await bench.admin(), pb.RotateKeysRequest(request_id=new_id())
            signing_keys, database = bench.service.parts.keys, bench.service.parts.database
            await server.kill()
            assert await refused(bench.call("RotateKeys", rotate, admin)) == "STORE_UNAVAILABLE"
            bench.clock.ahead_us = 2 * ACTIVATION_US
            async with database.read() as connection:
                assert (await signing_keys.signing(connection))[0] in bench.keys.items
            await server.start()
            rotated = (await bench.call("RotateKeys", rotate, admin)).key_id
            await eventually(lambda: rotated in bench.keys.items)
        await client.close()


async def test_what_was_cut_off_before_etcd_is_carried_out_by_the_next_owner(bench: Bench) -> None:
    """The process dies between the commit in Postgres and the revocation in etcd."""
    admin, parts = await bench.admin(), bench.service.parts
    user = await bench.user(admin, ("reader", ""))
    token = (await bench.login(user)).access_token
    async with parts.database.write() as connection:
        await store.lock_account(connection, user)
        await end_account(parts, connection, user)
        await parts.outbox.forget_names(connection, [user])
    assert await alive(bench, token) == NOTHING
    async with another(bench.addresses, bench.etcd, bench.admin_name) as successor:
        assert await alive(successor, token) == "TOKEN_REVOKED"
        assert await successor.service.parts.names.lookup([user]) == {}


async def test_a_name_that_was_cut_off_is_confirmed_by_the_next_owner(bench: Bench) -> None:
    """The process dies between the commit in Postgres and the confirmation of the name."""
    parts, name, identifier = bench.service.parts, unique("project"), new_id()

    async def cut_off() -> None:
        async with parts.names.registering("project", "", name, identifier, project=identifier):
            async with parts.database.write() as connection:
                await store.insert_project(connection, identifier, 1)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cut_off()
    assert await parts.names.resolve("project", "", name) is None
    async with another(bench.addresses, bench.etcd, bench.admin_name) as successor:
        assert await successor.service.parts.names.resolve("project", "", name) == identifier


async def test_revocations_come_back_after_etcd_lost_them(bench: Bench) -> None:
    admin = await bench.admin()
    user = await bench.user(admin, ("reader", ""))
    token = (await bench.login(user)).access_token
    await bench.call("Revoke", pb.RevokeRequest(account=user), admin)
    key = keys.iam_revoked("account", user)
    before = json.loads((await bench.etcd.kv.get(key)).kvs[0].value)
    await bench.etcd.kv.delete(key)
    assert await alive(bench, token) == NOTHING
    async with another(bench.addresses, bench.etcd, bench.admin_name) as successor:
        assert await alive(successor, token) == "TOKEN_REVOKED"
    assert json.loads((await bench.etcd.kv.get(key)).kvs[0].value) == before


async def test_a_name_is_held_while_nobody_knows_whether_its_account_was_stored(bench: Bench) -> None:
    """The connection to Postgres is lost at the commit."""
    admin = await bench.admin()
    async with bench.service.parts.database.write() as connection:
        await connection.exec_driver_sql(_CUT)
        await connection.exec_driver_sql(_CUT_AT_COMMIT)
    name = unique("user")
    reasons = [
        await refused(bench.call("CreateUser", pb.CreateUserRequest(name=name, password=PASSWORD), admin))
        for _ in range(2)
    ]
    assert reasons == ["STORE_UNAVAILABLE", "NAME_TAKEN"]
    async with another(bench.addresses, bench.etcd, bench.admin_name) as successor:
        async with successor.service.parts.database.write() as connection:
            await connection.exec_driver_sql("DROP TRIGGER cut ON iam.accounts")
        again = pb.CreateUserRequest(name=name, password=PASSWORD)
        assert (await successor.call("CreateUser", again, await successor.admin())).account.id


_CUT = """CREATE FUNCTION iam.cut() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"""
_CUT_AT_COMMIT = """CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON iam.accounts
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION iam.cut()"""
