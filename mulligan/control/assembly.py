"""Puts the control service together: every part with what it needs, started and closed in order."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.clock import now_us
from mulligan.control.bmcs import Bmcs
from mulligan.control.boot import BootService
from mulligan.control.changes import Changes
from mulligan.control.expiry import Expiry
from mulligan.control.operations import Operations
from mulligan.control.outbox import Outbox, TaskQueue
from mulligan.control.regions import Regions
from mulligan.control.requests import RequestLog
from mulligan.control.service import Claims, ControlService
from mulligan.control.store import Database, existing_machines
from mulligan.meta.model import MACHINE, NamedObject
from mulligan.meta.names import NameStore
from mulligan.runtime_settings import RuntimeSettings
from mulligan.secretbox import SecretBox
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.postgres import Ownership

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True)
class ControlParts:
    """The control service of one shard, ready to serve."""

    service: ControlService
    boot: BootService
    outbox: Outbox
    expiry: Expiry
    changes: Changes
    regions: Regions
    names: NameStore
    database: Database
    _stack: AsyncExitStack

    @classmethod
    async def open(
        cls,
        addresses: Addresses,
        etcd: EtcdClient,
        pool: asyncpg.Pool,
        ownership: Ownership,
        queue: TaskQueue,
        claims: Claims,
        *,
        apply_log_level: bool = True,
    ) -> ControlParts:
        """Follows etcd and settles names that a former owner left reserved. Raises Unavailable."""
        regions, changes = Regions(etcd, ownership.shard), Changes(etcd)
        settings = RuntimeSettings(etcd, "control", ServiceSettings, apply_log_level=apply_log_level)
        executor_settings = RuntimeSettings(etcd, "executor", ExecutorSettings, apply_log_level=False)
        stack = AsyncExitStack()
        try:
            for follower in (regions, changes, settings, executor_settings):
                await follower.start()
                stack.push_async_callback(follower.close)
            database, names = Database(pool, ownership), NameStore(etcd)
            await _settle_names(names, database, regions)
            box = SecretBox.from_file(addresses.master_key)
            requests = RequestLog(box)
            outbox = Outbox(database, queue, regions.territory, now_us)
            operations = Operations(database, requests, names)
            expiry = Expiry(database, operations, claims, outbox, changes, regions.territory, now_us)
            service = ControlService(
                database,
                requests,
                operations,
                Bmcs(database, requests, box, regions.territory, now_us),
                claims,
                outbox,
                expiry,
                changes,
                regions.territory,
                settings,
                executor_settings,
                now_us,
            )
            boot = BootService(database, changes, executor_settings, now_us)
            return cls(service, boot, outbox, expiry, changes, regions, names, database, stack)
        except BaseException:
            await stack.aclose()
            raise

    async def close(self) -> None:
        """Stops following etcd."""
        await self._stack.aclose()


async def _settle_names(names: NameStore, database: Database, regions: Regions) -> None:
    """Confirms the names of machines that were stored before a former owner died; frees the others."""

    def mine(each: NamedObject) -> bool:
        return each.kind == MACHINE and regions.territory().owns(each.region)

    async def stored(ids: list[str]) -> list[str]:
        async with database.reading() as connection:
            return await existing_machines(connection, ids)

    await names.recover(mine, stored)
