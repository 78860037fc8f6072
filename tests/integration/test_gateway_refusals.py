"""What a gateway refuses and how, as a plain gRPC client sees it: real etcd, real TLS, real tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from actors.handles import ActorDirectory
from gateways import reading
from mulligan.api.iam.v1 import iam_service_pb2_grpc
from mulligan.api.iam.v1 import request_response_pb2 as iam_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import resource_service_pb2_grpc
from mulligan.caller import Caller, Grant
from mulligan.dispatch import Reply
from mulligan.errors import ResourceExhausted, to_status
from mulligan.ids import new_id
from mulligan.pki import ensure_ca, ensure_server_certificate
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, KEY_ID, MEMBER, Shards, Signer, bearer
from tests.gateway_world import World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


class Resource:
    """A resource gateway over one region; its shard answers CreateClaim with the request's own id."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shards = Shards(self._answer)
        self.callers: list[Caller] = []
        self.region = ""

    def _answer(self, shard: str, method: str, caller: Caller, request: bytes) -> Reply:
        self.callers.append(caller)
        response = pb.CreateClaimResponse()
        if method == "CreateClaim":
            response.claim.id = pb.CreateClaimRequest.FromString(request).request_id
        return 0, response.SerializeToString()

    async def start(self) -> None:
        """Serves."""
        self.region = (await self.world.add_region()).id
        await self.world.serve("resource", self.shards)
        self.stub = resource_service_pb2_grpc.ResourceServiceStub(self.world.channel())

    def create(self, metadata: Any = None, region: str | None = None, **call: Any) -> Any:
        """A claim by an administrator unless said otherwise."""
        request = pb.CreateClaimRequest(request_id=new_id(), region=self.region if region is None else region)
        return self.stub.CreateClaim(
            request, metadata=self.world.token() if metadata is None else metadata, **{"timeout": 10, **call}
        )


@pytest.fixture
async def resource(gateway_addresses: Addresses) -> AsyncIterator[Resource]:
    async with new_world(gateway_addresses) as world:
        made = Resource(world)
        await made.start()
        yield made


async def test_a_request_goes_through_and_the_shard_learns_who_asks(resource: Resource) -> None:
    request = pb.CreateClaimRequest(request_id=new_id(), region=resource.region)
    project = new_id()
    caller = resource.world.signer.caller(MEMBER, project=project)
    metadata = bearer(resource.world.signer.token(caller))
    response = await resource.stub.CreateClaim(request, metadata=metadata, timeout=5)
    assert response.claim.id == request.request_id
    (known,) = resource.callers
    assert (known.account, known.project, known.system) == (caller.account, project, False)
    assert known.permission == "resource.claim.create"


