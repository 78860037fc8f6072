"""Group commit: one task writes what was planned, many claims and releases in one fenced transaction.

Claims are in the memory from the moment they are planned, releases from the moment they are stored. So whatever the
fate of a transaction, what was planned meanwhile still fits. While one transaction is under way the next gathers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from mulligan.errors import Aborted, InternalError, MulliganError, Unavailable
from mulligan.resource.batch import Charges, Replay, Write, write_batch
from mulligan.stores.postgres import Ownership, is_unavailable

if TYPE_CHECKING:
    from mulligan.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

# Claims and releases in one transaction, at most.
MAX_BATCH = 256

# Seconds that a transaction may take before its outcome counts as unknown.
TRANSACTION_DEADLINE_S = 20.0


@dataclass(slots=True, eq=False)
class Exclusive:
    """Any other work that must not run beside claims; gets a transaction of its own."""

    work: Callable[[asyncpg.Connection], Awaitable[Any]]
    # Brings the memory up to date once the work is stored, before anything else is.
    apply: Callable[[Any], object]
    done: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    """The one who writes for a shard. Whatever leaves the memory in doubt is told to `on_doubt`, once."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        ownership: Ownership,
        clock: Clock,
        charges: Charges,
        on_doubt: Callable[[MulliganError], None],
    ) -> None:
        """Nothing runs before `start`."""
        self._pool = pool
        self._ownership = ownership
        self._clock = clock
        self._charges = charges
        self._on_doubt = on_doubt
        self._queue: deque[Write | Exclusive] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Why nothing more is taken, and why nothing more is written.
        self._refusal: MulliganError | None = None
        self._in_doubt: MulliganError | None = None
        self._connection: asyncpg.Connection | None = None
        # Transactions that were committed, for figures.
        self.commits = 0

    def start(self) -> None:
        """Begins to write."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="writer")

    async def stop(self) -> None:
        """Writes what waits, then ends."""
        if self._refusal is None:
            self._refusal = Unavailable("the shard stops; try again", reason="DRAINING", retry_after_s=0.5)
        if self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task])

    def submit(self, write: Write) -> asyncio.Future[bytes | None]:
        """Queues a planned claim or a release.

        The future's result is None once it is stored, or the answer that its request was given when it was stored
        before. A failure undoes what was planned.
        """
        if self._refusal is not None:
            self._fail([write], self._refusal)
        else:
            self._queue.append(write)
            self._wake.set()
        return write.done

    async def exclusive(
        self, work: Callable[[asyncpg.Connection], Awaitable[T]], apply: Callable[[T], object] = lambda result: None
    ) -> T:
        """Runs `work` in a fenced transaction after all that was queued before and before all that comes after."""
        if self._refusal is not None:
            raise self._refusal
        job = Exclusive(work, apply)
        self._queue.append(job)
        self._wake.set()
        # The work goes on when its caller goes away: a change that is half made known helps nobody.
        result: T = await asyncio.shield(job.done)
        return result

    async def catch_up(self) -> None:
        """Waits until all that was queued before is stored or not; raises as `exclusive` does."""

        async def nothing(connection: asyncpg.Connection) -> None:
            pass

        await self.exclusive(nothing)

    async def _run(self) -> None:
        while self._queue or self._refusal is None:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            elif self._in_doubt is not None:
                self._fail_all(self._in_doubt)
            elif isinstance(job := self._queue[0], Exclusive):
                self._queue.popleft()
                await self._run_exclusive(job)
            else:
                await self._run_batch(self._next_batch())
        await self._let_go()

    def _fail_all(self, error: MulliganError) -> None:
        while self._queue:
            job = self._queue.popleft()
            if isinstance(job, Exclusive):
                _settle(job.done, error=error)
            else:
                self._fail([job], error)

    def _next_batch(self) -> list[Write]:
        batch: list[Write] = []
        while self._queue and len(batch) < MAX_BATCH:
            write = self._queue[0]
            if isinstance(write, Exclusive):
                break
            batch.append(write)
            self._queue.popleft()
        return batch

    async def _run_batch(self, batch: list[Write]) -> None:
        try:
            replays = await self._in_transaction(lambda connection: self._write(connection, batch))
        except MulliganError as error:
            self._fail(batch, error)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch, self._verdict(error))
                return
            # One of them is bad: the others shall not suffer. The transaction changed nothing.
            for write in batch:
                await self._run_batch([write])
        else:
            self._finish(batch, replays)

    def _finish(self, batch: Sequence[Write], replays: Mapping[Write, Replay]) -> None:
        """Tells the memory and the callers what is stored."""
        for write in batch:
            replay = replays.get(write)
            try:
                if replay is None:
                    write.commit()
                else:
                    write.undo()
            except Exception as error:
                self._verdict(error)
            write.answer(replay)

    def _verdict(self, error: Exception) -> MulliganError:
        """What to tell the callers about a failure that is not theirs; whether the memory can still be relied on."""
        if isinstance(error, MulliganError):
            return error
        if isinstance(error, asyncpg.DataError | asyncpg.InternalClientError):
            return _not_stored(error)
        log.critical("the database and the memory do not agree; reading it anew", exc_info=error)
        return self._doubt(_memory_is_wrong())

    async def _write(self, connection: asyncpg.Connection, batch: Sequence[Write]) -> dict[Write, Any]:
        return await write_batch(connection, self._ownership.shard, batch, self._charges, self._clock())

    async def _run_exclusive(self, job: Exclusive) -> None:
        try:
            result = await self._in_transaction(job.work)
        except Exception as error:
            # It was rolled back and the memory knows nothing of it, so both still agree.
            _settle(job.done, error=error if isinstance(error, MulliganError) else _not_stored(error))
            return
        try:
            job.apply(result)
        except Exception as error:
            _settle(job.done, error=self._verdict(error))
        else:
            _settle(job.done, result)

    async def _in_transaction(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Raises what `work` raises, FENCED, or Unavailable; nothing is stored then, or the memory is in doubt.

        Begins nothing once it is in doubt: whoever reads the memory anew waits for the transaction that is under
        way, and for no later one.
        """
        if self._in_doubt is not None:
            raise self._in_doubt
        committing = False
        try:
            async with asyncio.timeout(TRANSACTION_DEADLINE_S):
                connection = await self._connect()
                async with connection.transaction():
                    await self._ownership.check(connection)
                    result = await work(connection)
                    committing = True
            self.commits += 1
            return result
        except Aborted as error:
            if error.reason == "FENCED":
                self._doubt(error)
            raise
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("lost PostgreSQL while writing: %s", error or type(error).__name__)
            verdict = self._doubt(_unknown_outcome()) if committing else _unavailable()
            await self._let_go(broken=True)
            raise verdict from error

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is not None and _is_lost(self._connection):
            # While nothing was written, so nothing is in doubt.
            await self._let_go()
        if self._connection is None:
            self._connection = await self._pool.acquire()
        return self._connection

    async def _let_go(self, broken: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if broken and not _is_lost(connection):
                connection.terminate()
            await self._pool.release(connection)

    def _fail(self, batch: Sequence[Write], error: MulliganError) -> None:
        for write in batch:
            write.undo()
            _settle(write.done, error=error)

    def _doubt(self, error: MulliganError) -> MulliganError:
        """From here on nothing is written: what the memory says can no longer be relied on."""
        if self._in_doubt is None:
            self._in_doubt = error
            self._refusal = self._refusal or error
            self._on_doubt(error)
        return error


def _is_lost(connection: asyncpg.Connection) -> bool:
    """Whether the pool knows that PostgreSQL closed it: it has taken it back by itself then."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _settle(future: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
    """Gives a future its outcome, whether or not anybody still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()


def _not_stored(error: Exception) -> InternalError:
    log.error("a request could not be stored", exc_info=error)
    return InternalError("the request could not be stored; the service's log says why")


def _unknown_outcome() -> Unavailable:
    return Unavailable(
        "PostgreSQL was lost while it stored the request, so the outcome is not known yet; send it again with the"
        " same request_id",
        reason="STORE_UNAVAILABLE",
        retry_after_s=1,
    )


def _unavailable() -> Unavailable:
    return Unavailable(
        "PostgreSQL did not answer or refused the transaction; nothing was stored, try again",
        reason="STORE_UNAVAILABLE",
        retry_after_s=0.5,
    )


def _memory_is_wrong() -> Unavailable:
    return Unavailable(
        "the database does not agree with the memory of the shard, which is read anew; try again",
        reason="SHARD_UNAVAILABLE",
        retry_after_s=1,
    )
