"""Wake-ups for those who wait for machines and operations, while etcd comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.embedded.etcd import EmbeddedEtcd
from mulligan.config import Settings
from mulligan.control.changes import RECHECK_S, Changes
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store
from mulligan.stores.addresses import Addresses
from tests.stores import running


async def test_a_bump_that_etcd_missed_is_made_up_for(state_dir: Path) -> None:
    async with running(EmbeddedEtcd, state_dir) as server:
        addresses = Addresses.load(Settings(state_dir=state_dir, nats="unused:1", postgres="unused"))
        client = await etcd_store.connect(addresses)
        waiter, teller = Changes(client), Changes(client)
        await waiter.start()
        first, operation = new_id(), new_id()
        with waiter.listening(first) as heard, waiter.listening(operation) as changed:
            teller.bump(first)
            await heard.wait()
            await server.kill()
            teller.bump(operation)
            assert not changed.is_set()
            await server.start()
            # Not an attempt longer than who looks for itself would take.
            async with asyncio.timeout(RECHECK_S):
                await changed.wait()
        await teller.close()
        await waiter.close()
        await client.close()
