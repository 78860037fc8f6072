"""The gateway's actor through its life, without Ray around it: announced while it serves, and not a moment longer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import grpc
import pytest

from actors.names import Pointer
from actors.pointers import move_pointer
from gateways.gateway import SERVICES, GatewayActor
from mulligan.api.catalog.v1 import catalog_service_pb2 as catalog_pb2
from mulligan.api.catalog.v1 import catalog_service_pb2_grpc
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import resource_service_pb2_grpc
from mulligan.config import Settings
from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from tests.gateway_world import World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


@pytest.fixture
async def world(gateway_addresses: Addresses) -> AsyncIterator[World]:
    """Actors take the log over, as they do in a process of their own; here it is given back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    async with new_world(gateway_addresses) as made:
        yield made
    root.handlers[:], root.level = handlers, level


class Host:
    """One host's gateway of the resource service, in one generation after another."""

    def __init__(self, world: World, addresses: Addresses) -> None:
        self.world = world
        self.addresses = addresses

    def make(self, generation: int) -> GatewayActor:
        """As the reconcile loop makes it."""
        settings = Settings(state_dir=self.addresses.state_dir, port=0)
        return GatewayActor(self.addresses, settings, "resource", f"gateway-resource/host#{generation}")

    async def point_at(self, generation: int) -> None:
        """Lets that generation serve."""
        before = Pointer(generation - 1, "1") if generation > 1 else Pointer()
        assert await move_pointer(self.world.etcd, "gateway-resource", "host", before, Pointer(generation, "1"))

    async def announced(self) -> dict[str, str]:
        """The catalogue's entry; {} when there is none."""
        found = await self.world.etcd.kv.get(keys.catalog_gateway("resource", "host"))
        return json.loads(found.kvs[0].value) if found.kvs else {}


async def test_it_serves_once_it_is_named_and_leaves_the_catalogue_when_it_drains(
    world: World, gateway_addresses: Addresses
) -> None:
    host = Host(world, gateway_addresses)
    actor = host.make(1)
    assert await actor.prepare() == "prepared"
    assert await actor.start() == "prepared", "nobody named it yet"
    await host.point_at(1)
    assert await actor.start() == "serving"
    entry = await host.announced()
    assert entry["actor"] == "gateway-resource/host#1"
    channel = world.channel(int(entry["address"].rpartition(":")[2]))
    stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
    stream = stub.WatchCatalog(catalog_pb2.WatchCatalogRequest(), metadata=world.token(), timeout=10)
    told = await stream.read()
    assert [each.address for each in told.endpoints] == [entry["address"]]
    own, etcd = await actor.health()
    assert (own.kind, own.healthy, own.detail, etcd.healthy) == ("gateway", True, "1 in flight", True)
    await actor.drain(5)
    assert await host.announced() == {}
    assert len((await stream.read()).endpoints) == 0, "who watches is told in time"
    assert (await failure(stream.read())).reason == "DRAINING"


async def test_the_next_generation_takes_the_entry_over(world: World, gateway_addresses: Addresses) -> None:
    host = Host(world, gateway_addresses)
    first, second = host.make(1), host.make(2)
    await host.point_at(1)
    await first.start()
    before = await host.announced()
    await second.prepare()
    await host.point_at(2)
    await second.start()
    after = await host.announced()
    assert after["actor"] == "gateway-resource/host#2"
    assert after["address"] != before["address"]
    await first.drain(2)
    assert await host.announced() == after, "the entry of a successor stays"
    await second.drain(2)


async def test_a_shard_that_no_actor_serves_is_unavailable_within_seconds(
    world: World, gateway_addresses: Addresses
) -> None:
    host = Host(world, gateway_addresses)
    actor = host.make(1)
    await host.point_at(1)
    await actor.start()
    region = await world.add_region()
    port = int((await host.announced())["address"].rpartition(":")[2])
    stub = resource_service_pb2_grpc.ResourceServiceStub(world.channel(port))

    async def refused() -> object:
        request = pb.CreateClaimRequest(request_id=new_id(), region=region.id)
        told = await failure(stub.CreateClaim(request, metadata=world.token(), timeout=15))
        return told if told.code == grpc.StatusCode.UNAVAILABLE else None

    told = await asyncio.wait_for(eventually(refused), 12)
    assert told.reason == "SHARD_UNAVAILABLE"
    await actor.drain(2)


async def test_a_port_that_stays_taken_leaves_nothing_behind(world: World, gateway_addresses: Addresses) -> None:
    held = await asyncio.start_server(lambda _reader, _writer: None, "0.0.0.0", 0)
    port = held.sockets[0].getsockname()[1]
    settings = Settings(state_dir=gateway_addresses.state_dir, port=port - list(SERVICES).index("resource"))
    actor = GatewayActor(gateway_addresses, settings, "resource", "gateway-resource/host#1")
    await actor.prepare()

    def listeners() -> int:
        assert actor._stores is not None
        return sum(len(each.on_change) for each in (actor._stores.keys, actor._stores.regions, actor._stores.actors))

    seen = set()
    for _ in range(3):
        with pytest.raises(Unavailable, match=str(port)):
            await actor.open()
        seen.add(listeners())
    assert len(seen) == 1
    held.close()
    await held.wait_closed()
    await actor.open()
    assert listeners() in seen
    await actor.drain(2)


def test_ports_follow_the_order_of_the_services() -> None:
    assert list(SERVICES) == ["iam", "meta", "resource", "control"]
