"""Requests for one shard: batches, their limits, and a reply for everyone whatever the shard does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from gateways.coalesce import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, WORTH_A_CALL, Coalescer, ShardQueue
from gateways.gateway import SERVICES
from gateways.methods import Method, methods_of
from mulligan.caller import ANONYMOUS, Caller
from mulligan.dispatch import Reply
from mulligan.errors import Unavailable, from_status
from tests.gateway_parts import Shards
from tests.waiting import eventually

METHODS = {method.name: method for name in ("resource", "iam") for method in methods_of(SERVICES[name])}
CREATE, SOLO, ONCE = METHODS["CreateClaim"], METHODS["ExplainClaim"], METHODS["Refresh"]


def echo(_shard: str, _method: str, _caller: Caller, request: bytes) -> Reply:
    """Answers what was asked."""
    return 0, request


def reason(reply: Reply) -> tuple[int, str]:
    """Code and reason of a failure."""
    return reply[0], from_status(Status.FromString(reply[1])).reason


class Sender:
    """Sends numbered requests to one queue."""

    def __init__(self, shards: Any) -> None:
        self.queue: ShardQueue = Coalescer(shards, "resource").queue("default")
        self.tasks: list[asyncio.Task[Reply]] = []

    def send(self, count: int, method: Method = CREATE, timeout_s: float = 5.0, size: int = 0) -> None:
        """Each as a task of its own."""
        ends = asyncio.get_running_loop().time() + timeout_s
        for _ in range(count):
            request = str(len(self.tasks)).encode().ljust(size)
            self.tasks.append(asyncio.create_task(self.queue.send(method, ANONYMOUS, request, ends)))

    async def replies(self) -> list[Reply]:
        """All of them, in the order of sending."""
        return await asyncio.gather(*self.tasks)


async def test_a_lone_request_leaves_at_once() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(1)
    assert await sender.replies() == [(0, b"0")]
    assert shards.batches == [("default", ["CreateClaim"])]


async def test_what_arrives_together_travels_together_and_each_gets_its_own_reply() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(50)
    assert await sender.replies() == [(0, str(number).encode()) for number in range(50)]
    assert [len(methods) for _, methods in shards.batches] == [50]


async def send_apart(sender: Sender, *counts: int) -> None:
    """So many requests after each other, each time until they had the chance to leave."""
    for count in counts:
        sender.send(count)
        for _ in range(4):
            await asyncio.sleep(0)


async def test_what_comes_while_a_batch_is_in_flight_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.coalesce.PATIENCE_S", 60.0)
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    await send_apart(sender, 1, 2, 30)
    assert [len(methods) for _, methods in shards.batches] == [1]
    shards.open.set()
    assert len(await sender.replies()) == 33
    assert [len(methods) for _, methods in shards.batches] == [1, 32]
    assert shards.most_calls_in_flight == 1


async def test_a_second_batch_leaves_beside_the_first_when_it_is_worth_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.coalesce.PATIENCE_S", 60.0)
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    await send_apart(sender, 1, WORTH_A_CALL, 2 * WORTH_A_CALL)
    assert [len(methods) for _, methods in shards.batches] == [1, WORTH_A_CALL]
    shards.open.set()
    await sender.replies()
    assert [len(methods) for _, methods in shards.batches] == [1, WORTH_A_CALL, 2 * WORTH_A_CALL]


async def test_a_slow_batch_does_not_hold_up_the_next() -> None:
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    await send_apart(sender, 1, 2)
    await eventually(lambda: len(shards.batches) == 2)
    shards.open.set()
    assert len(await sender.replies()) == 3


async def test_a_batch_has_a_largest_number_of_requests() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(2 * MAX_BATCH_ITEMS + 5)
    await sender.replies()
    assert [len(methods) for _, methods in shards.batches] == [MAX_BATCH_ITEMS, MAX_BATCH_ITEMS, 5]


async def test_a_batch_has_a_largest_size_and_one_larger_request_still_travels() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(3, size=MAX_BATCH_BYTES // 2)
    sender.send(1, size=MAX_BATCH_BYTES + 1)
    await sender.replies()
    assert [len(methods) for _, methods in shards.batches] == [2, 1, 1]


async def test_solo_requests_travel_alone_and_do_not_count() -> None:
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    sender.send(5, SOLO)
    sender.send(1)
    await eventually(lambda: len(shards.batches) == 6)
    assert sorted(shards.batches) == [("default", ["CreateClaim"])] + [("default", ["ExplainClaim"])] * 5
    shards.open.set()
    await sender.replies()


async def test_what_may_not_be_repeated_travels_alone_and_is_marked() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(2, ONCE)
    sender.send(1)
    await sender.replies()
    assert sorted(shards.repeatable) == [False, False, True]


async def test_a_shard_that_does_not_answer_leaves_no_one_waiting() -> None:
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    sender.send(1, timeout_s=0.05)
    await eventually(lambda: shards.batches)
    sender.send(1, timeout_s=0.05)
    await eventually(lambda: len(shards.batches) == 2)
    sender.send(1, timeout_s=0.05)
    replies = await asyncio.wait_for(sender.replies(), 1)
    # The first two may have been done; the third was never sent.
    assert [reason(reply) for reply in replies] == [
        (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (Code.UNAVAILABLE, "SHARD_UNAVAILABLE"),
    ]
    assert from_status(Status.FromString(replies[2][1])).retry_after_s == 1.0
    shards.open.set()
    sender.send(1)
    assert (await sender.replies())[-1] == (0, b"3")
    assert [len(methods) for _, methods in shards.batches] == [1, 1, 1], "what expired is not sent any more"


async def test_a_call_lasts_as_long_as_its_most_patient_request() -> None:
    shards = Shards(echo)
    sender = Sender(shards)
    sender.send(1, timeout_s=2)
    sender.send(1, timeout_s=30)
    sender.send(1, timeout_s=1)
    await sender.replies()
    assert shards.timeouts_s == [pytest.approx(30, abs=0.5)]


async def test_a_cancelled_request_is_not_sent_and_disturbs_nobody() -> None:
    shards = Shards(echo)
    shards.open.clear()
    sender = Sender(shards)
    sender.send(1)
    await eventually(lambda: len(shards.batches) == 1)
    sender.send(1)
    await eventually(lambda: len(shards.batches) == 2)
    sender.send(3)
    await asyncio.sleep(0)
    sender.tasks[3].cancel()
    sender.tasks[0].cancel()
    await asyncio.sleep(0)
    shards.open.set()
    replies = await asyncio.gather(*sender.tasks, return_exceptions=True)
    assert [reply for reply in replies if isinstance(reply, tuple)] == [(0, b"1"), (0, b"2"), (0, b"4")]
    assert [len(methods) for _, methods in shards.batches] == [1, 1, 2]


class _Failing(Shards):
    def __init__(self, error: Exception | None) -> None:
        super().__init__(echo)
        self.error = error

    async def call(self, *arguments: Any, **options: Any) -> list[Reply]:
        replies = await super().call(*arguments, **options)
        if self.error is not None:
            raise self.error
        return replies[:-1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("gone"), (Code.UNAVAILABLE, "SHARD_UNAVAILABLE")),
        (RuntimeError("a mistake of ours"), (Code.INTERNAL, "INTERNAL")),
        (None, (Code.INTERNAL, "INTERNAL")),
    ],
)
async def test_a_call_that_fails_answers_everyone_in_it(error: Exception | None, expected: tuple[int, str]) -> None:
    sender = Sender(_Failing(error))
    sender.send(3)
    assert [reason(reply) for reply in await sender.replies()] == [expected] * 3
    sender.send(1)
    assert reason((await sender.replies())[-1]) == expected, "the queue goes on after it"


async def test_each_shard_has_its_own_queue() -> None:
    shards = Shards(echo)
    coalescer = Coalescer(shards, "resource")
    assert coalescer.queue("a") is coalescer.queue("a")
    once = replace(CREATE, name="Other")
    ends = asyncio.get_running_loop().time() + 1
    await asyncio.gather(
        coalescer.queue("a").send(CREATE, ANONYMOUS, b"", ends), coalescer.queue("b").send(once, ANONYMOUS, b"", ends)
    )
    assert sorted(shards.batches) == [("a", ["CreateClaim"]), ("b", ["Other"])]
