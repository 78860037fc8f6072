"""Between the queue and the engine: messages in, results out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from mulligan.api.internal.v1.task_pb2 import StepResult, Task
from mulligan.control import store
from mulligan.control.model import KIND_NAMES
from mulligan.control.store import Database
from mulligan.executor.engine import Ending, Engine
from mulligan.ids import is_id
from mulligan.stores.nats import Poisoned, publish

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

log = logging.getLogger(__name__)

# Consumer that all executors share.
DURABLE: Final = "executors"

# A task whose executor died is given to another one after this time.
ACK_WAIT_S: Final = 9.0

PUBLISH_PAUSE_S: Final = 0.5

# How often a task that another delivery of the same message holds is looked at.
BUSY_PAUSE_S: Final = 2.0

# NATS header lines are short; the whole history is in the database.
MAX_HISTORY_CHARACTERS: Final = 2000


class TaskTaken(Exception):
    """Somebody else works on it now: look again later."""


class JetStreamResults:
    """Results on mulligan.results.<region>."""

    def __init__(self, jetstream: Callable[[], Awaitable[JetStreamContext]]) -> None:
        """`jetstream` gives one that is connected."""
        self._jetstream = jetstream

    async def publish(self, result: StepResult) -> None:
        """Returns when JetStream has it on disk; tries for ever."""
        identity = (result.operation, result.fence, result.index, result.attempt, result.outcome)
        message_id = "-".join(map(str, identity))
        subject, data = f"mulligan.results.{result.region}", result.SerializeToString()
        while True:
            try:
                return await publish(await self._jetstream(), subject, data, message_id)
            except Exception as error:
                log.warning("operation=%s waits for NATS: %s", result.operation, error or type(error).__name__)
                await asyncio.sleep(PUBLISH_PAUSE_S)


class TaskHandler:
    """Handles the messages of the task queue: returns when one is done, raises when it should come again."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def __call__(self, message: Msg) -> None:
        """Raises Poisoned for a task that cannot be worked on by anybody."""
        task = _task_of(message.data)
        if task.kind not in KIND_NAMES.values():
            raise TaskTaken(f"{task.kind} is work for an executor of a later version")
        sequence = message.metadata.sequence.stream
        while (ending := await self._engine.run(task.operation, sequence)) is Ending.BUSY:  # noqa: ASYNC110
            # Whoever has it ends it soon, or died and will be found to have when the hold ends.
            await asyncio.sleep(BUSY_PAUSE_S)
        if ending is Ending.FENCED:
            raise TaskTaken(f"operation {task.operation} is {ending} here")
        if ending is Ending.UNKNOWN:
            raise Poisoned(f"there is no operation {task.operation}")
        if ending is Ending.EXHAUSTED:
            history = await self._history(task.operation)
            message.headers = {**(message.headers or {}), "Mulligan-History": history}
            raise Poisoned(f"operation {task.operation} was taken too often without an end")

    async def _history(self, operation_id: str) -> str:
        """Every step with its attempts and last message, on one line."""
        async with self._database.reading() as connection:
            operation = await store.find_operation(connection, operation_id)
        steps = operation.steps if operation else []
        told = (
            f"{step.name} state={step.state} attempts={step.attempts} {step.message or step.evidence}" for step in steps
        )
        line = " | ".join(" ".join(each.split()) for each in told)
        return line.encode("ascii", "replace").decode()[:MAX_HISTORY_CHARACTERS]


def _task_of(data: bytes) -> Task:
    """The task in a message; raises Poisoned for what nobody can work on, today or later."""
    try:
        task = Task.FromString(data)
    except DecodeError:
        raise Poisoned("it is not a mulligan.internal.v1.Task") from None
    if not task.kind or not is_id(task.operation):
        raise Poisoned("it is a mulligan.internal.v1.Task without a kind or without the UUID of an operation")
    return task
