"""PostgreSQL: connections, one owner per shard, and failures that callers can act on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mulligan.errors import Aborted, Unavailable
from mulligan.stores.addresses import Addresses

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_DEADLINE_S = 5.0
STATEMENT_DEADLINE_S = 30.0

# An owner that hangs inside a transaction must not keep its successor from taking over.
SESSION_SETTINGS = {"application_name": "mulligan", "jit": "off", "idle_in_transaction_session_timeout": "30s"}

# Key of the advisory lock under which the shared schema is made: "mulligan" read as a number.
SCHEMA_LOCK = int.from_bytes(b"mulligan", "big") >> 1

_LOST = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
    PoolTimeoutError,
)


class translate_errors:  # noqa: N801 -- reads as the verb it is, in `with translate_errors():`
    """Turns a lost connection, a timeout or a conflict in Postgres into Unavailable (STORE_UNAVAILABLE).

    A context manager around awaits, and a decorator of async functions. Other errors pass.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and is_unavailable(error):
            raise Unavailable(
                "PostgreSQL did not answer or refused the transaction; retry, and check that it runs",
                reason="STORE_UNAVAILABLE",
            ) from error

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Decorates an async function."""

        @functools.wraps(function)
        async def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with translate_errors():
                return await function(*args, **kwargs)

        return wrapped


def is_unavailable(error: BaseException) -> bool:
    """Whether the database was away or busy, so that the same transaction may succeed later."""
    if isinstance(error, DBAPIError):
        original = error.orig
        return error.connection_invalidated or bool(original and is_unavailable(original.__cause__ or original))
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.exceptions.DataError):
        return "closed" in str(error) or "closing" in str(error) or "released" in str(error)
    return isinstance(error, _LOST)


async def connect_pool(addresses: Addresses, *, minimum: int = 1, maximum: int = 4) -> asyncpg.Pool:
    """A pool of connections, known to answer; raises Unavailable when the server does not.

    Each statement has 30 seconds unless it is given less.
    """
    with translate_errors():
        return await asyncpg.create_pool(
            addresses.postgres,
            min_size=minimum,
            max_size=maximum,
            timeout=CONNECT_DEADLINE_S,
            command_timeout=STATEMENT_DEADLINE_S,
            server_settings=SESSION_SETTINGS,
        )


def sqlalchemy_engine(addresses: Addresses, pool_size: int = 4) -> AsyncEngine:
    """An engine over the same driver with the same deadlines. It connects when first used."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            addresses.postgres,
            timeout=CONNECT_DEADLINE_S,
            command_timeout=STATEMENT_DEADLINE_S,
            server_settings=SESSION_SETTINGS,
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_DEADLINE_S,
        pool_pre_ping=True,
    )


@dataclass(frozen=True, slots=True)
class Ownership:
    """The right to write for a shard, until somebody takes it over."""

    service: str
    shard: str
    epoch: int

    @classmethod
    async def take(cls, connection: asyncpg.Connection | asyncpg.Pool, service: str, shard: str) -> Ownership:
        """Becomes the owner; waits for transactions of the former one that are under way.

        Raises Unavailable when Postgres does not answer.
        """
        with translate_errors():
            try:
                epoch = await _next_epoch(connection, service, shard)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                await _create_ownership_table(connection)
                epoch = await _next_epoch(connection, service, shard)
        return cls(service, shard, epoch)

    async def check(self, connection: asyncpg.Connection | AsyncConnection) -> None:
        """To be called first in each write transaction: nobody can take over until it ended.

        Raises Aborted (FENCED) when somebody did already; this process must then stop serving the shard.
        """
        query = "SELECT 1 FROM mulligan.ownership WHERE service = $1 AND shard = $2 AND epoch = $3 FOR SHARE"
        values = (self.service, self.shard, self.epoch)
        owned: Any
        if isinstance(connection, AsyncConnection):
            owned = (await connection.exec_driver_sql(query, values)).scalar()
        else:
            owned = await connection.fetchval(query, *values)
        if owned is None:
            raise Aborted(
                f"another actor took over {self.service}/{self.shard}; the call may be repeated there",
                reason="FENCED",
                metadata={"service": self.service, "shard": self.shard, "epoch": str(self.epoch)},
            )


async def _next_epoch(connection: asyncpg.Connection | asyncpg.Pool, service: str, shard: str) -> int:
    return int(
        await connection.fetchval(
            "INSERT INTO mulligan.ownership AS o (service, shard, epoch) VALUES ($1, $2, 1)"
            " ON CONFLICT (service, shard) DO UPDATE SET epoch = o.epoch + 1 RETURNING epoch",
            service,
            shard,
        )
    )


async def _create_ownership_table(connection: asyncpg.Connection | asyncpg.Pool) -> None:
    # One string without parameters runs as one transaction, so the lock covers all of it.
    await connection.execute(
        f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK});"
        "CREATE SCHEMA IF NOT EXISTS mulligan;"
        "CREATE TABLE IF NOT EXISTS mulligan.ownership"
        " (service text, shard text, epoch bigint NOT NULL, PRIMARY KEY (service, shard));"
    )
