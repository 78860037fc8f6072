"""How anyone reaches an actor: by service and shard, through the catalogue in etcd.

A call to an actor that restarts hangs in Ray, so the directory watches the catalogue while it waits: when the shard is
announced by another incarnation, calls to the earlier one are given up and sent again. That is safe: requests that
change something carry a request id, and a fenced or draining actor has written nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from ray.exceptions import RayActorError, RayError

from actors.health import ComponentHealth
from actors.names import NAMESPACE
from mulligan.caller import Caller
from mulligan.dispatch import PageReply, Reply
from mulligan.errors import DeadlineExceeded, MulliganError, ResourceExhausted, Unavailable, from_status, to_status
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix

log = logging.getLogger(__name__)

Item = tuple[str, Caller, bytes]

# How long a request waits for a shard that nobody serves at the moment: a restart takes 1.5 to 3 s.
ABSENT_WAIT_S = 5.0
# A lost connection may be a dead actor or a bad moment: after this the same incarnation is tried again.
LOST_WAIT_S = 1.0
# A draining generation may finish what it has for this long after the next one was announced.
SUPERSEDED_WAIT_S = 2.0
# Sends of one request at most; each follows a change of the actor or a lost connection.
MAX_SENDS = 4
LOOKUP_DEADLINE_S = 2.0
# Calls of one kind to one actor that this process may have open, those counted that nobody waits for any more: Ray does
# not take a call back. An actor takes 10,000 in all, so no kind and no process of a few fills it.
MAX_OPEN = 2_500
# Reasons of an actor that does not serve the shard (any more); nothing was written.
_MOVED_REASONS = frozenset({"FENCED", "DRAINING", "SHARD_UNAVAILABLE"})


@dataclass(slots=True)
class _Entry:
    """One incarnation of the actor of a shard, as announced."""

    # Service and shard.
    key: tuple[str, str]
    actor: str
    incarnation: str
    handle: Any = None
    # It left the catalogue: new requests wait for its successor.
    withdrawn: bool = False
    # Its successor serves: requests that hang on it are sent again.
    superseded: bool = False
    pending: set[asyncio.Future[Any]] = field(default_factory=set)
    # Calls that the actor has not answered, by method.
    open: Counter[str] = field(default_factory=Counter)

    def begin(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Calls the actor. The call is open until it is answered, also when whoever waits gives up."""
        if self.open[method] >= MAX_OPEN:
            raise ResourceExhausted(
                f"{self.actor} is still busy with {MAX_OPEN} requests that came this way; try again in a moment",
                reason="TOO_MANY_REQUESTS",
                retry_after_s=1,
            )
        work = asyncio.wrap_future(getattr(self.handle, method).remote(*arguments).future())
        self.open[method] += 1

        def answered(done: asyncio.Future[Any]) -> None:
            self.open[method] -= 1
            if not done.cancelled():
                done.exception()  # whoever waits hears of it, and nobody may

        work.add_done_callback(answered)
        return asyncio.shield(work)

    def supersede(self) -> None:
        self.superseded = True
        for future in self.pending:
            future.cancel()


class _MovedError(Exception):
    """The incarnation that was called does not serve."""


