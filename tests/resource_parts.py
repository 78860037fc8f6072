"""The resource service on real stores, driven as an actor drives it: serialized requests in, replies out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import asyncpg
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from mulligan.api.resource.v1 import claim_pb2, provider_pb2, resource_service_pb2, vocabulary_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import SECOND, now_us
from mulligan.dispatch import OK, MethodTable, Reply
from mulligan.errors import MulliganError, from_status
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord
from mulligan.resource.service import MIGRATIONS, SERVICE, ResourceService
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.migrate import migrate
from mulligan.stores.postgres import Ownership, connect_pool

DESCRIPTOR = resource_service_pb2.DESCRIPTOR.services_by_name["ResourceService"]
HOUR = 3600 * SECOND
GIB = 2**30

# The profiles of the deployments that come with Mulligan.
SHARED = provider_pb2.ProviderConfig(
    provider_type="compute",
    capabilities=["cpu.x86.avx2", "cpu.x86.vmx", "storage.disk.hdd"],
    inventories=[
        provider_pb2.Inventory(resource_type="cpu.shared", total=24, allocation_ratio=16.0),
        provider_pb2.Inventory(
            resource_type="memory",
            total=128 * GIB,
            reserved=GIB // 4,
            allocation_ratio=1.5,
            min_unit=GIB // 16,
            max_unit=96 * GIB,
            step_size=GIB // 16,
        ),
        provider_pb2.Inventory(resource_type="storage.block", total=10**12, min_unit=10**9, step_size=10**9),
    ],
)
DEDICATED = provider_pb2.ProviderConfig(
    provider_type="compute",
    capabilities=["storage.disk.ssd"],
    inventories=[
        provider_pb2.Inventory(resource_type="cpu.shared", total=12),
        provider_pb2.Inventory(
            resource_type="memory", total=64 * GIB, reserved=GIB // 4, min_unit=GIB // 16, step_size=GIB // 16
        ),
        provider_pb2.Inventory(resource_type="storage.block", total=4 * 10**12, min_unit=10**9, step_size=10**9),
    ],
)
SMALL = [("cpu.shared", 1), ("memory", GIB // 16), ("storage.block", 10**10)]
VOCABULARY = vocabulary_pb2.Vocabulary(
    provider_types=["compute"],
    resource_types=[
        vocabulary_pb2.ResourceType(code="cpu.shared", unit="cores"),
        vocabulary_pb2.ResourceType(code="memory", unit="bytes"),
        vocabulary_pb2.ResourceType(code="storage.block", unit="bytes"),
    ],
    capabilities=["cpu.x86.avx2", "cpu.x86.vmx", "storage.disk.hdd", "storage.disk.ssd"],
    distance_types=[
        vocabulary_pb2.DistanceType(code="network", positions=["local", "site", "remote"]),
        vocabulary_pb2.DistanceType(code="failure", positions=["local", "rack", "row", "site"]),
    ],
)
SPANS = {"site": ("site", "row"), "row": ("site", "rack"), "rack": ("local", "local")}


class MovableClock:
    """The system's clock, moved forward by hand."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> int:
        return now_us() + self.ahead_us


