"""Health and reflection are bounded as our own services are: in number, in time, and by the token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateways import reading
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, Shards, bearer
from tests.gateway_world import World, etcd_of_its_own, failure, new_world

StatusCode = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


@pytest.fixture
async def world(gateway_addresses: Addresses) -> AsyncIterator[World]:
    async with new_world(gateway_addresses) as made:
        await made.serve("resource", Shards(lambda *_: (0, b"")))
        yield made


def health(world: World) -> Any:
    """A load balancer's view."""
    return health_pb2_grpc.HealthStub(world.channel())


def reflect(world: World, metadata: Any) -> Any:
    """A stream of questions about the API."""
    return reflection_pb2_grpc.ServerReflectionStub(world.channel()).ServerReflectionInfo(metadata=metadata, timeout=10)


async def test_a_reflection_stream_ends_with_its_token(world: World) -> None:
    caller = world.signer.caller(ADMIN)
    for metadata, reason in (
        (bearer(world.signer.token(caller)), "TOKEN_REVOKED"),
        (bearer(world.signer.token(world.signer.caller(ADMIN, lifetime_s=2))), "TOKEN_EXPIRED"),
    ):
        stream = reflect(world, metadata)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await stream.read()).list_services_response.service
        if reason == "TOKEN_REVOKED":
            await world.revoke("account", caller.account)
        told = await failure(stream.read())
        assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, reason)


async def test_reflection_takes_no_more_streams_than_it_may(world: World) -> None:
    await world.configure("resource", max_in_flight=1)
    first = reflect(world, world.token())
    await first.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await first.read()
    assert (await failure(reflect(world, world.token()).read())).reason == "TOO_MANY_REQUESTS"
    first.cancel()


async def test_a_health_check_that_is_never_asked_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ANONYMOUS_READ_S", 0.3)
    never = world.channel().stream_unary("/grpc.health.v1.Health/Check")(timeout=10)
    told = await failure(never)
    assert (told.code, told.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    broken = world.channel().unary_unary("/grpc.health.v1.Health/Check")(b"\xff", timeout=10)
    assert (await failure(broken)).reason == "MALFORMED_MESSAGE"


async def test_health_watches_end_and_leave_room_for_checks(world: World) -> None:
    await world.configure("resource", max_in_flight=1, max_deadline_seconds=1)
    first = health(world).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await first.read()).status == SERVING
    second = health(world).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await failure(second.read())).reason == "TOO_MANY_REQUESTS"
    assert (await health(world).Check(health_pb2.HealthCheckRequest(), timeout=5)).status == SERVING
    told = await failure(first.read())
    assert (told.code, told.reason) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    again = health(world).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    assert (await again.read()).status == SERVING


async def test_a_draining_gateway_still_says_that_it_drains(world: World) -> None:
    (gateway, _) = world.gateways[0]
    gateway._limits.drain()
    assert (await health(world).Check(health_pb2.HealthCheckRequest(), timeout=5)).status == SERVING
