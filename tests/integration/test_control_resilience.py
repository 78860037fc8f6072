"""Operations end rightly whatever is killed on the way, and no password is left anywhere."""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from cluster.embedded.etcd import EmbeddedEtcd
from cluster.embedded.nats import EmbeddedNats
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.server import EmbeddedServer
from mulligan.api.internal.v1 import task_pb2
from mulligan.config import Settings
from mulligan.control import model
from mulligan.control.outbox import task_of
from mulligan.control.store import find_operation
from mulligan.executor.engine import MAX_RUNS
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores import nats as nats_store
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.nats import DEAD, ensure_streams
from mulligan.stores.transactions import read_prefix
from tests.integration.control_bench import ACTIVE, PASSWORD, SUCCEEDED, Bench, opened
from tests.integration.executor_process import ExecutorOrder
from tests.stores import RunningServer, embedded, make_keys
from tests.waiting import eventually

KINDS: tuple[type[EmbeddedServer], ...] = (EmbeddedEtcd, EmbeddedNats, EmbeddedPostgres)


async def start_executor_process(bench: Bench, stack: AsyncExitStack) -> asyncio.subprocess.Process:
    """An executor that can be killed without a chance to say goodbye."""
    order = ExecutorOrder(
        bench.addresses, bench.durable("TASKS"), f"mulligan.tasks.{bench.region}.*", bench.settings.SerializeToString()
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.executor_process", stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(order))
    await process.stdin.drain()

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process


def seen(bench: Bench, step: str, outcome: task_pb2.Outcome = task_pb2.OUTCOME_STARTED) -> bool:
    return any(result.step == step and result.outcome == outcome for result in bench.results)


@pytest.mark.parametrize("step", [model.READ_POWER, model.POWER_ON, model.WAIT_PHONE_HOME])
async def test_an_executor_that_is_killed_is_followed_by_another(
    fresh_addresses: Addresses, etcd: EtcdClient, nats: Client, step: str
) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        park = await bench.start_park(stack, boot_s=1.0)
        first = await start_executor_process(bench, stack)
        begun = await bench.provision(await bench.register())
        await eventually(lambda: seen(bench, step))
        first.kill()
        await first.wait()
        await start_executor_process(bench, stack)
        assert (await bench.ended(begun.operation.id)).state == SUCCEEDED
        shown = await park.show(0)
        assert (shown["boots"], shown["power_commands"], shown["reports"]) == (1, 1, 1)
        assert {result.fence for result in bench.results} == {1, 2}


async def test_a_task_that_is_delivered_thrice_is_done_once(
    fresh_addresses: Addresses, etcd: EtcdClient, nats: Client
) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        park = await bench.start_park(stack, boot_s=0.5)
        for _ in range(2):
            await bench.executor(stack)
        begun = await bench.provision(await bench.register())
        async with bench.database.reading() as connection:
            operation = await find_operation(connection, begun.operation.id)
        assert operation is not None
        for _ in range(2):
            await bench.queue.publish(task_of(operation), new_id())
        assert (await bench.ended(begun.operation.id)).state == SUCCEEDED
        shown = await park.show(0)
        assert (shown["boots"], shown["power_commands"], shown["scripts"]) == (1, 1, 1)
        assert await bench.pool.fetchval("SELECT runs FROM control.operations") == 1
        await eventually(lambda: _nothing_left(bench))


async def _nothing_left(bench: Bench) -> bool:
    info = await bench.jetstream.stream_info("TASKS", subjects_filter=f"mulligan.tasks.{bench.region}.*")
    return not (info.state.subjects or {})


async def test_an_executor_that_drains_hands_over(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        park = await bench.start_park(stack, boot_s=1.0)
        first = await bench.executor(stack)
        begun = await bench.provision(await bench.register())
        await eventually(lambda: seen(bench, model.WAIT_PHONE_HOME))
        await first.loop.drain(0.1)
        await bench.executor(stack)
        assert (await bench.ended(begun.operation.id)).state == SUCCEEDED
        assert (await park.show(0))["boots"] == 1
        assert await bench.pool.fetchval("SELECT runs FROM control.operations") == 1


async def test_a_task_that_kills_executors_is_parked_with_its_history(
    fresh_addresses: Addresses, etcd: EtcdClient, nats: Client
) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        await bench.start_park(stack)
        begun = await bench.provision(await bench.register())
        await bench.pool.execute("UPDATE control.operations SET runs = $1", MAX_RUNS)
        await bench.executor(stack)
        done = await bench.ended(begun.operation.id)
        assert (done.error.reason, done.error.step) == ("TASK_ATTEMPTS_EXHAUSTED", "read-power")
        letter = await eventually(lambda: _dead_letter(bench))
        assert (
            letter.data
            == task_pb2.Task(
                operation=done.id, machine=done.machine, region=bench.region, kind="provision"
            ).SerializeToString()
        )
        assert "read-power" in letter.headers["Mulligan-History"]
        assert "taken too often" in letter.headers["Mulligan-Cause"]


async def test_a_dead_letter_that_is_lost_on_the_way_is_written_again(
    fresh_addresses: Addresses, etcd: EtcdClient, nats: Client
) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        begun = await bench.provision(await bench.register_anything())
        await bench.pool.execute("UPDATE control.operations SET runs = $1", MAX_RUNS)
        await bench.jetstream.delete_stream(DEAD)
        try:
            await bench.executor(stack, ack_wait_s=2)
            assert (await bench.ended(begun.operation.id)).error.reason == "TASK_ATTEMPTS_EXHAUSTED"
        finally:
            await ensure_streams(bench.jetstream)
        letter = await eventually(lambda: _dead_letter(bench))
        assert "read-power" in letter.headers["Mulligan-History"]


async def test_what_can_be_no_task_is_parked(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        await bench.executor(stack)
        subject = f"mulligan.tasks.{bench.region}.provision"
        for each in (task_pb2.Task(), task_pb2.Task(operation="provision-1", kind="provision")):
            await bench.jetstream.publish(subject, each.SerializeToString())
        await eventually(lambda: _dead_letters(bench, 2))
        # Whoever knows this kind will take it.
        later = task_pb2.Task(operation=new_id(), kind="later")
        await bench.jetstream.publish(subject, later.SerializeToString())
        await eventually(lambda: _redelivered(bench))
        assert await _dead_letters(bench, 2)


async def _dead_letters(bench: Bench, count: int) -> bool:
    subject = f"mulligan.dead.tasks.{bench.region}.provision"
    info = await bench.jetstream.stream_info(DEAD, subjects_filter=subject)
    return (info.state.subjects or {}).get(subject) == count


async def _redelivered(bench: Bench) -> bool:
    return bool((await bench.jetstream.consumer_info("TASKS", bench.durable("TASKS"))).num_redelivered)


async def _dead_letter(bench: Bench) -> object:
    try:
        return await bench.jetstream.get_last_msg(DEAD, f"mulligan.dead.tasks.{bench.region}.provision")
    except Exception:
        return None


class Servers:
    """Stores of a test's own, which it may kill."""

    def __init__(self, state_dir: Path) -> None:
        self.by_kind = {kind: RunningServer(embedded(kind, state_dir), state_dir) for kind in KINDS}

    async def restart(self, kind: type[EmbeddedServer]) -> None:
        await self.by_kind[kind].kill()
        await self.by_kind[kind].start()


@asynccontextmanager
async def own_stores(state_dir: Path) -> AsyncIterator[tuple[Servers, Addresses]]:
    make_keys(state_dir)
    servers = Servers(state_dir)
    async with AsyncExitStack() as stack:
        for server in servers.by_kind.values():
            stack.push_async_callback(server.stop)
        await asyncio.gather(*(server.prepare_and_start() for server in servers.by_kind.values()))
        yield servers, Addresses.load(Settings(state_dir=state_dir))


async def test_stores_that_are_killed_in_the_middle_cost_time_only(state_dir: Path) -> None:
    async with own_stores(state_dir) as (servers, addresses), AsyncExitStack() as clients:
        etcd = await etcd_store.connect(addresses)
        clients.push_async_callback(etcd.close)
        nats = await nats_store.connect(addresses, "test")
        clients.push_async_callback(nats.close)
        async with opened(addresses, etcd, nats) as (bench, stack):
            park = await bench.start_park(stack, count=3, boot_s=1.0)
            await bench.executor(stack)
            for number, kind in enumerate(KINDS):
                begun = await bench.provision(await bench.register(number))
                await eventually(partial(_waits_for_home, bench, begun.operation.id))
                await servers.restart(kind)
                done = await bench.ended_patiently(begun.operation.id)
                assert done.state == SUCCEEDED, (kind, done)
                assert (await bench.machine(begun.machine.id)).state == ACTIVE
                shown = await park.show(number)
                assert (shown["boots"], shown["power_commands"]) == (1, 1)


def _waits_for_home(bench: Bench, operation: str) -> bool:
    return any(result.operation == operation and result.step == model.WAIT_PHONE_HOME for result in bench.results)


async def test_no_password_is_left_anywhere(
    fresh_addresses: Addresses, etcd: EtcdClient, nats: Client, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [PASSWORD, "wr0ng-pass-word"]
    traces = [
        each
        for secret in secrets
        for each in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode())
    ]
    caplog.set_level(logging.DEBUG)
    messages: list[bytes] = []

    async def keep(message: Msg) -> None:
        messages.append(message.data + str(message.headers).encode())

    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        subscription = await nats.subscribe("mulligan.>", cb=keep)
        await bench.start_park(stack)
        await bench.executor(stack)
        provider = await bench.register(password=secrets[1])
        request = bench.provision_request(provider)
        begun = await bench.service.provision(request, bench.tenant)
        assert (await bench.ended(begun.operation.id)).error.reason == "BMC_REFUSED_CREDENTIALS"
        await bench.register(provider=provider)
        again = await bench.provision(provider, claim=request.claim)
        assert (await bench.ended(again.operation.id)).state == SUCCEEDED
        await bench.ended((await bench.decommission(again.machine.id)).id)

        found = await _tables(bench)
        found += [each.decode("latin-1") for each in messages]
        found += [each.value.decode("latin-1") for each in (await read_prefix(etcd, "/mulligan/")).values()]
        found += [record.getMessage() + str(record.exc_text) for record in caplog.records]
        await subscription.unsubscribe()
    assert len(messages) > 10
    assert any("refused the password" in each for each in found)
    leaks = [each[:200] for each in found for trace in traces if trace in each]
    assert leaks == []


async def _tables(bench: Bench) -> list[str]:
    """Every row of every table, as text; bytes as hex and as Latin-1."""
    tables = await bench.pool.fetch(
        "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname IN ('control', 'mulligan')"
    )
    found = []
    for table in tables:
        rows = await bench.pool.fetch(f"SELECT * FROM {table['name']}")
        assert rows or table["name"] not in ("control.bmcs", "control.operations", "control.requests")
        for row in rows:
            found.append(" ".join(str(value) for value in row.values()))
            found += [value.hex() + value.decode("latin-1") for value in row.values() if isinstance(value, bytes)]
    return found
