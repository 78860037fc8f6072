"""What ends while a call is under way ends the call: its token, its time, its caller's patience."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from gateways import unary
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import now_us
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, Shards, bearer
from tests.gateway_world import Failure, World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


@pytest.fixture
async def world(gateway_addresses: Addresses) -> AsyncIterator[World]:
    async with new_world(gateway_addresses) as made:
        yield made


class Upload:
    """A claim whose caller was let in and has not sent it yet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shards = Shards(lambda *_: (0, b""))

    async def start(self, caller: Caller) -> None:
        """Is let in."""
        region = (await self.world.add_region()).id
        gateway = await self.world.serve("resource", self.shards)
        send = self.world.channel().stream_unary("/mulligan.resource.v1.ResourceService/CreateClaim")
        self._call: Any = send(metadata=bearer(self.world.signer.token(caller)), timeout=20)
        self._request = pb.CreateClaimRequest(request_id=new_id(), region=region).SerializeToString()
        await eventually(lambda: gateway.in_flight == 1)

    async def refused(self) -> Failure:
        """How it is refused, once it is sent; it must not reach the shard."""
        await self._call.write(self._request)
        await self._call.done_writing()
        told = await failure(self._call)
        assert self.shards.batches == []
        return told


async def test_a_token_that_is_revoked_during_an_upload_does_nothing(world: World) -> None:
    upload, caller = Upload(world), world.signer.caller(ADMIN)
    await upload.start(caller)
    (_, stores) = world.gateways[0]
    await world.revoke("account", caller.account)
    await eventually(lambda: f"account/{caller.account}" in stores.revocations.items)
    told = await upload.refused()
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_a_token_that_expires_during_an_upload_does_nothing(world: World) -> None:
    upload, caller = Upload(world), world.signer.caller(ADMIN, lifetime_s=2)
    await upload.start(caller)
    await eventually(lambda: now_us() > caller.expires_us)
    assert (await upload.refused()).reason == "TOKEN_EXPIRED"


async def test_a_revoked_token_that_the_gateway_forgot_does_nothing_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unary, "WAITED_S", 0.0, raising=False)
    upload, caller = Upload(world), world.signer.caller(ADMIN)
    await upload.start(caller)
    (gateway, stores) = world.gateways[0]
    gateway._authentication._make_room()
    await world.revoke("session", caller.session)
    await eventually(lambda: f"session/{caller.session}" in stores.revocations.items)
    assert (await upload.refused()).reason == "TOKEN_REVOKED"
