"""What ends while a call is under way ends the call: its token, its time, its caller's patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from gateways import unary
from gateways.assembly import Gateway
from mulligan.api.control.v1 import request_response_pb2 as control_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import now_us
from mulligan.dispatch import PageReply
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


class Deaf:
    """A client that opens a stream and reads nothing, while the shard has a megabyte to tell each time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shards = Shards(lambda *_: (0, b"x" * 1024 * 1024))
        message = control_pb2.WatchMachineResponse()
        message.machine.id = "x" * 1024 * 1024
        self.shards.pages["default"] = [PageReply([message.SerializeToString()], "1", False) for _ in range(500)]

    async def watch(self, caller: Caller) -> Gateway:
        """Returns once the gateway cannot get rid of what it has to tell."""
        region = (await self.world.add_region()).id
        gateway = await self.world.serve("control", self.shards)
        call = self.world.channel().unary_stream("/mulligan.control.v1.ControlService/WatchMachine")
        request = control_pb2.WatchMachineRequest(region=region, id=new_id()).SerializeToString()
        self.stream = call(request, metadata=bearer(self.world.signer.token(caller)))
        await self._stands_still(lambda: len(self.shards.polls))
        return gateway

    async def load(self, caller: Caller) -> Gateway:
        """The same with a stream of providers."""
        region = (await self.world.add_region()).id
        gateway = await self.world.serve("resource", self.shards)
        call = self.world.channel().stream_stream("/mulligan.resource.v1.ResourceService/LoadProviders")
        self.stream = call(metadata=bearer(self.world.signer.token(caller)))
        record = pb.LoadProvidersRequest(request_id=new_id(), region=region, name="x" * 300_000).SerializeToString()

        async def send() -> None:
            for _ in range(500):
                await self.stream.write(record)

        self.sending = asyncio.ensure_future(send())
        await self._stands_still(lambda: len(self.shards.chunks))
        return gateway

    async def _stands_still(self, count: Callable[[], int]) -> None:
        seen: list[int] = []

        def stands_still() -> bool:
            seen.append(count())
            return seen[-1] > 0 and seen[-50:] == [seen[-1]] * 50

        await eventually(stands_still)
        assert count() < 500, "the client took everything"


@pytest.mark.parametrize("kind", ["watch", "load"])
async def test_a_client_that_stops_reading_holds_no_place_after_its_token(world: World, kind: str) -> None:
    deaf, caller = Deaf(world), world.signer.caller(ADMIN)
    gateway = await (deaf.watch(caller) if kind == "watch" else deaf.load(caller))
    assert gateway.in_flight == 1
    await world.revoke("account", caller.account)
    await eventually(lambda: gateway.in_flight == 0)
    deaf.stream.cancel()


async def test_a_client_that_stops_reading_holds_no_drain_up(world: World) -> None:
    gateway = await Deaf(world).watch(world.signer.caller(ADMIN))
    async with asyncio.timeout(5):
        await gateway.drain(30)


async def test_a_stream_that_was_not_asked_for_yet_holds_no_drain_up(world: World) -> None:
    gateway = await world.serve("control", Shards(lambda *_: (0, b"")))
    stalled = world.channel().stream_stream("/mulligan.control.v1.ControlService/WatchMachine")
    stream = stalled(metadata=world.token())
    await eventually(lambda: gateway.in_flight == 1)
    async with asyncio.timeout(5):
        await gateway.drain(30)
    assert (await failure(stream.read())).reason == "DRAINING"