class ActorDirectory:
    """Finds and calls actors; one for each process that calls any."""

    def __init__(self, etcd: EtcdClient) -> None:
        self._watched = WatchedPrefix(etcd, keys.CATALOG_ACTORS)
        self._watched.on_change.append(self._changed)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._turns: dict[tuple[str, str], asyncio.Event] = {}

    async def start(self) -> None:
        """Reads the catalogue and follows it from then on."""
        await self._watched.start()

    async def close(self) -> None:
        """Stops following the catalogue."""
        await self._watched.close()

    def shards(self, service: str) -> list[str]:
        """The shards of a service that are announced now."""
        return sorted(
            shard for (announced, shard), entry in self._entries.items() if announced == service and not entry.withdrawn
        )

    def incarnation(self, service: str, shard: str) -> str | None:
        """Which life of the actor is announced for a shard now."""
        entry = self._entries.get((service, shard))
        return entry.incarnation if entry is not None and not entry.withdrawn else None

    async def call(
        self, service: str, shard: str, batch: Sequence[Item], timeout_s: float, *, repeatable: bool = True
    ) -> list[Reply]:
        """Replies in the order of the batch; does not raise: of a shard that is away, the replies say UNAVAILABLE.

        What is not `repeatable` is not sent again to an actor that may have got it.
        """
        ends = time.monotonic() + timeout_s
        replies: dict[int, Reply] = {}
        left: Sequence[int] = range(len(batch))
        for _ in range(MAX_SENDS):
            items = [batch[index] for index in left] if replies else list(batch)
            try:
                entry = await self._entry((service, shard), ends)
                answers = await self._attempt(entry, "call", (items,), ends)
            except _MovedError:
                if repeatable:
                    continue
                break
            except MulliganError as error:
                refusal = (error.code, to_status(error).SerializeToString())
                return [replies.get(index, refusal) for index in range(len(batch))]
            replies.update(zip(left, answers, strict=True))
            left = [index for index in left if _moved(replies[index])]
            if not left:
                return answers if len(answers) == len(batch) else [replies[index] for index in range(len(batch))]
            pause_s = min(_pause_s(replies[index]) for index in left)
            await self._wait_turn(entry.key, min(pause_s, ends - time.monotonic()), entry)
        away = _away(service, shard)
        refusal = (away.code, to_status(away).SerializeToString())
        return [replies.get(index, refusal) for index in range(len(batch))]

    async def poll(
        self, service: str, shard: str, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float
    ) -> PageReply:
        """The next part of a server stream: waits `wait_s` for one, and some seconds more for a lost shard."""
        arguments = (method, caller, request, cursor, wait_s)
        page = await self._one((service, shard), "poll", arguments, wait_s + ABSENT_WAIT_S)
        assert isinstance(page, PageReply)
        return page

    async def chunk(
        self,
        service: str,
        shard: str,
        method: str,
        caller: Caller,
        requests: Sequence[bytes],
        position: int,
        timeout_s: float,
    ) -> Reply:
        """The reply to some messages of a client stream."""
        code, payload = await self._one((service, shard), "chunk", (method, caller, requests, position), timeout_s)
        return code, payload

    async def internal(self, service: str, shard: str, method: str, request: bytes, timeout_s: float) -> bytes:
        """The response to a call between services; raises the failure that came back."""
        code, payload = await self._one((service, shard), "internal", (method, request), timeout_s)
        if code != Code.OK:
            raise from_status(Status.FromString(payload))
        assert isinstance(payload, bytes)
        return payload

    async def _one(self, key: tuple[str, str], method: str, arguments: tuple[Any, ...], timeout_s: float) -> Any:
        """One remote call, sent again while the shard moves; raises Unavailable or DeadlineExceeded."""
        ends = time.monotonic() + timeout_s
        answer = None
        for _ in range(MAX_SENDS):
            entry = await self._entry(key, ends)
            try:
                answer = await self._attempt(entry, method, arguments, ends)
            except _MovedError:
                continue
            reply = (answer.code, answer.error) if isinstance(answer, PageReply) else answer
            if not _moved(reply):
                return answer
            await self._wait_turn(key, min(_pause_s(reply), ends - time.monotonic()), entry)
        if answer is None:
            raise _away(*key)
        return answer

    async def _attempt(self, entry: _Entry, method: str, arguments: tuple[Any, ...], ends: float) -> Any:
        """Sends once; raises _MovedError when that incarnation is lost."""
        if entry.handle is None:
            entry.handle = await self._handle(entry)
        future = entry.begin(method, arguments)
        entry.pending.add(future)
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"{entry.actor} did not answer in time; try again") from None
        except RayActorError:
            await self._wait_turn(entry.key, min(LOST_WAIT_S, ends - time.monotonic()), entry)
            raise _MovedError from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if entry.superseded and not (task and task.cancelling()):
                raise _MovedError from None
            raise
        finally:
            entry.pending.discard(future)

    async def _entry(self, key: tuple[str, str], ends: float) -> _Entry:
        """The announced incarnation; waits for one when there is none."""
        ends = min(ends, time.monotonic() + ABSENT_WAIT_S)
        while True:
            entry = self._entries.get(key)
            if entry is not None and not entry.withdrawn:
                return entry
            if time.monotonic() >= ends:
                raise _away(*key)
            await self._wait_turn(key, ends - time.monotonic())

    async def _handle(self, entry: _Entry) -> Any:
        """The Ray handle; the GCS may be away, so it is asked from a thread."""
        try:
            async with asyncio.timeout(LOOKUP_DEADLINE_S):
                return await asyncio.to_thread(ray.get_actor, entry.actor, namespace=NAMESPACE)
        except (ValueError, RayError, TimeoutError) as error:
            log.warning("actor=%s is announced but not found: %s", entry.actor, error)
            raise Unavailable(f"{entry.actor} is announced but cannot be reached; try again", retry_after_s=1) from None

    async def _wait_turn(self, key: tuple[str, str], timeout_s: float, entry: _Entry | None = None) -> None:
        """Waits until the announcement of a shard changes (or differs from `entry`), or until time is up."""
        if entry is not None and self._entries.get(key) is not entry:
            return
        turn = self._turns.setdefault(key, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(timeout_s, 0)):
                await turn.wait()

    def _changed(self, key: str, value: bytes | None) -> None:
        service, _, shard = key.partition("/")
        entry = self._entries.get((service, shard))
        if value is None:
            if entry is not None:
                entry.withdrawn = True
            return
        fields = json.loads(value)
        actor, incarnation = fields["actor"], fields.get("incarnation", "")
        if entry is not None and (entry.actor, entry.incarnation) == (actor, incarnation):
            if entry.withdrawn:
                entry.withdrawn = False
                self._take_turn(entry.key)
            return
        self._entries[service, shard] = _Entry((service, shard), actor, incarnation)
        if entry is not None:
            # Restarted under its name it is certainly dead; under another name it may be finishing.
            delay_s = 0.0 if entry.actor == actor else SUPERSEDED_WAIT_S
            asyncio.get_running_loop().call_later(delay_s, entry.supersede)
        self._take_turn((service, shard))

    def _take_turn(self, key: tuple[str, str]) -> None:
        """Wakes those who wait for a change of the announcement."""
        turn = self._turns.pop(key, None)
        if turn is not None:
            turn.set()


async def ask_health(actor: str, timeout_s: float) -> list[ComponentHealth]:
    """What any actor of ours tells about itself; raises TimeoutError, ValueError for an unknown name, RayError."""
    async with asyncio.timeout(timeout_s):
        handle = await asyncio.to_thread(ray.get_actor, actor, namespace=NAMESPACE)
        return list(await handle.health.remote())


def _moved(reply: Reply) -> bool:
    code, payload = reply
    if code not in (Code.ABORTED, Code.UNAVAILABLE):
        return False
    return from_status(Status.FromString(payload)).reason in _MOVED_REASONS


def _pause_s(reply: Reply) -> float:
    """How long to wait for the successor of one that moved. One that is not ready may be so without being announced."""
    _, payload = reply
    unready = from_status(Status.FromString(payload)).reason == "SHARD_UNAVAILABLE"
    return LOST_WAIT_S if unready else ABSENT_WAIT_S


def _away(service: str, shard: str) -> Unavailable:
    return Unavailable(
        f"nothing serves {service} of shard {shard} now; try again, and look at `mulligan status` if it stays so",
        metadata={"service": service, "shard": shard},
        retry_after_s=1,
    )