@dataclass
class Shard:
    """A running service, and the ways to call it."""

    addresses: Addresses
    pool: asyncpg.Pool
    etcd: EtcdClient
    service: ResourceService
    region: str
    clock: MovableClock
    operator: Caller
    tenant: Caller
    groups: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = MethodTable(DESCRIPTOR, self.service)

    async def call(self, method: str, request: Message, caller: Caller | None = None) -> Any:
        """The response; raises what the service refuses with. The operator asks unless said otherwise."""
        return answer(method, await self.table.call(method, caller or self.operator, request.SerializeToString()))

    async def claim(self, spec: claim_pb2.ClaimSpec, **fields: Any) -> claim_pb2.Claim:
        """A claim made by the tenant."""
        caller = fields.pop("caller", self.tenant)
        request = pb.CreateClaimRequest(**{"request_id": new_id(), "region": self.region, "spec": spec, **fields})
        response = await self.call("CreateClaim", request, caller)
        return response.claim  # type: ignore[no-any-return]

    async def release(self, claim: str, **fields: Any) -> claim_pb2.Claim:
        """A claim given back by the tenant."""
        request = pb.ReleaseClaimRequest(**{"request_id": new_id(), "region": self.region, "id": claim, **fields})
        response = await self.call("ReleaseClaim", request, self.tenant)
        return response.claim  # type: ignore[no-any-return]

    async def group(self, name: str, kind: str) -> str:
        """Id of a provider group that is as large as a site, row or rack; made when there is none."""
        if name not in self.groups:
            network, failure = SPANS[kind]
            spans = [
                provider_pb2.Span(distance_type="network", position=network),
                provider_pb2.Span(distance_type="failure", position=failure),
            ]
            request = pb.CreateProviderGroupRequest(request_id=new_id(), region=self.region, name=name, spans=spans)
            self.groups[name] = (await self.call("CreateProviderGroup", request)).group.id
        return self.groups[name]

    async def provider(self, config: provider_pb2.ProviderConfig = SHARED, name: str = "", **fields: Any) -> str:
        """Id of a new provider; `groups` are names of groups that exist."""
        mine = provider_pb2.ProviderConfig()
        mine.CopyFrom(config)
        mine.groups.extend(self.groups[each] for each in fields.pop("groups", ()))
        given = {"request_id": new_id(), "region": self.region, "name": name, "config": mine, **fields}
        response = await self.call("CreateProvider", pb.CreateProviderRequest(**given))
        return response.provider.id  # type: ignore[no-any-return]

    async def load_racks(self, racks: int, nodes: int = 20, config: provider_pb2.ProviderConfig = SHARED) -> None:
        """Racks full of providers, in one site of rows of 25 racks."""
        records = []
        for rack in range(racks):
            row = f"row{rack // 25}"
            names = [("site", "site"), (row, "row"), (f"{row}-rack{rack}", "rack")]
            groups = [await self.group(*each) for each in names]
            mine = provider_pb2.ProviderConfig()
            mine.CopyFrom(config)
            mine.groups.extend(groups)
            for node in range(nodes):
                name = f"{row}-rack{rack}-node{node}"
                record = pb.LoadProvidersRequest(request_id=new_id(), region=self.region, name=name, config=mine)
                records.append(record.SerializeToString())
        await self.load(records)

    async def load(self, records: Sequence[bytes], chunk: int = 256) -> pb.LoadProvidersResponse:
        """Loads serialized records chunk by chunk; the sum of the answers."""
        total = pb.LoadProvidersResponse()
        for at in range(0, len(records), chunk):
            reply = await self.table.chunk("LoadProviders", self.operator, records[at : at + chunk], at)
            response = answer("LoadProviders", reply)
            total.received, total.stored = response.received, total.stored + response.stored
            total.errors.extend(response.errors)
        return total

    async def crash(self) -> None:
        """The process is gone: nothing that waits is stored, nothing is said."""
        writer = self.service.core.memory.writer
        self.service.core._memory = None
        assert writer._task is not None
        writer._task.cancel()
        await asyncio.wait([writer._task])
        if writer._connection is not None:
            writer._connection.terminate()
        await self.service._settings.close()
        await self.service.core.regions.close()

    async def restarted(self) -> Shard:
        """Another service for the same shard, which takes it over."""
        service = await open_service(self.pool, self.etcd, self.service.core.store.shard, self.clock)
        return replace(self, service=service)


async def open_service(pool: asyncpg.Pool, etcd: EtcdClient, shard: str, clock: MovableClock) -> ResourceService:
    """A service that owns the shard."""
    ownership = await Ownership.take(pool, SERVICE, shard)
    return await ResourceService.open(pool, ownership, etcd, clock=clock, random=Random(1))


@asynccontextmanager
async def running_shard(addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    """A shard of its own with one region and the vocabulary."""
    await migrate(addresses, SERVICE, MIGRATIONS)
    pool = await connect_pool(addresses, maximum=8)
    region, shard, clock = new_id(), f"shard-{new_id()}", MovableClock()
    await put_region(etcd, region, shard)
    service = await open_service(pool, etcd, shard, clock)
    operator = Caller(account=new_id(), project="", grants=(), system=True)
    tenant = Caller(account=new_id(), project=new_id(), grants=())
    running = Shard(addresses, pool, etcd, service, region, clock, operator, tenant)
    try:
        request = pb.DefineVocabularyRequest(request_id=new_id(), region=region, vocabulary=VOCABULARY)
        await running.call("DefineVocabulary", request)
        yield running
    finally:
        await service.close()
        pool.terminate()


async def put_region(etcd: EtcdClient, region: str, shard: str, parent: str = "", **fields: Any) -> None:
    """A region, as the metadata service stores one."""
    record = RegionRecord(region, parent, shard, **fields)
    await etcd.kv.put(keys.meta_region(region), record.to_json())


def spec_of(
    resources: Sequence[tuple[str, int]] = tuple(SMALL), begin: int | None = None, end: int | None = None, **group: Any
) -> claim_pb2.ClaimSpec:
    """A claim of one group; the window in microseconds."""
    wanted = [claim_pb2.ResourceConstraint(resource_type=kind, min=amount) for kind, amount in resources]
    return in_window(claim_pb2.ClaimSpec(groups=[claim_pb2.RequestGroup(resources=wanted, **group)]), begin, end)


def in_window(spec: claim_pb2.ClaimSpec, begin: int | None, end: int | None) -> claim_pb2.ClaimSpec:
    """The spec with that window."""
    if begin is not None:
        spec.acquire.FromMicroseconds(begin)
    if end is not None:
        spec.release.FromMicroseconds(end)
    return spec


def answer(method: str, reply: Reply) -> Any:
    """The response in a reply; raises what it refuses with."""
    code, payload = reply
    if code != OK:
        raise from_status(Status.FromString(payload))
    return GetMessageClass(DESCRIPTOR.methods_by_name[method].output_type).FromString(payload)


async def refusal(awaitable: Any) -> MulliganError:
    """What the call is refused with."""
    try:
        await awaitable
    except MulliganError as error:
        return error
    raise AssertionError("nothing was refused")
