"""How long a stream lasts: until its token ends, its gateway drains, or, without a token, its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from mulligan.errors import DeadlineExceeded, MulliganError, Unauthenticated

if TYPE_CHECKING:
    from gateways.authentication import Identity
    from gateways.limits import Limits

T = TypeVar("T")


class Lifetime:
    """Entered for as long as a stream is served; `race` ends with the stream when that must end."""

    def __init__(self, identity: Identity, limits: Limits, now_us: int) -> None:
        self._identity = identity
        self._limits = limits
        self._now_us = now_us
        self._end: asyncio.Future[MulliganError] = asyncio.get_running_loop().create_future()
        self._expiry: asyncio.TimerHandle | None = None

    def __enter__(self) -> Lifetime:
        loop = asyncio.get_running_loop()
        caller = self._identity.caller
        if caller.account:
            seconds = (caller.expires_us - self._now_us) / 1_000_000
            expired = Unauthenticated(
                "the access token expired; open the stream with a new one", reason="TOKEN_EXPIRED"
            )
            self._expiry = loop.call_later(seconds, self._finish, expired)
        else:
            over = DeadlineExceeded("a stream without an access token does not last; open it again")
            self._expiry = loop.call_later(self._limits.deadline_s(None), self._finish, over)
        self._identity.listeners.add(self._finish)
        self._limits.leaving.add(self._finish)
        if self._identity.ended is not None:
            self._finish(self._identity.ended)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._identity.listeners.discard(self._finish)
        self._limits.leaving.discard(self._finish)
        if self._expiry is not None:
            self._expiry.cancel()

    @property
    def over(self) -> bool:
        """Whether the stream has to end."""
        return self._end.done()

    async def race(self, work: Awaitable[T]) -> T:
        """The result of the work; raises why the stream has to end as soon as it has to, and gives the work up."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._end), return_when=asyncio.FIRST_COMPLETED)
            if self._end.done():
                raise self._end.result()
            return task.result()
        finally:
            task.cancel()
            if task.done() and not task.cancelled():
                task.exception()  # it is known of, whether it matters or not

    def _finish(self, error: MulliganError) -> None:
        if not self._end.done():
            self._end.set_result(error)
