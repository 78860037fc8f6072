"""Transactions on schema `iam`: fenced ones that write, plain ones that read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mulligan.stores.postgres import Ownership, translate_errors


class Database:
    """One engine and the ownership that every write has to prove."""

    def __init__(self, engine: AsyncEngine, ownership: Ownership) -> None:
        self._engine = engine
        self._ownership = ownership

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with. Raises Unavailable when Postgres does not answer."""
        with translate_errors():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end, or at `connection.commit()` before it, and rolls back on an error.

        Raises Aborted (FENCED) when another actor owns the service by now.
        """
        with translate_errors():
            async with self._engine.connect() as connection:
                await self._ownership.check(connection)
                yield connection
                await connection.commit()

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()


async def lock(connection: AsyncConnection, name: str) -> None:
    """Waits until this transaction alone holds the lock of that name."""
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"mulligan.iam.{name}"}
    )
