"""The control service, its results, its executors and its boot endpoint in one process, on real stores and BMCs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import asyncpg
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError as NoSuchConsumer

from gateways.boot_http import BootServer, BootSite, RateLimit
from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.api.control.v1 import request_response_pb2 as pb
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.api.internal.v1.task_pb2 import StepResult, Task
from mulligan.api.resource.v1 import claim_pb2
from mulligan.caller import Caller
from mulligan.clock import SECOND, now_us, to_timestamp
from mulligan.control.assembly import ControlParts
from mulligan.control.outbox import JetStreamTaskQueue, TaskQueue
from mulligan.control.results import ResultSaver
from mulligan.control.store import MIGRATIONS, Database
from mulligan.errors import NotFound, Unavailable
from mulligan.executor.assembly import ExecutorParts
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord
from mulligan.park import Park, ParkOptions
from mulligan.secretbox import SecretBox
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.migrate import migrate
from mulligan.stores.nats import RESULTS, TASKS, Handler, PullLoop, ensure_streams
from mulligan.stores.postgres import Ownership, connect_pool

PASSWORD = "park-pass-word"
ENDS_WITHIN_S = 60.0

ACTIVE = machine_pb2.MACHINE_STATE_ACTIVE
FAILED = machine_pb2.MACHINE_STATE_FAILED
ENDED = (claim_pb2.CLAIM_STATE_RELEASED, claim_pb2.CLAIM_STATE_ENDED)
SUCCEEDED = operation_pb2.OPERATION_STATE_SUCCEEDED


@dataclass
class MemoryClaims:
    """Claims in memory, as the resource service keeps them, behind both protocols that control asks it by."""

    claims: dict[str, claim_pb2.Claim] = field(default_factory=dict)
    released: list[tuple[str, str]] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    # Raised by the next calls, one each.
    failures: list[Exception] = field(default_factory=list)
    # Pages of claims that were asked about, and what is raised instead of an answer.
    asked: list[list[str]] = field(default_factory=list)
    silence: Exception | None = None

    def add(self, region: str, project: str, provider: str) -> str:
        claim = claim_pb2.Claim(id=new_id(), region=region, project=project, acquire=to_timestamp(now_us() - SECOND))
        claim.allocations.add(provider=provider, resource_type="cpu.dedicated", amount=1)
        self.claims[claim.id] = claim
        return claim.id

    async def get(self, region: str, claim: str) -> claim_pb2.Claim:
        if claim not in self.claims:
            raise NotFound(f"there is no claim {claim}")
        return self.claims[claim]

    async def ended(self, claims: Sequence[str]) -> list[str]:
        if self.silence:
            raise self.silence
        self.asked.append(list(claims))
        found = {each: self.claims.get(each) for each in claims}
        return [each for each, claim in found.items() if claim is None or claim.state in ENDED]

    async def release_claim(self, region: str, claim: str, request_id: str) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.released.append((claim, request_id))
        self.claims[claim].state = claim_pb2.CLAIM_STATE_RELEASED

    async def quarantine(self, region: str, provider: str, reason: str, request_id: str) -> None:
        self.quarantined.append((provider, reason))


@dataclass
class SwitchedQueue:
    """The task queue, and a switch to make it seem away."""

    queue: TaskQueue
    away: bool = False

    async def publish(self, task: Task, message_id: str) -> None:
        if self.away:
            raise Unavailable("NATS is away", reason="STORE_UNAVAILABLE")
        await self.queue.publish(task, message_id)


@dataclass
class Executor:
    """One executor: engine, worker process and pull loop."""

    loop: PullLoop
    task: asyncio.Task[None]
    parts: ExecutorParts
    pool: asyncpg.Pool

    async def drain(self) -> None:
        """Hands over what is not done in time."""
        await self.loop.drain(5)
        with suppress(asyncio.CancelledError):
            await self.task
        await self.parts.close()
        self.pool.terminate()


class Bench:
    """What a test works with."""

    def __init__(self, addresses: Addresses, etcd: EtcdClient, nats: Client) -> None:
        self.addresses = addresses
        self.etcd = etcd
        self.nats = nats
        self.jetstream = nats.jetstream()
        self.region = new_id()
        self.project = new_id()
        self.claims = MemoryClaims()
        self.settings = ExecutorSettings(
            log_level="info", max_tasks=10, phone_home_seconds=20, bmc_state_seconds=10, step_attempts=2
        )
        self.tenant = Caller(account=new_id(), project=self.project, grants=())
        self.operator = Caller(account=new_id(), project="", grants=(), system=True)
        self.box = SecretBox.from_file(addresses.master_key)
        self.queue = SwitchedQueue(JetStreamTaskQueue(self.connected))
        self.boot_url = ""
        self.park: Park | None = None
        self.results: list[StepResult] = []

    async def connected(self) -> JetStreamContext:
        """JetStream, as actors get it."""
        return self.jetstream

    async def open(self, stack: AsyncExitStack) -> None:
        """Schema, region, service, results and boot endpoint; no executor yet."""
        await migrate(self.addresses, "control", MIGRATIONS)
        self.pool = await connect_pool(self.addresses, maximum=8)
        stack.callback(self.pool.terminate)
        ownership = await Ownership.take(self.pool, "control", "default")
        await self.etcd.kv.put(keys.meta_region(self.region), RegionRecord(self.region, "", "").to_json())
        parts = await ControlParts.open(
            self.addresses, self.etcd, self.pool, ownership, self.queue, self.claims, apply_log_level=False
        )
        stack.push_async_callback(parts.close)
        self.service, self.boot = parts.service, parts.boot
        self.outbox, self.expiry = parts.outbox, parts.expiry
        self.database, self.changes, self.names = parts.database, parts.changes, parts.names
        self.saver = ResultSaver(Database(self.pool), self.claims, self.names, self.changes, now_us)
        self.pulling_results = await self._pull(
            stack, RESULTS, f"mulligan.results.{self.region}", self._save_result, ack_wait_s=5
        )
        await self._serve_boot(stack)

    async def executor(self, stack: AsyncExitStack, hold_s: float = 15, ack_wait_s: float = 20) -> Executor:
        """Another executor, at work."""
        pool = await connect_pool(self.addresses, maximum=4)
        parts = await ExecutorParts.open(
            self.addresses,
            self.etcd,
            pool,
            self.connected,
            lambda: self.settings,
            f"executor-{new_id()}",
            hold_s=hold_s,
        )
        subject = f"mulligan.tasks.{self.region}.*"
        loop = PullLoop(self.jetstream, TASKS, self.durable(TASKS), parts.handler, 10, ack_wait_s, [subject])
        executor = Executor(loop, asyncio.create_task(loop.run()), parts, pool)
        stack.push_async_callback(executor.drain)
        return executor

    async def start_park(self, stack: AsyncExitStack, count: int = 1, boot_s: float = 0.1) -> Park:
        """Simulated machines that boot from this bench."""
        options = ParkOptions(count=count, boot_url=self.boot_url, password=PASSWORD, boot_s=boot_s, site=_site())
        self.park = await stack.enter_async_context(Park(options))
        return self.park

    async def register(self, number: int = 0, provider: str = "", password: str = PASSWORD) -> str:
        """Registers a BMC of the park; returns its provider."""
        assert self.park is not None
        provider, bmc = provider or new_id(), self.park.bmcs[number]
        config = machine_pb2.BmcConfig(host=bmc.host, port=bmc.port, username=bmc.username, boot_mac=bmc.mac)
        request = pb.RegisterBmcRequest(
            request_id=new_id(), region=self.region, provider=provider, config=config, password=password
        )
        await self.service.register_bmc(request, self.operator)
        return provider

    async def register_anything(self, provider: str = "") -> str:
        """Registers a BMC that does not exist; returns its provider."""
        provider = provider or new_id()
        mac = "02:" + ":".join(new_id()[-10:][at : at + 2] for at in range(0, 10, 2))
        config = machine_pb2.BmcConfig(host="192.0.2.1", username="admin", boot_mac=mac)
        request = pb.RegisterBmcRequest(
            request_id=new_id(), region=self.region, provider=provider, config=config, password=PASSWORD
        )
        await self.service.register_bmc(request, self.operator)
        return provider

    def provision_request(self, provider: str, name: str = "", claim: str = "") -> pb.ProvisionRequest:
        """A request for a machine on that provider, by a claim of the tenant's."""
        claim = claim or self.claims.add(self.region, self.project, provider)
        return pb.ProvisionRequest(request_id=new_id(), region=self.region, claim=claim, name=name)

    async def provision(self, provider: str, name: str = "", claim: str = "") -> pb.ProvisionResponse:
        return await self.service.provision(self.provision_request(provider, name, claim), self.tenant)

    async def decommission(self, machine: str) -> operation_pb2.Operation:
        request = pb.DecommissionRequest(request_id=new_id(), region=self.region, machine=machine)
        return (await self.service.decommission(request, self.tenant)).operation

    async def ended(self, operation: str, within_s: float = ENDS_WITHIN_S) -> operation_pb2.Operation:
        """The operation at its end, as a watch tells it."""
        request, cursor = pb.WatchOperationRequest(region=self.region, id=operation), ""
        async with asyncio.timeout(within_s):
            while True:
                page = await self.service.watch_operation(request, self.tenant, cursor, 5)
                cursor = page.cursor
                if page.done:
                    message = page.messages[-1]
                    assert isinstance(message, pb.WatchOperationResponse)
                    return message.operation

    async def ended_patiently(self, operation: str, within_s: float = ENDS_WITHIN_S) -> operation_pb2.Operation:
        """The same while stores come and go."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await self.ended(operation, within_s)
                except Unavailable:
                    await asyncio.sleep(0.1)

    async def machine(self, machine: str) -> machine_pb2.Machine:
        request = pb.GetMachineRequest(region=self.region, id=machine)
        return (await self.service.get_machine(request, self.tenant)).machine

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET to the boot endpoint."""
        async with aiohttp.ClientSession() as http, http.get(self.boot_url + path) as answer:
            return answer.status, await answer.text()

    async def post(self, url: str, body: str = "") -> int:
        """Status of a POST."""
        async with aiohttp.ClientSession() as http, http.post(url, data=body) as answer:
            return answer.status

    async def _save_result(self, message: Msg) -> None:
        result = StepResult.FromString(message.data)
        self.results.append(result)
        await self.saver.save(result)

    async def _pull(
        self, stack: AsyncExitStack, stream: str, subject: str, handler: Handler, ack_wait_s: float
    ) -> PullLoop:
        loop = PullLoop(self.jetstream, stream, self.durable(stream), handler, 16, ack_wait_s, [subject])
        task = asyncio.create_task(loop.run())

        async def end() -> None:
            await loop.drain(5)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        stack.push_async_callback(end)
        return loop

    async def _serve_boot(self, stack: AsyncExitStack) -> None:
        site = BootSite(self.boot, self.addresses.state_dir / "boot", lambda: self.boot_url, RateLimit())
        server = BootServer(site)
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.close, 5)
        self.boot_url = f"http://127.0.0.1:{port}"

    def durable(self, stream: str) -> str:
        """Name of the consumer that this bench's executors or results share."""
        return f"test-{stream.lower()}-{self.region}"

    async def clean_up(self) -> None:
        """Leaves the shared streams as they were."""
        if not self.nats.is_connected:
            return
        for stream, subject in (
            (TASKS, f"mulligan.tasks.{self.region}.*"),
            (RESULTS, f"mulligan.results.{self.region}"),
        ):
            await self.jetstream.purge_stream(stream, subject=subject)
            with suppress(NoSuchConsumer):
                await self.jetstream.delete_consumer(stream, self.durable(stream))


@asynccontextmanager
async def opened(addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[tuple[Bench, AsyncExitStack]]:
    """A bench, and the stack on which a test puts executors and parks."""
    await ensure_streams(nats.jetstream())
    bench = Bench(addresses, etcd, nats)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bench.clean_up)
        await bench.open(stack)
        yield bench, stack


def _site() -> int:
    return int(new_id()[-2:], 16)
