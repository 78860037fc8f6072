"""A connection to NATS for an actor's whole life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors.health import ComponentHealth, probe
from mulligan.stores import nats as nats_store

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from mulligan.stores.addresses import Addresses


class NatsLink:
    """Connects when first used, and anew when the connection was closed for good, as after a password was changed."""

    def __init__(self, addresses: Addresses, name: str) -> None:
        """`name` tells the connection in the server's own reports."""
        self._addresses = addresses
        self._name = name
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def jetstream(self) -> JetStreamContext:
        """JetStream with our streams; raises Unavailable."""
        async with self._lock:
            if self._client is None or self._client.is_closed:
                self._client = await nats_store.connect(self._addresses, self._name)
                await nats_store.ensure_streams(self._client.jetstream())
            return self._client.jetstream()

    async def health(self) -> ComponentHealth:
        """Whether it answers."""

        async def ask() -> None:
            await (await self.jetstream()).account_info()

        return await probe("nats", ask, self._addresses.nats)

    async def close(self) -> None:
        """Leaves NATS."""
        if self._client is not None:
            await self._client.close()
