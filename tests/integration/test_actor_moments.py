"""Moments between an actor's announcement and its first answer, which callers must not notice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from actors import handles
from actors.base import ShardContext
from actors.handles import ActorDirectory
from actors.lifecycle import State
from actors.names import Pointer
from actors.pointers import move_pointer
from mulligan.api.catalog.v1.catalog_service_pb2 import GetStatusRequest
from mulligan.caller import ANONYMOUS
from mulligan.dispatch import OK, Reply
from mulligan.errors import DeadlineExceeded, MulliganError, ResourceExhausted, Unavailable, to_status
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import Announcement, EtcdClient
from tests.integration.echo_actor import SERVICE, EchoActor, EchoService
from tests.waiting import eventually

REQUEST = ("GetStatus", ANONYMOUS, GetStatusRequest().SerializeToString())


@pytest.fixture
def own_logging() -> Iterator[None]:
    """An actor sends the log of its whole process to its own file."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class EagerActor(EchoActor):
    """Is called as soon as the catalogue has it."""

    first: Reply | None = None

    async def announce(self, key: str, **fields: str) -> None:
        await super().announce(key, **fields)
        [self.first] = await self.call([REQUEST])


async def test_who_is_announced_serves(fresh_addresses: Addresses, etcd: EtcdClient, own_logging: None) -> None:
    shard = f"s{new_id()}"
    actor = EagerActor(fresh_addresses, shard, f"{SERVICE}/{shard}#1")
    try:
        assert await move_pointer(etcd, SERVICE, shard, Pointer(), Pointer(1, "1.0", "host"))
        assert await actor.start() == "serving"
        assert actor.first is not None
        assert actor.first[0] == OK
    finally:
        await actor.drain(5.0)


class StumblingActor(EchoActor):
    """Is not put in the catalogue at its first attempt, as when etcd is away for a moment; sweeps under its fence."""

    failures = 1

    async def build(self, context: ShardContext) -> EchoService:
        pool, ownership = context.owned()
        self.sweeps: asyncio.Queue[MulliganError | None] = asyncio.Queue()

        async def sweep() -> None:
            while True:
                try:
                    async with pool.acquire() as connection:
                        await ownership.check(connection)
                    self.sweeps.put_nowait(None)
                except MulliganError as error:
                    self.sweeps.put_nowait(error)
                await asyncio.sleep(0.05)

        self.keep_running("sweep", sweep)
        return await super().build(context)

    async def announce(self, key: str, **fields: str) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("etcd is away for a moment")
        await super().announce(key, **fields)


async def test_a_start_that_is_tried_again_leaves_no_work_under_a_lost_fence(
    fresh_addresses: Addresses, etcd: EtcdClient, own_logging: None
) -> None:
    shard = f"s{new_id()}"
    actor = StumblingActor(fresh_addresses, shard, f"{SERVICE}/{shard}#1")
    try:
        assert await move_pointer(etcd, SERVICE, shard, Pointer(), Pointer(1, "1.0", "host"))
        await eventually(lambda: actor.state is State.SERVING)
        [(code, _)] = await actor.call([REQUEST])
        assert code == OK
        async with asyncio.timeout(3):
            while not actor.sweeps.empty():
                actor.sweeps.get_nowait()
            assert await actor.sweeps.get() is None
    finally:
        await actor.drain(5.0)


class HesitantHandle:
    """Stands for an actor that is not ready at the first call."""

    def __init__(self) -> None:
        refusal = Unavailable("not yet", reason="SHARD_UNAVAILABLE", retry_after_s=0.2)
        self._replies: list[Reply] = [(refusal.code, to_status(refusal).SerializeToString()), (OK, b"done")]
        self.internal = self

    def remote(self, *_: Any) -> HesitantHandle:
        return self

    def future(self) -> Future[Reply]:
        answer: Future[Reply] = Future()
        answer.set_result(self._replies.pop(0))
        return answer


async def test_an_actor_that_was_not_ready_is_asked_again_soon(etcd: EtcdClient) -> None:
    directory, shard = ActorDirectory(etcd), f"s{new_id()}"
    announced = Announcement(etcd, keys.catalog_actor(SERVICE, shard), b'{"actor": "echo/x#1", "incarnation": "1"}')
    await directory.start()
    await announced.start()
    try:
        await eventually(lambda: directory.incarnation(SERVICE, shard) == "1")
        directory._entries[SERVICE, shard].handle = HesitantHandle()
        async with asyncio.timeout(3):
            assert await directory.internal(SERVICE, shard, "Echo", b"", 10.0) == b"done"
    finally:
        await announced.withdraw()
        await directory.close()


class Patient:
    """Stands for an actor that answers at once, or when it is told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.internal = self.poll = self
        self.at_once = at_once
        self.open: list[Future[Any]] = []

    def remote(self, *_: Any) -> Patient:
        return self

    def future(self) -> Future[Any]:
        self.open.append(Future())
        if self.at_once:
            self.answer()
        return self.open[-1]

    def answer(self) -> None:
        for each in self.open:
            if not each.done():
                each.set_result((OK, b"done"))


async def test_an_actor_that_is_announced_again_unchanged_is_called_at_once(etcd: EtcdClient) -> None:
    directory, shard = ActorDirectory(etcd), f"s{new_id()}"
    key, entry = keys.catalog_actor(SERVICE, shard), b'{"actor": "echo/x#1", "incarnation": "1"}'
    await etcd.kv.put(key, entry)
    await directory.start()
    try:
        directory._entries[SERVICE, shard].handle = Patient()
        await etcd.kv.delete(key)
        await eventually(lambda: directory.incarnation(SERVICE, shard) is None)
        waiting = asyncio.ensure_future(directory.internal(SERVICE, shard, "Echo", b"", 30.0))
        await eventually(lambda: (SERVICE, shard) in directory._turns)
        await etcd.kv.put(key, entry)
        async with asyncio.timeout(2):
            assert await waiting == b"done"
    finally:
        await etcd.kv.delete(key)
        await directory.close()


async def test_what_callers_gave_up_counts_until_the_actor_is_done_with_it(
    etcd: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "MAX_OPEN", 3, raising=False)
    directory, shard, actor = ActorDirectory(etcd), f"s{new_id()}", Patient(at_once=False)
    key = keys.catalog_actor(SERVICE, shard)
    await etcd.kv.put(key, b'{"actor": "echo/x#1", "incarnation": "1"}')
    await directory.start()

    def echo(timeout_s: float) -> asyncio.Future[bytes]:
        return asyncio.ensure_future(directory.internal(SERVICE, shard, "Echo", b"", timeout_s))

    try:
        directory._entries[SERVICE, shard].handle = actor
        with pytest.raises(DeadlineExceeded):
            await echo(0.05)
        calls = [echo(30.0), echo(30.0)]
        await eventually(lambda: len(actor.open) == 3)
        calls[0].cancel()
        with pytest.raises(ResourceExhausted, match="try again") as refused:
            await echo(0.05)
        assert (refused.value.reason, refused.value.retry_after_s) == ("TOO_MANY_REQUESTS", 1)
        with pytest.raises(DeadlineExceeded):  # calls of another kind have their own places
            await directory._one((SERVICE, shard), "poll", (), 0.05)
        actor.answer()
        assert await calls[1] == b"done"
        actor.at_once = True
        assert await echo(5.0) == b"done"
    finally:
        await etcd.kv.delete(key)
        await directory.close()
