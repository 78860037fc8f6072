"""An executor in a process of its own, for tests that kill it: `python -m tests.integration.executor_process`.

Reads a pickled ExecutorOrder from standard input and ends when that does.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from dataclasses import dataclass, field

from nats.js import JetStreamContext

from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.executor.assembly import ExecutorParts
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores import nats as nats_store
from mulligan.stores.addresses import Addresses
from mulligan.stores.nats import TASKS, PullLoop
from mulligan.stores.postgres import connect_pool


@dataclass(frozen=True)
class ExecutorOrder:
    """What the process is to do."""

    addresses: Addresses
    durable: str
    subject: str
    settings: bytes
    hold_s: float = 1.5
    ack_wait_s: float = 2.0
    source: str = field(default_factory=new_id)


async def work(order: ExecutorOrder) -> None:
    """Works until the process ends."""
    settings = ExecutorSettings.FromString(order.settings)
    etcd = await etcd_store.connect(order.addresses)
    client = await nats_store.connect(order.addresses, "executor")
    jetstream = client.jetstream()
    pool = await connect_pool(order.addresses)

    async def connected() -> JetStreamContext:
        return jetstream

    parts = await ExecutorParts.open(
        order.addresses, etcd, pool, connected, lambda: settings, f"executor-{order.source}", hold_s=order.hold_s
    )
    await PullLoop(jetstream, TASKS, order.durable, parts.handler, 10, order.ack_wait_s, [order.subject]).run()


async def main() -> None:
    """Runs the order."""
    loop = asyncio.get_running_loop()
    order: ExecutorOrder = await loop.run_in_executor(None, pickle.load, sys.stdin.buffer)
    working = asyncio.create_task(work(order))
    ended = loop.run_in_executor(None, sys.stdin.buffer.read)
    await asyncio.wait([working, asyncio.ensure_future(ended)], return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    asyncio.run(main())
