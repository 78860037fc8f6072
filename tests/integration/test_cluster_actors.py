"""Actors in a real Ray with real stores: made, killed, fenced, swapped and drained under load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from actors.handles import ActorDirectory, ask_health
from actors.names import Pointer
from actors.pointers import move_pointer
from cluster.ray_actors import RayActors
from cluster.ray_head import ray_address
from cluster.reconcile import Reconciler
from cluster.shards import Making, Target
from cluster.system import system_id, take_ray
from mulligan import __version__
from mulligan.api.catalog.v1.catalog_service_pb2 import GetStatusRequest, GetStatusResponse, WatchCatalogRequest
from mulligan.caller import ANONYMOUS
from mulligan.config import Settings
from mulligan.dispatch import OK
from mulligan.errors import FailedPrecondition, Unavailable, Unimplemented
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.postgres import Ownership
from tests.integration.echo_actor import SERVICE
from tests.waiting import eventually

REQUEST = ("GetStatus", ANONYMOUS, GetStatusRequest().SerializeToString())
CALL_DEADLINE_S = 20.0


def make_echo(target: Target, name: str, addresses: Addresses, settings: Settings) -> Making:
    return Making("tests.integration.echo_actor:EchoActor", (addresses, target.shard, name))


@dataclass
class Shard:
    """A shard of the echo service, and who calls it."""

    shard: str
    etcd: EtcdClient
    actors: RayActors
    directory: ActorDirectory
    calls: int = 0
    failures: list[bytes] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return Target(SERVICE, self.shard)

    @property
    def first(self) -> str:
        """Name of its first generation."""
        return f"{SERVICE}/{self.shard}#1"

    def reconciler(self, version: str = __version__) -> Reconciler:
        return Reconciler(self.target, self.actors, version, "host", drain_s=10.0)

    async def pid(self) -> int:
        """Calls once; which process answered."""
        [(code, payload)] = await self.directory.call(SERVICE, self.shard, [REQUEST], CALL_DEADLINE_S)
        self.calls += 1
        if code != OK:
            self.failures.append(payload)
            return 0
        return int(GetStatusResponse.FromString(payload).components[0].name)

    @asynccontextmanager
    async def load(self, callers: int = 8) -> AsyncIterator[None]:
        """Callers that call without a pause while the block runs."""
        over = asyncio.Event()

        async def call() -> None:
            while not over.is_set():
                await self.pid()

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())
            try:
                yield
            finally:
                over.set()


@pytest.fixture
async def shard(ray_settings: Settings, fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Shard]:
    directory = ActorDirectory(etcd)
    await directory.start()
    found = Shard(f"s{new_id()}", etcd, RayActors(etcd, fresh_addresses, ray_settings, make_echo), directory)
    await found.reconciler().run_once()
    yield found
    await found.reconciler().drain()
    await directory.close()


async def test_a_ray_that_runs_another_system_is_not_taken(ray_settings: Settings, etcd: EtcdClient) -> None:
    own = await system_id(etcd)
    assert await system_id(etcd) == own
    address = ray_address(ray_settings)
    take_ray(own, address)
    take_ray(own, address)
    with pytest.raises(FailedPrecondition, match=f"{address} runs another Mulligan; give the etcd, nats and postgres"):
        take_ray(new_id(), address)


async def test_an_actor_serves_every_kind_of_call(shard: Shard) -> None:
    assert await shard.pid() > 0
    assert shard.first in await shard.actors.names()
    watch = WatchCatalogRequest().SerializeToString()
    page = await shard.directory.poll(SERVICE, shard.shard, "WatchCatalog", ANONYMOUS, watch, "6", 1.0)
    assert (page.cursor, page.done) == ("7", False)
    assert await shard.directory.internal(SERVICE, shard.shard, "Echo", b"hello", 5.0) == b"hello"
    with pytest.raises(Unimplemented):
        await shard.directory.internal(SERVICE, shard.shard, "None", b"", 5.0)
    own, *dependencies = await ask_health(shard.first, 5.0)
    assert own.healthy
    assert "epoch 1" in own.detail
    assert {each.name for each in dependencies} == {"etcd", "postgres"}
    assert all(each.healthy for each in dependencies)


async def test_killed_it_comes_back_by_itself_and_callers_only_wait(shard: Shard) -> None:
    before = await shard.pid()
    async with shard.load():
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: _differs(shard.pid, before), within_s=20)
    assert not shard.failures
    own, *_ = await ask_health(shard.first, 5.0)
    assert "epoch 2" in own.detail
    reconciler = shard.reconciler()
    await reconciler.run_once()
    assert reconciler.serving
    assert shard.first in await shard.actors.names()


async def test_a_new_version_takes_over_without_a_failed_call(shard: Shard) -> None:
    before = await shard.pid()
    async with shard.load():
        await eventually(lambda: shard.calls > 20)
        await shard.reconciler(version="999.0").run_once()
        await eventually(lambda: _differs(shard.pid, before))
    assert not shard.failures
    assert shard.calls > 40
    assert await shard.actors.pointer(shard.target) == Pointer(2, __version__, "host")
    assert [name for name in await shard.actors.names() if shard.shard in name] == [f"{SERVICE}/{shard.shard}#2"]


async def test_one_that_lost_its_shard_steps_down_and_comes_back_as_the_owner(
    shard: Shard, postgres_pool: asyncpg.Pool
) -> None:
    before = await shard.pid()
    async with shard.load(callers=2):
        usurper = await Ownership.take(postgres_pool, SERVICE, shard.shard)
        await eventually(lambda: _differs(shard.pid, before), within_s=20)
    assert not shard.failures
    own, *_ = await ask_health(shard.first, 5.0)
    assert f"epoch {usurper.epoch + 1}" in own.detail


async def test_one_that_is_superseded_while_it_is_away_leaves_for_good(shard: Shard) -> None:
    before = await shard.pid()
    pointer = await shard.actors.pointer(shard.target)
    assert await move_pointer(shard.etcd, SERVICE, shard.shard, pointer, Pointer(5, __version__, "host"))
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: _gone(shard, 1), within_s=20)


async def test_drained_it_is_gone_and_callers_are_told_so(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.handles.ABSENT_WAIT_S", 0.5)
    async with shard.load(callers=4):
        await eventually(lambda: shard.calls > 8)
        await shard.reconciler().drain()
        assert await _gone(shard, 1)
        await eventually(lambda: shard.failures)
    with pytest.raises(Unavailable, match="nothing serves echo"):
        await shard.directory.internal(SERVICE, shard.shard, "Echo", b"", 1.0)


async def _differs(ask: Callable[[], Awaitable[int]], before: int) -> bool:
    return await ask() not in (0, before)


async def _gone(shard: Shard, generation: int) -> bool:
    names: list[Any] = await shard.actors.names()
    return f"{SERVICE}/{shard.shard}#{generation}" not in names
