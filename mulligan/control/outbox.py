"""Puts operations on the task queue, and sees to it that none is forgotten there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from mulligan.api.internal.v1.task_pb2 import Task
from mulligan.clock import SECOND, Clock
from mulligan.control.boot import purge_tokens
from mulligan.control.model import KIND_NAMES, Operation
from mulligan.control.policy import OVERDUE_GRACE_S, TerritorySource
from mulligan.control.requests import KEPT_S, purge_requests
from mulligan.control.store import Database, Reach
from mulligan.errors import MulliganError, Unavailable
from mulligan.stores.nats import publish

if TYPE_CHECKING:
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 2.0
PURGE_EVERY_S: Final = 600.0

# An operation's own request publishes it at once; younger ones are left to that.
YOUNG_S: Final = 2

# A task that nobody works on although its step is overdue is put on the queue again, this often at most.
REPUBLISH_S: Final = 300

BATCH: Final = 200

# What the request that begins an operation waits for NATS.
AT_ONCE_S: Final = 2.0


class TaskQueue(Protocol):
    """Where tasks go."""

    async def publish(self, task: Task, message_id: str) -> None:
        """Stores the task; the same message id within two minutes is stored once. Raises Unavailable."""


class JetStreamTaskQueue:
    """Tasks on mulligan.tasks.<region>.<kind>."""

    def __init__(self, jetstream: Callable[[], Awaitable[JetStreamContext]]) -> None:
        """`jetstream` gives one that is connected."""
        self._jetstream = jetstream

    async def publish(self, task: Task, message_id: str) -> None:
        """Returns when JetStream has it on disk."""
        subject = f"mulligan.tasks.{task.region}.{task.kind}"
        try:
            await publish(await self._jetstream(), subject, task.SerializeToString(), message_id)
        except Exception as error:
            raise Unavailable(
                "NATS did not take the task; it is published as soon as NATS answers", reason="STORE_UNAVAILABLE"
            ) from error


def task_of(operation: Operation) -> Task:
    """What an executor is told; the rest it reads in Postgres."""
    return Task(
        operation=operation.id, machine=operation.machine, region=operation.region, kind=KIND_NAMES[operation.kind]
    )


class Outbox:
    """Publishes the operations of one shard."""

    def __init__(self, database: Database, queue: TaskQueue, territory: TerritorySource, clock: Clock) -> None:
        self._database = database
        self._queue = queue
        self._territory = territory
        self._clock = clock
        self._purged_us = 0

    async def publish(self, operation: Operation) -> None:
        """Publishes a new operation. Does not raise: what fails now the sweeper does soon."""
        try:
            async with asyncio.timeout(AT_ONCE_S):
                await self._publish(task_of(operation), operation.id)
        except (MulliganError, TimeoutError) as error:
            log.warning("operation=%s waits for the sweeper: %s", operation.id, error)

    async def run(self) -> None:
        """Sweeps for ever; a store that is away is waited for."""
        while True:
            try:
                await self.sweep()
                await self._purge()
            except Unavailable as error:
                log.warning("sweep interrupted: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """Publishes what was never published, and again what is overdue; returns how many."""
        now = self._clock()
        reach = self._territory().owned
        pending = [(task, task.operation) for task in await self._unpublished(now, reach)]
        pending += [(task, f"{task.operation}-{now}") for task in await self._overdue(now, reach)]
        for task, message_id in pending:
            await self._publish(task, message_id)
            log.info("operation=%s published by the sweeper", task.operation)
        return len(pending)

    async def _publish(self, task: Task, message_id: str) -> None:
        await self._queue.publish(task, message_id)
        async with self._database.writing() as connection:
            await connection.execute(
                "UPDATE control.operations SET publish_us = $2 WHERE id = $1", task.operation, self._clock()
            )

    async def _unpublished(self, now: int, reach: Reach) -> list[Task]:
        return await self._tasks("o.publish_us IS NULL AND o.create_us < $2", reach, now - YOUNG_S * SECOND)

    async def _overdue(self, now: int, reach: Reach) -> list[Task]:
        condition = "o.publish_us < $2 AND m.state_deadline_us < $4 AND o.hold_until < now()"
        grace = now - OVERDUE_GRACE_S * SECOND
        return await self._tasks(condition, reach, now - REPUBLISH_S * SECOND, grace)

    async def _tasks(self, condition: str, reach: Reach, *values: int) -> list[Task]:
        async with self._database.reading() as connection:
            rows = await connection.fetch(
                "SELECT o.id, o.machine, o.region, o.kind FROM control.operations o"
                " JOIN control.machines m ON m.id = o.machine AND m.operation = o.id"
                f" WHERE o.done_us IS NULL AND ($1::uuid[] IS NULL OR o.region = ANY ($1)) AND {condition}"
                " ORDER BY o.publish_us NULLS FIRST LIMIT $3",
                reach,
                values[0],
                BATCH,
                *values[1:],
            )
        return [
            Task(operation=str(row[0]), machine=str(row[1]), region=str(row[2]), kind=KIND_NAMES[row[3]])
            for row in rows
        ]

    async def _purge(self) -> None:
        now = self._clock()
        if now - self._purged_us < PURGE_EVERY_S * SECOND:
            return
        async with self._database.writing() as connection:
            await purge_requests(connection, now - KEPT_S * SECOND)
            await purge_tokens(connection, now)
        self._purged_us = now
