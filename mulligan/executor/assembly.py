"""Puts an executor together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.clock import now_us
from mulligan.control.changes import Changes
from mulligan.control.store import Database
from mulligan.executor.engine import HOLD_S, Engine
from mulligan.executor.ipmi.driver import IpmiDriver
from mulligan.executor.ipmi.process import WorkerProcess
from mulligan.executor.run import Tools
from mulligan.executor.store import PostgresTaskStore
from mulligan.executor.tasks import JetStreamResults, TaskHandler
from mulligan.secretbox import SecretBox
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient

if TYPE_CHECKING:
    import asyncpg
    from nats.js import JetStreamContext


@dataclass(frozen=True)
class ExecutorParts:
    """An executor without its queue: a handler of task messages and the worker process behind it."""

    handler: TaskHandler
    worker: WorkerProcess
    _stack: AsyncExitStack

    @classmethod
    async def open(
        cls,
        addresses: Addresses,
        etcd: EtcdClient,
        pool: asyncpg.Pool,
        jetstream: Callable[[], Awaitable[JetStreamContext]],
        settings: Callable[[], ExecutorSettings],
        name: str,
        *,
        hold_s: float = HOLD_S,
    ) -> ExecutorParts:
        """Starts the worker process and follows etcd; `name` tells this executor in results. Raises Unavailable."""
        box = SecretBox.from_file(addresses.master_key)
        changes, worker = Changes(etcd), WorkerProcess()
        stack = AsyncExitStack()
        try:
            await changes.start()
            stack.push_async_callback(changes.close)
            await worker.start()
            stack.push_async_callback(worker.close)
            database = Database(pool)
            store = PostgresTaskStore(database, box, changes, now_us)
            tools = Tools(JetStreamResults(jetstream), settings, name, now_us)
            engine = Engine(store, {"ipmi": IpmiDriver(worker)}, tools, hold_s)
            return cls(TaskHandler(engine, database), worker, stack)
        except BaseException:
            await stack.aclose()
            raise

    async def close(self) -> None:
        """Ends the worker process."""
        await self._stack.aclose()
