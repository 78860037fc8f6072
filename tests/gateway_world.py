"""A gateway in this process on real etcd, real TLS and real tokens; only the shards behind it are the test's own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from etcd3aio import prefix_range_end
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from actors.handles import ask_health
from cluster.embedded.etcd import EmbeddedEtcd
from gateways.assembly import Address, Gateway, Stores
from gateways.gateway import SERVICES
from gateways.shards import ShardCaller
from gateways.status import Ask
from mulligan.caller import Grant
from mulligan.clock import SECOND, now_us
from mulligan.meta.regions import RegionRecord
from mulligan.stores import etcd as etcd_store
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, Signer, bearer, region
from tests.stores import running
from tests.waiting import eventually


class World:
    """What a test of a gateway holds: the stores, the gateway, and a plain gRPC channel to it."""

    def __init__(self, etcd: etcd_store.EtcdClient, tls_dir: Path, signer: Signer) -> None:
        self.etcd = etcd
        self.tls_dir = tls_dir
        self.signer = signer
        self.gateways: list[tuple[Gateway, Stores]] = []
        self.channels: list[grpc.aio.Channel] = []
        self.port = 0

    async def serve(self, service: str, shards: ShardCaller, ask: Ask = ask_health, port: int = 0) -> Gateway:
        """Starts a gateway; `channel` then leads to it."""
        stores = Stores(self.etcd, service)
        await stores.start()
        at = Address("127.0.0.1", port, self.tls_dir)
        gateway = Gateway(SERVICES[service], stores, shards, ask, at, now_us)
        self.port = await gateway.start()
        self.gateways.append((gateway, stores))
        return gateway

    def channel(self, port: int | None = None, **options: Any) -> grpc.aio.Channel:
        """A connection of its own."""
        credentials = grpc.ssl_channel_credentials((self.tls_dir / "ca.crt").read_bytes())
        own = (("grpc.use_local_subchannel_pool", 1), *options.items())
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port or self.port}", credentials, options=own)
        self.channels.append(channel)
        return channel

    def token(self, *grants: Grant, **fields: Any) -> tuple[tuple[str, str], ...]:
        """Metadata of a new account with these grants."""
        return bearer(self.signer.token(self.signer.caller(*(grants or (ADMIN,)), **fields)))

    async def put(self, key: str, value: bytes) -> None:
        """Writes to etcd."""
        await self.etcd.kv.put(key, value)

    async def add_region(self, *arguments: Any, **fields: Any) -> RegionRecord:
        """A region that is there once this returns."""
        record = region(*arguments, **fields)
        await self.put(keys.meta_region(record.id), record.to_json())
        await eventually(lambda: all(record.id in stores.regions.items for _, stores in self.gateways))
        return record

    async def revoke(self, kind: str, identifier: str) -> None:
        """As the IAM service does it."""
        await self.put(keys.iam_revoked(kind, identifier), json.dumps({"before_us": now_us() + SECOND}).encode())

    async def configure(self, service: str, **settings: Any) -> None:
        """Puts settings in force, as ResourceConfigure and its like store them."""
        document = {"settings": {name: {"value": value} for name, value in settings.items()}}
        await self.put(keys.settings(service), json.dumps(document).encode())

        def in_force() -> bool:
            current = [stores.settings.current for _, stores in self.gateways]
            return all(getattr(each, name) == value for each in current for name, value in settings.items())

        await eventually(in_force)

    async def close(self) -> None:
        """Ends everything."""
        for channel in self.channels:
            await channel.close()
        for gateway, stores in self.gateways:
            await gateway.drain(0.2)
            await stores.close()


@asynccontextmanager
async def etcd_of_its_own() -> AsyncIterator[Addresses]:
    """An etcd that no other test writes to."""
    with tempfile.TemporaryDirectory(prefix="mulligan-test-") as folder:
        state_dir = Path(folder)
        async with running(EmbeddedEtcd, state_dir) as server:
            yield _of_etcd_alone(state_dir, server.server.address)


def _of_etcd_alone(state_dir: Path, address: str) -> Addresses:
    return Addresses(
        etcd=(address,),
        nats="",
        postgres="",
        nats_user="",
        nats_password="",
        tls_dir=state_dir / "tls",
        master_key=state_dir / "secrets" / "master.key",
        state_dir=state_dir,
    )


@asynccontextmanager
async def new_world(addresses: Addresses) -> AsyncIterator[World]:
    """An empty etcd with one signing key."""
    client = await etcd_store.connect(addresses)
    try:
        await client.kv.delete("/mulligan/", prefix_range_end("/mulligan/"))
        signer = Signer()
        await client.kv.put(keys.iam_key(signer.key_id), signer.jwk)
        world = World(client, addresses.tls_dir, signer)
        try:
            yield world
        finally:
            await world.close()
    finally:
        await client.close()


class Failure:
    """A failed call as an independent client reads it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details()
        trailing = dict(error.trailing_metadata() or ())
        self.status_bytes: bytes = trailing.get("grpc-status-details-bin", b"")
        self.status = Status.FromString(self.status_bytes)
        self.info, self.retry, self.bad = ErrorInfo(), RetryInfo(), BadRequest()
        for detail in self.status.details:
            for known in (self.info, self.retry, self.bad):
                detail.Unpack(known)

    @property
    def reason(self) -> str:
        """The reason in its details."""
        return str(self.info.reason)

    @property
    def retry_after_s(self) -> float:
        """When to try again."""
        return float(self.retry.retry_delay.ToMilliseconds()) / 1000


async def failure(call: Any) -> Failure:
    """How a call fails; fails itself when the call does not."""
    try:
        result = await call
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    raise AssertionError(f"the call was answered: {result!r}")
