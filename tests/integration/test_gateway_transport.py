"""What the transport takes from a caller before any of our own limits look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from gateways import limits
from mulligan.api.iam.v1 import iam_service_pb2_grpc
from mulligan.api.iam.v1 import request_response_pb2 as iam_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import resource_service_pb2_grpc
from mulligan.api.resource.v1.resource_client import GET_VOCABULARY
from mulligan.caller import Grant
from mulligan.client._grpc import GrpcTransport
from mulligan.iam.tokens import MAX_TOKEN_CHARACTERS
from mulligan.ids import new_id
from mulligan.runtime_settings import MAX_REQUEST_BYTES
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, Shards, bearer
from tests.gateway_world import World, etcd_of_its_own, failure, new_world

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


@pytest.fixture
async def world(gateway_addresses: Addresses) -> AsyncIterator[World]:
    async with new_world(gateway_addresses) as made:
        yield made


def a_large_token(world: World) -> tuple[tuple[str, str], ...]:
    """Nearly as large as a token may be: more than four hundred grants."""
    grants = [ADMIN, *(Grant("operator", True, new_id()) for _ in range(500))]
    while len(token := world.signer.token(world.signer.caller(*grants))) > MAX_TOKEN_CHARACTERS:
        grants.pop()
    return bearer(token)


async def test_a_token_as_large_as_it_may_be_is_taken_every_time(world: World) -> None:
    region = (await world.add_region()).id
    await world.serve("resource", Shards(lambda *_: (0, b"")))
    metadata = a_large_token(world)
    assert len(metadata[0][1]) > MAX_TOKEN_CHARACTERS - 200
    stub = resource_service_pb2_grpc.ResourceServiceStub(world.channel())
    request = pb.GetVocabularyRequest(region=region)
    await asyncio.gather(*[stub.GetVocabulary(request, metadata=metadata, timeout=10) for _ in range(50)])
    transport = GrpcTransport((world.tls_dir / "ca.crt").read_bytes())
    await transport.unary(f"127.0.0.1:{world.port}", GET_VOCABULARY, request, metadata, 10)
    await transport.close()


async def test_what_is_compressed_is_refused_unread(world: World) -> None:
    await world.serve("iam", Shards(lambda *_: (0, b""), served=["global"]))
    stub = iam_service_pb2_grpc.IamServiceStub(world.channel())
    bomb = iam_pb2.LoginRequest(secret="x" * 10_000_000)
    refused = stub.Login(bomb, timeout=10, compression=grpc.Compression.Gzip)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await refused
    assert told.value.code() == StatusCode.UNIMPLEMENTED
    await stub.Login(iam_pb2.LoginRequest(), timeout=10)


async def test_more_than_any_setting_allows_is_not_taken_in(world: World) -> None:
    await world.serve("iam", Shards(lambda *_: (0, b""), served=["global"]))
    await world.configure("iam", max_request_bytes=MAX_REQUEST_BYTES)
    stub = iam_service_pb2_grpc.IamServiceStub(world.channel())
    await stub.Login(iam_pb2.LoginRequest(secret="x" * (MAX_REQUEST_BYTES - 100)), timeout=20)
    told = await failure(stub.Login(iam_pb2.LoginRequest(secret="x" * (MAX_REQUEST_BYTES + 100)), timeout=20))
    assert told.reason == "MESSAGE_TOO_LARGE"
    with pytest.raises(grpc.aio.AioRpcError) as dropped:
        await stub.Login(iam_pb2.LoginRequest(secret="x" * (MAX_REQUEST_BYTES + 2_000_000)), timeout=20)
    assert dropped.value.code() == StatusCode.RESOURCE_EXHAUSTED
    assert limits.ANONYMOUS_READS * MAX_REQUEST_BYTES <= 128 * 1024 * 1024
