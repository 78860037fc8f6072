"""What runs where, health, and reflection, over the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from actors.health import ComponentHealth
from mulligan.api.catalog.v1 import catalog_service_pb2 as pb
from mulligan.api.catalog.v1 import catalog_service_pb2_grpc
from mulligan.caller import Grant
from mulligan.dispatch import Reply
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import Announcement
from tests.gateway_parts import ADMIN, MEMBER, Shards, bearer
from tests.gateway_world import World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually

StatusCode = grpc.StatusCode
RESOURCE = "mulligan.resource.v1.ResourceService"


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


def unused(*_: Any) -> Reply:
    """No shard is asked here."""
    raise AssertionError("no request goes to a shard")


class Catalog:
    """A resource gateway, and actors that exist in the catalogue only."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.health: dict[str, list[ComponentHealth] | Exception] = {}

    async def ask(self, actor: str, timeout_s: float) -> list[ComponentHealth]:
        """In place of Ray."""
        answer = self.health.get(actor, [ComponentHealth("service", actor, True)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def start(self) -> None:
        """Serves."""
        await self.world.serve("resource", Shards(unused), self.ask)
        self.stub = catalog_service_pb2_grpc.CatalogServiceStub(self.world.channel())

    async def announce(self, key: str, actor: str, **fields: str) -> None:
        """As an actor does, without a lease."""
        value = {"actor": actor, "version": "1.0", "incarnation": new_id(), **fields}
        await self.world.put(key, json.dumps(value).encode())

    async def announce_gateway(self, service: str) -> None:
        """A gateway on a host named as its service."""
        name = f"gateway-{service}/host#1"
        await self.announce(keys.catalog_gateway(service, "host"), name, address=f"{service}.example:7400")

    def watch(self, metadata: Any = ()) -> Any:
        """The stream of catalogues."""
        return self.stub.WatchCatalog(pb.WatchCatalogRequest(), metadata=metadata, timeout=10)


@pytest.fixture
async def catalog(gateway_addresses: Addresses) -> AsyncIterator[Catalog]:
    async with new_world(gateway_addresses) as world:
        made = Catalog(world)
        await made.start()
        yield made


async def test_before_login_only_iam_shows_and_changes_come_as_they_happen(catalog: Catalog) -> None:
    for service in ("meta", "resource", "control", "boot"):
        await catalog.announce_gateway(service)
    await catalog.world.add_region()
    stream = catalog.watch()
    assert len((await stream.read()).endpoints) == 0
    announced = Announcement(
        catalog.world.etcd, keys.catalog_gateway("iam", "host"), b'{"address": "iam.example:1", "version": "1"}'
    )
    await announced.start()
    told = await stream.read()
    assert [(each.service, each.address) for each in told.endpoints] == [("iam", "iam.example:1")]
    assert (len(told.shards), len(told.regions)) == (0, 0)
    await announced.withdraw()
    assert len((await stream.read()).endpoints) == 0


async def test_after_login_the_caller_sees_what_it_may(catalog: Catalog) -> None:
    for service in ("iam", "resource"):
        await catalog.announce_gateway(service)
    shown, hidden = (
        await catalog.world.add_region(shard="n"),
        await catalog.world.add_region(shard="h", visibility="internal"),
    )
    for shard in ("n", "h"):
        await catalog.announce(keys.catalog_actor("resource", shard), f"resource/{shard}#1")
    member = await catalog.watch(catalog.world.token(MEMBER, project=new_id())).read()
    assert {each.service for each in member.endpoints} == {"iam", "resource"}
    assert [each.region for each in member.regions] == [shown.id]
    assert [each.shard for each in member.shards] == ["n"]
    operator = await catalog.watch(catalog.world.token(ADMIN)).read()
    assert {each.region for each in operator.regions} == {shown.id, hidden.id}
    assert operator.revision >= member.revision > 0


async def test_a_token_that_is_no_good_is_not_mistaken_for_none(catalog: Catalog) -> None:
    signer = catalog.world.signer
    stale = bearer(signer.token(signer.caller(MEMBER, lifetime_s=-1)))
    refused = await failure(catalog.watch(stale).read())
    assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_watch_without_a_token_does_not_last(catalog: Catalog) -> None:
    await catalog.world.configure("resource", max_deadline_seconds=1)
    stream = catalog.watch()
    await stream.read()
    assert (await failure(stream.read())).code == StatusCode.DEADLINE_EXCEEDED


async def test_the_status_asks_everyone_and_lists_what_is_missing(catalog: Catalog) -> None:
    await catalog.announce(keys.catalog_actor("iam", "global"), "iam/global#1")
    await catalog.announce(keys.catalog_actor("meta", "global"), "meta/global#1")
    await catalog.announce_gateway("iam")
    catalog.health["meta/global#1"] = TimeoutError()

    async def report() -> Any:
        found = await catalog.stub.GetStatus(pb.GetStatusRequest(), metadata=catalog.world.token(), timeout=10)
        lines = {(line.kind, line.name): line for line in found.components}
        return (found, lines) if ("gateway", "gateway-iam/host#1") in lines else None

    found, lines = await eventually(report)
    assert not found.healthy
    assert lines["service", "iam/global#1"].healthy
    assert lines["gateway", "gateway-iam/host#1"].address == "iam.example:7400"
    assert "no answer" in lines["service", "meta/global#1"].detail
    assert "mulligan-resource" in lines["service", "resource/default"].detail
    assert not lines["executor", "executor"].healthy
    assert not lines["gateway", "gateway-boot"].healthy


async def test_the_status_is_for_the_system_alone(catalog: Catalog) -> None:
    for metadata, code in (
        ((), StatusCode.UNAUTHENTICATED),
        (catalog.world.token(Grant("admin", False, ""), project=new_id()), StatusCode.PERMISSION_DENIED),
    ):
        refused = await failure(catalog.stub.GetStatus(pb.GetStatusRequest(), metadata=metadata, timeout=5))
        assert refused.code == code
    reader = catalog.world.token(Grant("reader", True, ""))
    assert len((await catalog.stub.GetStatus(pb.GetStatusRequest(), metadata=reader, timeout=5)).components) > 5


async def test_health_needs_no_token(catalog: Catalog) -> None:
    stub = health_pb2_grpc.HealthStub(catalog.world.channel())
    for service in ("", RESOURCE, "mulligan.catalog.v1.CatalogService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=5)
    assert refused.value.code() == StatusCode.NOT_FOUND


async def reflect(catalog: Catalog, version: str, metadata: Any, *requests: Any) -> list[Any]:
    """Answers of the reflection service, as grpcurl asks for them."""
    call = catalog.world.channel().stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return [each async for each in call(iter(requests), metadata=metadata, timeout=10)]


def pool_of(serialized_files: Iterable[bytes]) -> DescriptorPool:
    """What a tool makes of the files: each after those that it imports."""
    files = {each.name: each for each in map(FileDescriptorProto.FromString, serialized_files)}
    pool = DescriptorPool()

    def add(name: str) -> None:
        if file := files.pop(name, None):
            for imported in file.dependency:
                add(imported)
            pool.AddSerializedFile(file.SerializeToString())

    for name in list(files):
        add(name)
    return pool


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_a_tool_with_a_token_learns_enough_to_call(catalog: Catalog, version: str) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    metadata = catalog.world.token(MEMBER, project=new_id())
    listed, described = await reflect(
        catalog, version, metadata, ask(list_services=""), ask(file_containing_symbol=RESOURCE)
    )
    names = {each.name for each in listed.list_services_response.service}
    assert {RESOURCE, "mulligan.catalog.v1.CatalogService", "grpc.health.v1.Health"} <= names
    pool = pool_of(described.file_descriptor_response.file_descriptor_proto)
    method = pool.FindServiceByName(RESOURCE).methods_by_name["GetVocabulary"]
    request: Any = GetMessageClass(method.input_type)(region=new_id())
    call = catalog.world.channel().unary_unary(f"/{RESOURCE}/GetVocabulary")
    refused = await failure(call(request.SerializeToString(), metadata=metadata, timeout=5))
    assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "NOT_FOUND"), "the region, so it was understood"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_nobody_reads_the_api_without_a_token(catalog: Catalog, version: str) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    refused = await failure(reflect(catalog, version, (), ask))
    assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