def _unsigned(signer: Signer, claims: dict[str, Any], algorithm: str) -> str:
    parts = [{"alg": algorithm, "typ": "JWT", "kid": KEY_ID}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return f"{'.'.join(encoded)}."


def _tokens(signer: Signer) -> dict[str, tuple[str, str]]:
    """Header value and the reason that it is refused for."""
    good = signer.token(signer.caller(ADMIN))
    claims: dict[str, Any] = jwt.decode(good, options={"verify_signature": False})
    head, _, signature = good.split(".")
    other_body = _unsigned(signer, {**claims, "sub": new_id()}, "EdDSA").split(".")[1]
    elsewhere = jwt.encode({**claims, "aud": "elsewhere"}, signer.key, algorithm="EdDSA", headers={"kid": KEY_ID})
    return {
        "malformed": ("Bearer not-a-token", "TOKEN_MALFORMED"),
        "another scheme": ("Basic dXNlcjpwYXNz", "TOKEN_MALFORMED"),
        "expired": (f"Bearer {signer.token(signer.caller(ADMIN, lifetime_s=-1))}", "TOKEN_EXPIRED"),
        "signed by a stranger": (f"Bearer {Signer().token(signer.caller(ADMIN))}", "TOKEN_FORGED"),
        "changed": (f"Bearer {head}.{other_body}.{signature}", "TOKEN_FORGED"),
        "alg none": (f"Bearer {_unsigned(signer, claims, 'none')}", "TOKEN_FORGED"),
        "alg HS256": (f"Bearer {_unsigned(signer, claims, 'HS256')}AAAA", "TOKEN_FORGED"),
        "for another system": (f"Bearer {elsewhere}", "TOKEN_AUDIENCE"),
    }


async def test_tokens_that_are_not_accepted_are_refused_with_the_reason(resource: Resource) -> None:
    missing = await failure(resource.create(metadata=()))
    assert (missing.code, missing.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    tokens = _tokens(resource.world.signer)
    refused = {name: await failure(resource.create((("authorization", each),))) for name, (each, _) in tokens.items()}
    assert {name: each.reason for name, each in refused.items()} == {name: why for name, (_, why) in tokens.items()}
    assert {each.code for each in refused.values()} == {StatusCode.UNAUTHENTICATED}
    assert resource.callers == []


async def test_a_revoked_token_dies_within_a_second(resource: Resource) -> None:
    signer = resource.world.signer
    for kind in ("token", "session", "account", "project"):
        caller = signer.caller(ADMIN, project=new_id())
        metadata = bearer(signer.token(caller))
        await resource.create(metadata)
        ids = {
            "token": caller.token_id,
            "session": caller.session,
            "account": caller.account,
            "project": caller.project,
        }
        await resource.world.revoke(kind, ids[kind])
        refused = await eventually(partial(_refusal, resource, metadata))
        assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def _refusal(resource: Resource, metadata: Any) -> Any:
    try:
        await resource.create(metadata)
    except grpc.aio.AioRpcError:
        return await failure(resource.create(metadata))
    return None


async def test_a_removed_signing_key_ends_its_tokens(resource: Resource) -> None:
    metadata = resource.world.token()
    await resource.create(metadata)
    await resource.world.etcd.kv.delete(keys.iam_key(KEY_ID))
    refused = await eventually(lambda: _refusal(resource, metadata), 1.0)
    assert refused.reason == "TOKEN_FORGED"


async def test_who_may_not_is_told_which_permission_it_takes(resource: Resource) -> None:
    refused = await failure(resource.create(resource.world.token(Grant("reader", False, ""), project=new_id())))
    assert (refused.code, refused.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert refused.info.metadata["permission"] == "resource.claim.create"
    assert refused.info.domain == "mulligan"


async def test_regions(resource: Resource) -> None:
    hidden = await resource.world.add_region(visibility="internal")
    member = resource.world.token(MEMBER, project=new_id())
    malformed = await failure(resource.create(member, "no-uuid"))
    assert (malformed.code, malformed.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_UUID")
    assert malformed.bad.field_violations[0].field == "region"
    for unknown in (new_id(), hidden.id):
        refused = await failure(resource.create(member, unknown))
        assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "NOT_FOUND")
    await resource.create(region=hidden.id)
    bound = resource.world.token(Grant("member", False, hidden.id), project=new_id())
    assert (await failure(resource.create(bound))).code == StatusCode.PERMISSION_DENIED


async def test_a_malformed_message(resource: Resource) -> None:
    call = resource.world.channel().unary_unary("/mulligan.resource.v1.ResourceService/CreateClaim")
    refused = await failure(call(b"\x0a\xff\xff", metadata=resource.world.token(), timeout=5))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def test_a_method_that_nobody_serves_here(resource: Resource) -> None:
    for path in ("/mulligan.resource.v1.ResourceService/Nothing", "/mulligan.iam.v1.IamService/Login", "/x/y"):
        call = resource.world.channel().unary_unary(path)
        refused = await failure(call(b"", timeout=5))
        assert (refused.code, refused.reason) == (StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")


async def test_a_message_that_is_too_large_is_refused_until_more_is_allowed(resource: Resource) -> None:
    def send(size: int) -> Any:
        request = pb.CreateClaimRequest(request_id=new_id(), region=resource.region)
        request.spec.consumer = "x" * size
        return resource.stub.CreateClaim(request, metadata=resource.world.token(), timeout=10)

    await resource.world.configure("resource", max_request_bytes=4096)
    await send(3900)
    refused = await failure(send(4096))
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    await resource.world.configure("resource", max_request_bytes=16_000_000)
    await send(15_000_000)
    # So large that gRPC itself does not take it.
    assert (await failure(send(20_000_000))).code == StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_that_never_comes_takes_no_place_for_ever(resource: Resource) -> None:
    await resource.world.configure("resource", max_in_flight=1, max_deadline_seconds=1)
    slow = resource.world.channel().stream_unary("/mulligan.resource.v1.ResourceService/CreateClaim")
    stalled = slow(metadata=resource.world.token())
    await eventually(lambda: resource.world.gateways[0][0].in_flight == 1)
    assert (await failure(resource.create())).reason == "TOO_MANY_REQUESTS"
    refused = await failure(stalled)
    assert (refused.code, refused.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    await resource.create()


async def test_more_at_once_than_allowed_is_refused_with_a_time_to_retry(resource: Resource) -> None:
    await resource.world.configure("resource", max_in_flight=3)
    resource.shards.open.clear()
    waiting = [asyncio.ensure_future(resource.create()) for _ in range(3)]
    await eventually(lambda: resource.world.gateways[0][0].in_flight == 3)
    refused = await failure(resource.create())
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
    assert refused.retry_after_s == pytest.approx(0.2)
    resource.shards.open.set()
    await asyncio.gather(*waiting)
    await resource.create()


async def test_a_caller_that_hangs_up_makes_room(resource: Resource) -> None:
    await resource.world.configure("resource", max_in_flight=1)
    resource.shards.open.clear()
    call = resource.create()
    await eventually(lambda: resource.shards.batches)
    call.cancel()
    await eventually(lambda: resource.world.gateways[0][0].in_flight == 0)
    resource.shards.open.set()
    await resource.create()


async def test_a_shard_that_does_not_answer_hangs_nobody(resource: Resource) -> None:
    resource.shards.open.clear()
    began = time.monotonic()
    own = await failure(resource.create(timeout=0.3))
    assert own.code == StatusCode.DEADLINE_EXCEEDED
    await resource.world.configure("resource", max_deadline_seconds=1)
    without = await failure(resource.create(timeout=None))
    assert (without.code, without.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    patient = await failure(resource.create(timeout=30))
    # Both batches may still be with the shard, so this one was never sent.
    assert (patient.code, patient.reason) in (
        (StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE"),
        (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    )
    assert time.monotonic() - began < 5
    await eventually(lambda: resource.world.gateways[0][0].in_flight == 0)
    resource.shards.open.set()
    await resource.create()


async def test_a_service_that_nobody_serves_yet_is_unavailable(gateway_addresses: Addresses) -> None:
    async with new_world(gateway_addresses) as world:
        directory = ActorDirectory(world.etcd)
        await directory.start()
        resource = Resource(world)
        resource.shards = directory  # type: ignore[assignment]
        await resource.start()
        refused = await failure(resource.create())
        assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")
        assert refused.retry_after_s == 1
        assert "resource of shard default" in refused.status.message
        await directory.close()


async def test_a_failure_of_the_shard_reaches_the_caller_whole(resource: Resource) -> None:
    error = ResourceExhausted("no provider fits", metadata={"constraint": "cpu"}, details=[ErrorInfo(reason="more")])
    resource.shards.handler = lambda *_: (error.code, to_status(error).SerializeToString())
    refused = await failure(resource.create())
    assert (refused.code, refused.text) == (StatusCode.RESOURCE_EXHAUSTED, "no provider fits")
    assert refused.status.message == "no provider fits"
    assert len(refused.status.details) == 2


async def test_a_failure_that_says_too_much_is_cut_to_what_peers_accept(resource: Resource) -> None:
    details = [ErrorInfo(reason="x" * 900) for _ in range(20)]
    error = ResourceExhausted("ü" * 1500, field="spec", details=details)
    resource.shards.handler = lambda *_: (error.code, to_status(error).SerializeToString())
    refused = await failure(resource.create())
    assert refused.reason == "NO_CAPACITY"
    assert len(refused.status_bytes) < 4096
    assert refused.status.message == "ü" * 1500
    longest = ResourceExhausted("語" * 1500)
    resource.shards.handler = lambda *_: (longest.code, to_status(longest).SerializeToString())
    refused = await failure(resource.create())
    assert (refused.reason, len(refused.status_bytes) <= 4000) == ("NO_CAPACITY", True)
    assert 1000 < len(refused.status.message) < 1500


async def test_a_shard_that_answers_nonsense_is_our_failure(resource: Resource) -> None:
    resource.shards.handler = lambda *_: (13, b"\xff\xff")
    refused = await failure(resource.create())
    assert (refused.code, refused.reason) == (StatusCode.INTERNAL, "INTERNAL")


async def test_methods_before_login_take_no_token_and_ignore_a_stale_one(gateway_addresses: Addresses) -> None:
    async with new_world(gateway_addresses) as world:
        shards = Shards(lambda *_: (0, iam_pb2.LoginResponse().SerializeToString()), served=["global"])
        await world.serve("iam", shards)
        stub = iam_service_pb2_grpc.IamServiceStub(world.channel())
        await stub.Login(iam_pb2.LoginRequest(), timeout=5)
        stale = bearer(world.signer.token(world.signer.caller(ADMIN, lifetime_s=-1)))
        await stub.Refresh(iam_pb2.RefreshRequest(), metadata=stale, timeout=5)
        assert shards.batches == [("global", ["Login"]), ("global", ["Refresh"])]
        assert shards.repeatable == [True, False]
        refused = await failure(stub.WhoAmI(iam_pb2.WhoAmIRequest(), timeout=5))
        assert refused.reason == "TOKEN_MISSING"


async def test_nothing_is_served_without_tls_or_to_one_who_trusts_another_authority(
    resource: Resource, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{resource.world.port}"
    ensure_ca(tmp_path)
    stranger = grpc.ssl_channel_credentials((tmp_path / "ca.crt").read_bytes())
    for channel in (grpc.aio.insecure_channel(address), grpc.aio.secure_channel(address, stranger)):
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary("/x/y")(b"", timeout=5)
            assert refused.value.code() == StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_serves_the_next_connection(resource: Resource) -> None:
    world = resource.world

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", world.port))

    await resource.create()
    before = await asyncio.to_thread(served)
    later = datetime.now(UTC) + timedelta(days=380)
    assert ensure_server_certificate(world.tls_dir, ["127.0.0.1", "::1", "localhost"], now=later) is True
    written = (world.tls_dir / "server.crt").read_text().strip()
    after = await asyncio.to_thread(served)
    assert before.strip() != after.strip()
    assert after.strip() == written
    await resource.create()
    ensure_server_certificate(world.tls_dir, ["127.0.0.1", "::1", "localhost", "again.example"])
    key = (world.tls_dir / "server.key").read_text()
    (world.tls_dir / "server.key").write_text("half written")
    assert (await asyncio.to_thread(served)).strip() == written, "a pair that does not fit is not taken up"
    (world.tls_dir / "server.key").write_text(key)
    assert (await asyncio.to_thread(served)).strip() == (world.tls_dir / "server.crt").read_text().strip()


async def test_callers_without_a_token_cannot_hold_the_door_by_sending_slowly(
    gateway_addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ANONYMOUS_READ_S", 0.3)
    async with new_world(gateway_addresses) as world:
        shards = Shards(lambda *_: (0, iam_pb2.LoginResponse().SerializeToString()), served=["global"])
        gateway = await world.serve("iam", shards)
        slow = world.channel().stream_unary("/mulligan.iam.v1.IamService/Login")
        stalled = [slow() for _ in range(40)]
        await eventually(lambda: gateway.in_flight == 40)
        stub = iam_service_pb2_grpc.IamServiceStub(world.channel())
        await stub.Login(iam_pb2.LoginRequest(), timeout=5)
        refused = [await failure(each) for each in stalled]
        assert {each.code for each in refused} == {StatusCode.DEADLINE_EXCEEDED}
        await stub.WhoAmI(iam_pb2.WhoAmIRequest(), metadata=world.token(), timeout=5)
