"""The client over real gRPC and TLS: two gateways, one of which dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mulligan.api.control.v1.operation_pb2 import Operation, Step
from mulligan.api.control.v1.request_response_pb2 import WatchOperationRequest, WatchOperationResponse
from mulligan.api.resource.v1.claim_pb2 import Claim
from mulligan.api.resource.v1.request_response_pb2 import (
    CreateClaimRequest,
    CreateClaimResponse,
    LoadProvidersRequest,
    LoadProvidersResponse,
)
from mulligan.api.resource.v1.resource_client import CREATE_CLAIM
from mulligan.client import Client, Credentials, Timeouts, Unreachable
from mulligan.client._grpc import GrpcTransport
from mulligan.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from mulligan.ids import new_id
from mulligan.pki import ensure_ca
from tests.fake_system import EAST, REGIONS, FakeIam, FakeMeta, Script, WallClock
from tests.grpc_gateway import Fleet
from tests.waiting import eventually

ADA = Credentials("ada", "secret")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    running = Fleet(tmp_path / "tls")
    running.regions = REGIONS
    yield running
    await running.close()


class Progress:
    """An operation whose steps are counted outside, so that every gateway tells the same."""

    def __init__(self) -> None:
        self.steps = 1
        self.changed = asyncio.Event()

    def advance(self) -> None:
        self.steps += 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def watch_operation(self, request: WatchOperationRequest) -> AsyncIterator[WatchOperationResponse]:
        while True:
            changed = self.changed
            steps = [Step(name=f"step {number}") for number in range(self.steps)]
            yield WatchOperationResponse(operation=Operation(id=request.id, steps=steps))
            await changed.wait()


async def test_it_logs_in_routes_and_answers_over_tls(fleet: Fleet) -> None:
    claim = CreateClaimResponse(claim=Claim(id=new_id()))
    resource = Script(create_claim=[claim])
    address = await fleet.serve(iam=FakeIam(WallClock()), meta=FakeMeta())
    await fleet.serve(resource=resource)
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        assert await client.resource.create_claim(region="east") == claim
    assert resource.requests[0].region == EAST


async def test_a_gateway_that_cannot_be_connected_to_got_nothing(fleet: Fleet) -> None:
    address = await fleet.serve(resource=Script(create_claim=[CreateClaimResponse()]))
    await fleet.close()
    transport = GrpcTransport(None)
    with pytest.raises(Unreachable, match="connection refused"):
        await transport.unary(address, CREATE_CLAIM, CreateClaimRequest(), (), 5)
    await transport.close()


async def test_a_certificate_of_another_authority_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    address = await fleet.serve(iam=FakeIam(WallClock()))
    ensure_ca(tmp_path / "other")
    client = Client.connect(address, ca_file=tmp_path / "other" / "ca.crt", timeouts=Timeouts(connect_s=2))
    with pytest.raises(Unavailable, match="not signed by the CA file"):
        await client.open()


async def test_errors_arrive_whole(fleet: Fleet) -> None:
    bad = InvalidArgument("min must be positive", reason="INVALID_AMOUNT", field="spec.groups[0]")
    full = ResourceExhausted("try later", reason="TOO_MANY_REQUESTS", retry_after_s=90, metadata={"region": EAST})
    address = await fleet.serve(iam=FakeIam(WallClock()), resource=Script(create_claim=[bad, full]))
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        with pytest.raises(InvalidArgument, match="min must be positive") as first:
            await client.resource.create_claim(region=EAST)
        with pytest.raises(ResourceExhausted) as second:
            await client.resource.create_claim(region=EAST, timeout_s=5)
    assert (first.value.reason, first.value.field) == ("INVALID_AMOUNT", "spec.groups[0]")
    assert (second.value.reason, second.value.retry_after_s) == ("TOO_MANY_REQUESTS", 90)
    assert second.value.metadata == {"region": EAST}


async def test_a_gateway_killed_in_the_middle_of_a_stream_is_not_noticed(fleet: Fleet) -> None:
    progress = Progress()
    seed = await fleet.serve(iam=FakeIam(WallClock()))
    pair = [await fleet.serve(control=progress) for _ in range(2)]
    async with Client.connect(seed, ca_file=fleet.ca_file, credentials=ADA) as client:
        stream = client.control.watch_operation(region=EAST, id=new_id())
        assert len((await anext(stream)).operation.steps) == 1
        [used] = [address for address, method in fleet.calls if method == "WatchOperation"]
        await fleet.kill(used)
        progress.advance()
        assert len((await asyncio.wait_for(anext(stream), 5)).operation.steps) == 2
        progress.advance()
        assert len((await asyncio.wait_for(anext(stream), 5)).operation.steps) == 3
        watched = [address for address, method in fleet.calls if method == "WatchOperation"]
        assert set(watched) == set(pair)


async def test_a_gateway_killed_in_the_middle_of_a_call_is_not_noticed(fleet: Fleet) -> None:
    arrived = asyncio.Event()

    class Hanging:
        async def create_claim(self, request: CreateClaimRequest) -> CreateClaimResponse:
            arrived.set()
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    seed = await fleet.serve(iam=FakeIam(WallClock()))
    hanging = await fleet.serve(resource=Hanging())
    async with Client.connect(seed, ca_file=fleet.ca_file, credentials=ADA) as client:
        call = asyncio.create_task(client.resource.create_claim(region=EAST))
        await asyncio.wait_for(arrived.wait(), 5)
        answering = Script(create_claim=[CreateClaimResponse()])
        await fleet.serve(resource=answering)
        await fleet.kill(hanging, announced=True)
        await asyncio.wait_for(call, 5)
    assert len(answering.requests) == 1


async def test_a_gateway_that_comes_back_on_its_port_is_used_again(fleet: Fleet) -> None:
    address = await fleet.serve(iam=FakeIam(WallClock()), resource=Script(create_claim=[CreateClaimResponse()]))
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        await client.resource.create_claim(region=EAST)
        await fleet.kill(address)
        with pytest.raises(Unavailable, match=r"no answer from 127\.0\.0\.1"):
            await client.resource.create_claim(region=EAST, timeout_s=0.5)
        await fleet.serve(at=address, iam=FakeIam(WallClock()), resource=Script(create_claim=[CreateClaimResponse()]))
        await client.resource.create_claim(region=EAST, timeout_s=5)


async def test_a_call_ends_at_its_deadline(fleet: Fleet) -> None:
    class Hanging:
        async def create_claim(self, request: CreateClaimRequest) -> CreateClaimResponse:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    address = await fleet.serve(iam=FakeIam(WallClock()), resource=Hanging())
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            await client.resource.create_claim(region=EAST, timeout_s=0.3)


class Loader:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def load_providers(
        self, requests: AsyncIterator[LoadProvidersRequest]
    ) -> AsyncIterator[LoadProvidersResponse]:
        async for request in requests:
            self.names.append(request.name)
            if len(self.names) % 100 == 0:
                yield LoadProvidersResponse(received=len(self.names), stored=100)


async def test_records_stream_both_ways(fleet: Fleet) -> None:
    loader = Loader()
    address = await fleet.serve(iam=FakeIam(WallClock()), resource=loader)
    records = (LoadProvidersRequest(region=EAST, name=f"n{number}") for number in range(1000))
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        received = [answer.received async for answer in client.resource.load_providers(records)]
    assert received == list(range(100, 1001, 100))


async def test_an_error_of_the_callers_own_records_is_the_callers(fleet: Fleet) -> None:
    def records() -> Iterator[LoadProvidersRequest]:
        yield LoadProvidersRequest(region=EAST, name="n1")
        raise ValueError("line 2 is no record")

    address = await fleet.serve(iam=FakeIam(WallClock()), resource=Loader())
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        with pytest.raises(ValueError, match="line 2"):
            await anext(client.resource.load_providers(records()))


async def test_an_abandoned_stream_is_cancelled_at_the_gateway(fleet: Fleet) -> None:
    ended = asyncio.Event()

    class Endless:
        async def watch_operation(self, request: WatchOperationRequest) -> AsyncIterator[WatchOperationResponse]:
            try:
                yield WatchOperationResponse(operation=Operation(id=request.id))
                await asyncio.sleep(3600)
            finally:
                ended.set()

    address = await fleet.serve(iam=FakeIam(WallClock()), control=Endless())
    async with Client.connect(address, ca_file=fleet.ca_file, credentials=ADA) as client:
        stream = client.control.watch_operation(region=EAST, id=new_id())
        await anext(stream)
        await stream.aclose()
        await eventually(ended.is_set, within_s=5)
