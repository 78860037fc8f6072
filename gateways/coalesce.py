"""Requests for one shard travel together: what arrives while a call to it is in flight goes in the next call.

A call to an actor costs about a millisecond of CPU and a request inside one almost nothing. So batches grow by
themselves under load, and a lone request leaves at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from gateways.failures import as_reply
from gateways.methods import Method
from gateways.shards import Item, ShardCaller
from mulligan.caller import Caller
from mulligan.dispatch import Reply
from mulligan.errors import DeadlineExceeded, InternalError, MulliganError, Unavailable

log = logging.getLogger(__name__)

# A second batch leaves beside the first one when it is worth a call of its own, or when the first takes so long that
# something slow must be in it. Two small ones at any time would cost a quarter of the throughput on two cores.
MAX_BATCHES: Final = 2
WORTH_A_CALL: Final = 64
PATIENCE_S: Final = 0.05
MAX_BATCH_ITEMS: Final = 256
# A batch holds at least one request, whatever its size.
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
RETRY_AFTER_S: Final = 1.0


class _Pending:
    """A request, and whoever waits for its reply."""

    __slots__ = ("ends", "future", "item", "sent")

    def __init__(self, item: Item, ends: float, future: asyncio.Future[Reply]) -> None:
        self.item = item
        # By the loop's clock.
        self.ends = ends
        self.future = future
        self.sent = False

    def expire(self) -> None:
        """Answers for a shard that did not in time."""
        if not self.future.done():
            self.future.set_result(as_reply(_late(self.item[0]) if self.sent else _busy()))

    def answer(self, reply: Reply) -> None:
        """Nobody waits any more for a request that expired or was cancelled."""
        if not self.future.done():
            self.future.set_result(reply)


class ShardQueue:
    """The requests for one shard. Every one gets a reply within its time; nothing raises."""

    def __init__(self, caller: ShardCaller, service: str, shard: str) -> None:
        self._caller = caller
        self._service = service
        self._shard = shard
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Pending] = deque()
        self._in_flight = 0
        self._departing = False
        self._patience: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, method: Method, caller: Caller, request: bytes, ends: float) -> Reply:
        """The shard's reply, or UNAVAILABLE or DEADLINE_EXCEEDED in its place when the loop's clock shows `ends`."""
        loop = self._loop
        pending = _Pending((method.name, caller, request), ends, loop.create_future())
        expiry = loop.call_at(ends, pending.expire)
        try:
            if method.solo or not method.retry_safe:
                self._start_call([pending], counts=False, repeatable=method.retry_safe)
            else:
                self._waiting.append(pending)
                self._depart_soon()
            return await pending.future
        finally:
            expiry.cancel()

    async def close(self) -> None:
        """Gives up what is in flight; nobody is to wait any more."""
        if self._patience is not None:
            self._patience.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _depart_soon(self) -> None:
        """Not at once: what else arrives in this turn of the loop comes along."""
        if self._waiting and not self._departing and self._may_depart():
            self._departing = True
            self._loop.call_soon(self._depart)

    def _may_depart(self) -> bool:
        if not self._in_flight:
            return True
        return self._in_flight < MAX_BATCHES and (len(self._waiting) >= WORTH_A_CALL or self._patience is None)

    def _lose_patience(self) -> None:
        self._patience = None
        self._depart_soon()

    def _depart(self) -> None:
        self._departing = False
        batch = self._next_batch()
        if batch:
            self._in_flight += 1
            if self._patience is not None:
                self._patience.cancel()
            self._patience = self._loop.call_later(PATIENCE_S, self._lose_patience)
            self._start_call(batch, counts=True, repeatable=True)
            self._depart_soon()

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_ITEMS:
            pending = self._waiting[0]
            if pending.future.done():
                self._waiting.popleft()
                continue
            size += len(pending.item[2])
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _start_call(self, batch: list[_Pending], *, counts: bool, repeatable: bool) -> None:
        task = self._loop.create_task(self._call(batch, counts, repeatable))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, batch: list[_Pending], counts: bool, repeatable: bool) -> None:
        try:
            replies = await self._replies(batch, repeatable)
        finally:
            if counts:
                self._in_flight -= 1
                self._depart_soon()
        for pending, reply in zip(batch, replies, strict=True):
            pending.answer(reply)

    async def _replies(self, batch: list[_Pending], repeatable: bool) -> list[Reply]:
        """The call lasts as long as one of its requests may; each expires by itself before that."""
        last = 0.0
        for pending in batch:
            pending.sent = True
            last = max(last, pending.ends)
        timeout_s = last - self._loop.time()
        items = [pending.item for pending in batch]
        try:
            replies = await self._caller.call(self._service, self._shard, items, timeout_s, repeatable=repeatable)
            if len(replies) == len(batch):
                return replies
            log.error("service=%s shard=%s answered %d of %d", self._service, self._shard, len(replies), len(batch))
        except MulliganError as error:
            return [as_reply(error)] * len(batch)
        except Exception:
            log.exception("service=%s shard=%s could not be called", self._service, self._shard)
        failed = InternalError(f"{self._service} could not be called; the log of its gateway says why")
        return [as_reply(failed)] * len(batch)


class Coalescer:
    """The queues of a service's shards."""

    def __init__(self, caller: ShardCaller, service: str) -> None:
        self._caller = caller
        self._service = service
        self._queues: dict[str, ShardQueue] = {}

    def queue(self, shard: str) -> ShardQueue:
        """The queue of a shard."""
        queue = self._queues.get(shard)
        if queue is None:
            queue = self._queues[shard] = ShardQueue(self._caller, self._service, shard)
        return queue

    async def close(self) -> None:
        """Gives up what is in flight."""
        for queue in self._queues.values():
            await queue.close()


def _late(method: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"{method} was not answered in time; send it again with the same request_id")


def _busy() -> Unavailable:
    return Unavailable(
        "the shard did not get to this request in time and nothing was done; try again", retry_after_s=RETRY_AFTER_S
    )
