"""What the queues hold, for the status report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from nats.js.errors import NotFoundError

from actors.health import PROBE_DEADLINE_S, ComponentHealth
from actors.results import DURABLE as SAVERS
from mulligan.executor.tasks import DURABLE as EXECUTORS
from mulligan.stores.nats import DEAD, RESULTS, TASKS

if TYPE_CHECKING:
    from nats.js import JetStreamContext

# Each stream with its name in the report and the consumer that empties it.
QUEUES: Final = ((TASKS, "tasks", EXECUTORS), (RESULTS, "results", SAVERS))


async def queue_health(connected: Callable[[], Awaitable[JetStreamContext]]) -> list[ComponentHealth]:
    """How many messages wait, are in progress, and were given up; within PROBE_DEADLINE_S."""
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            jetstream = await connected()
            lines = [await _queue(jetstream, *each) for each in QUEUES]
            dead = (await jetstream.stream_info(DEAD)).state.messages
    except Exception as error:
        told = f"JetStream does not answer: {error or type(error).__name__}"
        return [ComponentHealth("queue", name, False, told[:200]) for name in ("tasks", "results", "dead letters")]
    told = f"{dead} tasks given up; each with its cause in the stream {DEAD}" if dead else "0 tasks given up"
    return [*lines, ComponentHealth("queue", "dead letters", True, told)]


async def _queue(jetstream: JetStreamContext, stream: str, name: str, durable: str) -> ComponentHealth:
    try:
        consumer = await jetstream.consumer_info(stream, durable)
    except NotFoundError:
        waiting = (await jetstream.stream_info(stream)).state.messages
        return ComponentHealth("queue", name, waiting == 0, f"{waiting} waiting, nobody has ever taken any")
    told = f"{consumer.num_pending} waiting, {consumer.num_ack_pending} in progress"
    return ComponentHealth("queue", name, True, told)
