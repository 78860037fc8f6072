"""The pull loop against a real NATS: restarts, redelivery, heartbeats, draining, poison."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from cluster.embedded.nats import EmbeddedNats
from mulligan.config import Settings
from mulligan.errors import Unavailable
from mulligan.ids import new_id
from mulligan.stores import nats as nats_store
from mulligan.stores.addresses import Addresses
from mulligan.stores.nats import DEAD, RESULTS, TASKS, Handler, Poisoned, PullLoop, ensure_streams
from tests.stores import running
from tests.waiting import eventually


class Taker:
    """A handler that counts, and does to each message what the test says."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.failures_left: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most_running = 0

    async def __call__(self, message: Msg) -> None:
        text = message.data.decode()
        self.seen[text] += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.gate.wait()
            if self.failures_left[text]:
                self.failures_left[text] -= 1
                raise RuntimeError(f"told to fail on {text}")
        finally:
            self.running -= 1
        self.done[text] += 1


@asynccontextmanager
async def pulling(
    jetstream: JetStreamContext, handler: Handler, subject: str, *, concurrency: int = 4, ack_wait_s: float = 5.0
) -> AsyncIterator[PullLoop]:
    name = f"test-{subject.replace('.', '-')}"
    loop = PullLoop(jetstream, TASKS, name, handler, concurrency, ack_wait_s, [subject])
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        await loop.drain(5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if jetstream._nc.is_connected:
            await jetstream.purge_stream(TASKS, subject=subject)
            with contextlib.suppress(NotFoundError):  # two loops may share it
                await jetstream.delete_consumer(TASKS, name)


def own_subject() -> str:
    return f"mulligan.tasks.{new_id()}.test"


async def left_in(jetstream: JetStreamContext, stream: str) -> int:
    return (await jetstream.stream_info(stream)).state.messages


async def test_streams_are_as_designed(nats: Client) -> None:
    jetstream = nats.jetstream()
    await ensure_streams(jetstream)
    for name, retention in ((TASKS, "workqueue"), (RESULTS, "workqueue"), (DEAD, "limits")):
        config = (await jetstream.stream_info(name)).config
        assert (config.retention, config.storage) == (retention, "file")


async def test_repeated_message_id_is_stored_once(nats: Client) -> None:
    jetstream, subject = nats.jetstream(), own_subject()
    first = await jetstream.publish(subject, b"1", headers={"Nats-Msg-Id": subject})
    second = await jetstream.publish(subject, b"1", headers={"Nats-Msg-Id": subject})
    assert (first.duplicate, second.duplicate, first.seq) == (None, True, second.seq)
    await jetstream.purge_stream(TASKS, subject=subject)


async def test_wrong_password_is_refused(addresses: Addresses) -> None:
    with pytest.raises(Unavailable) as refused:
        await nats_store.connect(replace(addresses, nats_password="wrong"), "stranger")
    assert "wrong" not in refused.value.message


async def test_closed_connection_ends_the_loop(addresses: Addresses) -> None:
    client = await nats_store.connect(addresses, "test")
    loop = PullLoop(client.jetstream(), TASKS, f"test-{new_id()}", Taker(), 1, 5.0, [own_subject()])
    task = asyncio.create_task(loop.run())
    await eventually(lambda: loop.waiting)
    await client.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(task, 5)


async def test_each_message_is_handled_once_within_concurrency(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    taker.gate.clear()
    async with pulling(jetstream, taker, subject, concurrency=3):
        for number in range(50):
            await jetstream.publish(subject, str(number).encode())
        await eventually(lambda: taker.running == 3)
        taker.gate.set()
        await eventually(lambda: len(taker.done) == 50)
    assert set(taker.seen.values()) == {1}
    assert taker.most_running == 3


async def test_two_takers_share_the_work(nats: Client) -> None:
    jetstream, subject = nats.jetstream(), own_subject()
    one, other = Taker(), Taker()
    one.gate.clear()
    other.gate.clear()
    async with pulling(jetstream, one, subject, concurrency=2), pulling(jetstream, other, subject, concurrency=2):
        for number in range(6):
            await jetstream.publish(subject, str(number).encode())
        await eventually(lambda: (one.running, other.running) == (2, 2))
        one.gate.set()
        other.gate.set()
        await eventually(lambda: len(one.done) + len(other.done) == 6)
    assert set((one.seen + other.seen).values()) == {1}


async def test_new_message_arrives_at_once_after_a_quiet_time(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    clock = asyncio.get_running_loop().time
    async with pulling(jetstream, taker, subject) as loop:
        await eventually(lambda: loop.waiting)
        for number in range(5):
            before = clock()
            await jetstream.publish(subject, str(number).encode())
            await eventually(lambda: taker.done[str(number)] == 1)  # noqa: B023 -- awaited in this very turn
            assert clock() - before < 0.4


async def test_failed_message_comes_again_later(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    taker.failures_left["x"] = 2
    async with pulling(jetstream, taker, subject):
        await jetstream.publish(subject, b"x")
        await eventually(lambda: taker.done["x"] == 1)
    assert taker.seen["x"] == 3


async def test_long_handler_keeps_its_message(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    taker.gate.clear()
    ack_wait_s = 0.6
    async with pulling(jetstream, taker, subject, ack_wait_s=ack_wait_s):
        await jetstream.publish(subject, b"slow")
        await eventually(lambda: taker.running == 1)
        loop = asyncio.get_running_loop()
        end = loop.time() + 3 * ack_wait_s
        await eventually(lambda: loop.time() > end)
        taker.gate.set()
        await eventually(lambda: taker.done["slow"] == 1)
    assert taker.seen["slow"] == 1


async def test_drain_lets_running_handlers_finish(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    taker.gate.clear()
    async with pulling(jetstream, taker, subject, concurrency=1) as loop:
        for text in (b"running", b"waiting"):
            await jetstream.publish(subject, text)
        await eventually(lambda: taker.running == 1)
        draining = asyncio.create_task(loop.drain(10))
        await eventually(lambda: loop.draining)
        taker.gate.set()
        await draining
        assert taker.done == {"running": 1}
        assert (await jetstream.stream_info(TASKS, subjects_filter=subject)).state.subjects == {subject: 1}


async def test_drain_gives_back_what_is_not_done_in_time(nats: Client) -> None:
    jetstream, subject, slow, quick = nats.jetstream(), own_subject(), Taker(), Taker()
    slow.gate.clear()
    async with pulling(jetstream, slow, subject, ack_wait_s=60.0) as loop:
        await jetstream.publish(subject, b"x")
        await eventually(lambda: slow.running == 1)
        await loop.drain(0.1)
        assert (slow.running, slow.done["x"]) == (0, 0)
        async with pulling(jetstream, quick, subject, ack_wait_s=60.0):
            await eventually(lambda: quick.done["x"] == 1, within_s=5)


async def test_poison_is_parked_with_its_history(nats: Client) -> None:
    jetstream, subject = nats.jetstream(), own_subject()
    before = await left_in(jetstream, DEAD)

    async def refuse(message: Msg) -> None:
        raise Poisoned("not a task:\nbad field")

    async with pulling(jetstream, refuse, subject):
        await jetstream.publish(subject, b"x")

        async def parked() -> bool:
            return await left_in(jetstream, DEAD) == before + 1

        await eventually(parked)
    found = await jetstream.get_last_msg(DEAD, f"mulligan.dead.{subject.removeprefix('mulligan.')}")
    assert found.data == b"x"
    assert found.headers
    assert found.headers["Mulligan-Cause"] == "not a task: bad field"
    assert (found.headers["Mulligan-Subject"], found.headers["Mulligan-Deliveries"]) == (subject, "1")


async def test_deleted_consumer_is_made_again(nats: Client) -> None:
    jetstream, subject, taker = nats.jetstream(), own_subject(), Taker()
    async with pulling(jetstream, taker, subject) as loop:
        await eventually(lambda: loop.waiting)
        await jetstream.delete_consumer(TASKS, f"test-{subject.replace('.', '-')}")
        await jetstream.publish(subject, b"x")
        await eventually(lambda: taker.done["x"] == 1)


async def test_work_goes_on_over_a_kill_and_restart(state_dir: Path) -> None:
    async with running(EmbeddedNats, state_dir) as server:
        addresses = Addresses.load(Settings(state_dir=state_dir, etcd="unused:1", postgres="unused"))
        client = await nats_store.connect(addresses, "test")
        jetstream, subject, taker = client.jetstream(), own_subject(), Taker()
        await ensure_streams(jetstream)
        async with pulling(jetstream, taker, subject, concurrency=2, ack_wait_s=2.0):
            await jetstream.publish(subject, b"before")
            await eventually(lambda: taker.done["before"] == 1)
            taker.gate.clear()
            await jetstream.publish(subject, b"during")
            await eventually(lambda: taker.running == 1)
            await server.kill()
            await server.start()
            taker.gate.set()
            await eventually(lambda: client.is_connected)
            await jetstream.publish(subject, b"after", timeout=10)
            await eventually(lambda: taker.done["after"] == 1, within_s=10)
            await eventually(lambda: left_in_is_zero(jetstream), within_s=15)
            assert taker.done["during"] >= 1
        await client.close()
        await server.stop()
        assert server.return_code == 0


async def left_in_is_zero(jetstream: JetStreamContext) -> bool:
    return await left_in(jetstream, TASKS) == 0
