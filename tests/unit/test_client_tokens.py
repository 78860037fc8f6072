"""Tokens: got once however many calls wait, renewed before they expire, and got anew when a gateway refuses them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.api.resource.v1.request_response_pb2 import GetVocabularyResponse
from mulligan.client import Client, Context, Credentials, InMemoryTransport, Timeouts
from mulligan.client._token_file import TokenFile
from mulligan.client._tokens import _lifetime
from mulligan.clock import SECOND, to_timestamp
from mulligan.errors import Unauthenticated, Unavailable
from tests.fake_system import EAST, FakeIam, FakeTime, Script
from tests.waiting import eventually

ADA = Credentials("ada", "secret")
CONTEXT = Context(("a",), account="ada")


def system(iam: FakeIam, resource: object | None = None) -> InMemoryTransport:
    transport = InMemoryTransport(require_login=True)
    transport.serve("a", iam=iam, resource=resource or Script(get_vocabulary=[GetVocabularyResponse()]))
    return transport


@asynccontextmanager
async def connected(
    transport: InMemoryTransport,
    time: FakeTime,
    credentials: Credentials | None = ADA,
    cache: TokenFile | None = None,
) -> AsyncIterator[Client]:
    client = Client(
        ["a"], transport, credentials=credentials, token_cache=cache, time=time, timeouts=Timeouts(connect_s=2)
    )
    async with client:
        yield client


def tokens_used(transport: InMemoryTransport) -> list[str]:
    return [call.metadata[0][1].removeprefix("Bearer ") for call in transport.calls if call.method == "GetVocabulary"]


async def test_before_login_only_iam_is_known_and_after_it_everything() -> None:
    time = FakeTime()
    transport = system(FakeIam(time))
    async with connected(transport, time) as client:
        await client.resource.get_vocabulary(region=EAST)
    watches = [bool(call.metadata) for call in transport.calls if call.method == "WatchCatalog"]
    assert watches == [False, True]
    assert tokens_used(transport) == ["login-1"]


async def test_programs_that_watch_the_catalogue_are_told_everything_too() -> None:
    time = FakeTime()
    async with connected(system(FakeIam(time)), time) as client:
        catalogue = await anext(client.catalog.watch_catalog())
    assert {endpoint.service for endpoint in catalogue.endpoints} == {"iam", "resource"}


async def test_many_calls_share_one_renewal() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with connected(transport, time) as client:
        time.turn(601)
        await asyncio.gather(*(client.resource.get_vocabulary(region=EAST) for _ in range(50)))
    assert (iam.logins, iam.refreshes) == (1, 1)
    assert set(tokens_used(transport)) == {"refresh-1"}


async def test_a_token_near_its_end_is_renewed_while_calls_go_on() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with connected(transport, time) as client:
        time.turn(545)
        await client.resource.get_vocabulary(region=EAST)
        await eventually(lambda: iam.refreshes == 1)
        await client.resource.get_vocabulary(region=EAST)
    assert tokens_used(transport) == ["login-1", "refresh-1"]


async def test_a_call_waits_for_a_service_that_cannot_renew_its_token_at_once(tmp_path: Path) -> None:
    time = FakeTime()
    iam = FakeIam(time)
    cache = TokenFile("lab", CONTEXT, tmp_path)
    async with connected(system(iam), time, cache=cache):
        pass
    transport = system(iam)
    async with connected(transport, time, credentials=None, cache=cache) as client:
        time.turn(601)
        iam.unready = 3
        await client.resource.get_vocabulary(region=EAST)
        assert tokens_used(transport) == ["refresh-4"]
        time.turn(601)
        iam.unready = 1000
        with pytest.raises(Unavailable, match="starting"):
            await client.resource.get_vocabulary(region=EAST, timeout_s=5)
    assert sum(time.slept) < 10


async def test_a_refused_refresh_becomes_a_login() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    async with connected(system(iam), time) as client:
        iam._live_refresh = "somebody else's"
        time.turn(601)
        await client.resource.get_vocabulary(region=EAST)
    assert (iam.logins, iam.refreshes) == (2, 1)


async def test_a_refresh_whose_answer_is_lost_becomes_a_login() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with connected(transport, time) as client:
        iam.refresh_fails = True
        time.turn(601)
        await client.resource.get_vocabulary(region=EAST)
    assert tokens_used(transport) == ["login-2"]


async def test_a_revoked_token_is_replaced_and_the_call_made_again() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    resource = Script(
        get_vocabulary=[Unauthenticated("revoked", reason="TOKEN_REVOKED"), GetVocabularyResponse()],
    )
    transport = system(iam, resource)
    async with connected(transport, time) as client:
        await client.resource.get_vocabulary(region=EAST)
    assert tokens_used(transport) == ["login-1", "refresh-1"]


async def test_a_gateway_that_refuses_every_token_is_not_asked_for_ever() -> None:
    time = FakeTime()
    resource = Script(get_vocabulary=[Unauthenticated("forged", reason="TOKEN_FORGED")])
    async with connected(system(FakeIam(time), resource), time) as client:
        with pytest.raises(Unauthenticated, match="forged"):
            await client.resource.get_vocabulary(region=EAST)
    assert len(resource.requests) == 2


async def test_a_wrong_secret_is_told_at_once_and_not_tried_again_and_again() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    with pytest.raises(Unauthenticated, match="account or secret is wrong") as caught:
        async with connected(transport, time, Credentials("ada", "wrong")):
            raise AssertionError("it must not connect")
    assert caught.value.reason == "LOGIN_REFUSED"
    assert iam.logins == 1


async def test_calls_after_a_refused_login_do_not_hammer_iam() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    async with connected(system(iam), time) as client:
        iam._secret, iam._live_refresh = "changed", ""
        time.turn(601)
        for _ in range(10):
            with pytest.raises(Unauthenticated):
                await client.resource.get_vocabulary(region=EAST)
        assert iam.logins == 2
        iam._secret = "secret"
        time.turn(31)
        await client.resource.get_vocabulary(region=EAST)


async def test_login_as_somebody_else() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with connected(transport, time, credentials=None) as client:
        assert client.account == ""
        await client.login(Credentials("ada", "secret", "lab"))
        assert client.project == "lab"
        await client.resource.get_vocabulary(region=EAST)
        await client.logout()
        assert client.account == ""
        with pytest.raises(Unauthenticated):
            await client.resource.get_vocabulary(region=EAST)
    assert iam.revoked == ["login-1-refresh"]


async def test_saved_tokens_serve_the_next_run(tmp_path: Path) -> None:
    time = FakeTime()
    iam = FakeIam(time)
    for _ in range(3):
        transport = system(iam)
        async with connected(transport, time, cache=TokenFile("lab", CONTEXT, tmp_path)) as client:
            await client.resource.get_vocabulary(region=EAST)
        assert tokens_used(transport) == ["login-1"]
    assert (tmp_path / "lab.json").stat().st_mode & 0o777 == 0o600
    assert iam.logins == 1


async def test_two_runs_at_once_use_a_refresh_token_once(tmp_path: Path) -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with (
        connected(transport, time, cache=TokenFile("lab", CONTEXT, tmp_path)) as one,
        connected(transport, time, credentials=None, cache=TokenFile("lab", CONTEXT, tmp_path)) as other,
    ):
        time.turn(601)
        await asyncio.gather(one.resource.get_vocabulary(region=EAST), other.resource.get_vocabulary(region=EAST))
    assert (iam.logins, iam.refreshes) == (1, 1)


async def test_tokens_of_another_account_are_not_taken_up(tmp_path: Path) -> None:
    time = FakeTime()
    iam = FakeIam(time)
    async with connected(system(iam), time, cache=TokenFile("lab", CONTEXT, tmp_path)):
        pass
    other = TokenFile("lab", Context(("a",), account="eve"), tmp_path)
    assert other.load() is None


async def test_a_session_that_is_over_asks_for_a_login(tmp_path: Path) -> None:
    time = FakeTime()
    iam = FakeIam(time)
    cache = TokenFile("lab", CONTEXT, tmp_path)
    async with connected(system(iam), time, cache=cache):
        pass
    time.turn(10_000)
    with pytest.raises(Unauthenticated, match="log in again"):
        async with connected(system(iam), time, credentials=None, cache=cache):
            raise AssertionError("it must not connect")
    assert cache.load() is None


async def test_a_failed_renewal_in_the_background_harms_no_call() -> None:
    time = FakeTime()
    iam = FakeIam(time)
    transport = system(iam)
    async with connected(transport, time) as client:
        down = Unavailable("down")
        resource = Script(get_vocabulary=[GetVocabularyResponse()])
        transport.serve("a", iam=Script(refresh=[down], login=[down]), resource=resource)
        time.turn(545)
        for _ in range(5):
            await client.resource.get_vocabulary(region=EAST)
    assert set(tokens_used(transport)) == {"login-1"}


def test_a_wrong_clock_on_this_host_does_not_matter() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"iat": 5000.5}).encode()).decode().rstrip("=")
    tokens = Tokens(access_token=f"e30.{claims}.sig", access_expire_time=to_timestamp(5600 * SECOND))
    issued, expires = _lifetime(tokens, now_us=1_900_000_000 * SECOND)
    assert expires - issued == 599.5 * SECOND
