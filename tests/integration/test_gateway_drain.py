"""A gateway that stops: nothing in flight is lost, and whoever comes next is told where to go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateways.assembly import Gateway
from mulligan.api.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import resource_service_pb2_grpc
from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import Shards
from tests.gateway_world import World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


class Draining:
    """A resource gateway whose shard holds its answers back when told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shards = Shards(lambda *_: (0, b""))

    async def start(self) -> None:
        """Serves."""
        self.region = (await self.world.add_region()).id
        self.gateway: Gateway = await self.world.serve("resource", self.shards)
        self.channel = self.world.channel()
        self.metadata = self.world.token()
        await self.create()

    def create(self, channel: grpc.aio.Channel | None = None) -> Any:
        """A request."""
        stub = resource_service_pb2_grpc.ResourceServiceStub(channel or self.channel)
        request = pb.CreateClaimRequest(request_id=new_id(), region=self.region)
        return stub.CreateClaim(request, metadata=self.metadata, timeout=10)


@pytest.fixture
async def draining(gateway_addresses: Addresses) -> AsyncIterator[Draining]:
    async with new_world(gateway_addresses) as world:
        made = Draining(world)
        await made.start()
        yield made


async def test_what_is_in_flight_is_finished_and_what_comes_is_sent_elsewhere(draining: Draining) -> None:
    draining.shards.open.clear()
    in_flight = [asyncio.ensure_future(draining.create()) for _ in range(5)]
    await eventually(lambda: draining.gateway.in_flight == 5)
    drained = asyncio.create_task(draining.gateway.drain(10))

    async def refused() -> Any:
        call = asyncio.ensure_future(draining.create())
        await asyncio.wait([call], timeout=0.5)
        if not call.done():
            call.cancel()
            return None
        return await failure(call)

    told = await eventually(refused, 3.0)
    assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert told.retry_after_s > 0
    assert not drained.done()
    draining.shards.open.set()
    await asyncio.gather(*in_flight)
    await drained
    assert (await failure(draining.create())).code == StatusCode.UNAVAILABLE, "the port is closed"


async def test_requests_that_do_not_end_are_given_up_at_the_deadline(draining: Draining) -> None:
    draining.shards.open.clear()
    stuck = asyncio.ensure_future(draining.create())
    await eventually(lambda: draining.gateway.in_flight == 1)
    began = time.monotonic()
    await draining.gateway.drain(1.0)
    assert time.monotonic() - began < 3
    assert (await failure(stuck)).code in (StatusCode.CANCELLED, StatusCode.UNAVAILABLE)


async def test_streams_end_with_the_gateway_and_health_says_so(draining: Draining) -> None:
    health = health_pb2_grpc.HealthStub(draining.channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
    catalog = catalog_service_pb2_grpc.CatalogServiceStub(draining.channel)
    stream = catalog.WatchCatalog(catalog_service_pb2.WatchCatalogRequest(), metadata=draining.metadata, timeout=10)
    await stream.read()
    drained = asyncio.create_task(draining.gateway.drain(5))
    assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    told = await failure(stream.read())
    assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    began = time.monotonic()
    await drained
    assert time.monotonic() - began < 4, "a health watch does not hold a drain up"


async def test_another_takes_over_on_the_same_port_while_callers_retry(draining: Draining) -> None:
    """Callers do what the answers say: UNAVAILABLE is tried again. Nothing else may come."""
    former, port = draining.gateway, draining.world.port
    stop = asyncio.Event()
    done = 0
    other: list[grpc.aio.AioRpcError] = []

    async def caller() -> None:
        nonlocal done
        while not stop.is_set():
            try:
                await draining.create()
                done += 1
            except grpc.aio.AioRpcError as error:
                if error.code() != StatusCode.UNAVAILABLE:
                    other.append(error)
                await asyncio.sleep(0.02)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    await eventually(lambda: done > 50)
    await draining.world.serve("resource", draining.shards, port=port)
    assert draining.world.port == port
    await former.drain(5)
    after = done
    await eventually(lambda: done > after + 100)
    stop.set()
    await asyncio.gather(*callers)
    assert other == []


async def test_a_port_that_somebody_else_holds_is_told(draining: Draining) -> None:
    held = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = held.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match=str(port)):
        await draining.world.serve("resource", draining.shards, port=port)
    held.close()
