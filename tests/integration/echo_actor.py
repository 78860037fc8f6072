"""An actor that tells which process answered: the smallest service that has everything a shard actor has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from actors.base import InternalMethod, ServiceActor, ShardContext
from mulligan.api.catalog.v1 import catalog_service_pb2 as catalog
from mulligan.caller import Caller
from mulligan.dispatch import Page

SERVICE = "echo"


class EchoService:
    """Serves CatalogService: its status names the process; a write is a fenced transaction."""

    def __init__(self, context: ShardContext) -> None:
        self._pool, self._ownership = context.owned()

    async def get_status(self, request: catalog.GetStatusRequest, caller: Caller) -> catalog.GetStatusResponse:
        """Checks the fence as a write does, and takes a moment, so that calls are in flight when things happen."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self._ownership.check(connection)
            await asyncio.sleep(0.02)
        return catalog.GetStatusResponse(components=[catalog.ComponentStatus(name=str(os.getpid()))])

    async def watch_catalog(
        self, request: catalog.WatchCatalogRequest, caller: Caller, cursor: str, wait_s: float
    ) -> Page:
        """Counts up, one message a page."""
        number = int(cursor or 0) + 1
        return Page([catalog.WatchCatalogResponse(revision=number)], str(number))


class EchoActor(ServiceActor):
    """Its actor."""

    service = SERVICE
    descriptor = catalog.DESCRIPTOR.services_by_name["CatalogService"]

    async def build(self, context: ShardContext) -> EchoService:
        """The service."""
        return EchoService(context)

    def internals(self, built: Any) -> Mapping[str, InternalMethod]:
        """Echo."""

        async def echo(request: bytes) -> bytes:
            return request

        return {"Echo": echo}
