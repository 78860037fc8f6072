"""Whether a failed call may be tried again, and when."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from mulligan.client._config import Backoff, Timeouts
from mulligan.client._endpoints import Endpoints
from mulligan.client._routes import Routes
from mulligan.client._time import Deadline, Time
from mulligan.client._tokens import TokenSource
from mulligan.client._transport import ConnectionLost, Metadata, NoAnswer, Unreachable
from mulligan.errors import (
    Aborted,
    DeadlineExceeded,
    MulliganError,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from mulligan.methods import Method, Streaming


class Attempts:
    """What has gone wrong so far in one call or stream."""

    def __init__(
        self,
        method: Method[Any, Any],
        deadline: Deadline,
        *,
        time: Time,
        timeouts: Timeouts,
        backoff: Backoff,
        endpoints: Endpoints,
        routes: Routes,
        tokens: TokenSource,
    ) -> None:
        self._method = method
        self._deadline = deadline
        self._time = time
        self._backoff = backoff
        self._endpoints = endpoints
        self._routes = routes
        self._tokens = tokens
        self._failures = 0
        self._lost: set[str] = set()
        self._renewed = False
        self._redirected = False
        # A stream may last for ever, but not without any contact.
        self._contact = Deadline(time, timeouts.reconnect_s)
        self._reconnect_s = timeouts.reconnect_s

    def succeeded(self) -> None:
        """A stream has delivered: what went wrong before does not count any more."""
        self._failures = 0
        self._lost.clear()
        self._renewed = self._redirected = False
        self._contact = Deadline(self._time, self._reconnect_s)

    def note(self, error: MulliganError, address: str, metadata: Metadata) -> None:
        """Remembers what the failure says of the gateway and of the token."""
        if isinstance(error, ConnectionLost) or error.reason == "DRAINING":
            self._endpoints.failed(address)
            self._lost.add(address)
        elif isinstance(error, NoAnswer):
            # Of a stream it only tells that its time is over.
            if self._method.streaming is Streaming.NONE:
                self._endpoints.failed(address)
        else:
            self._endpoints.works(address)
        if isinstance(error, Unauthenticated) and metadata:
            self._tokens.reject(metadata)
        if isinstance(error, NotFound):
            self._routes.forget_names()

    async def recover(self, error: MulliganError, request: Message, address: str, metadata: Metadata) -> None:
        """Returns when it is time for the next attempt; raises the error when there must be none."""
        self.note(error, address, metadata)
        if self._renews(error, metadata):
            return
        if self._redirects(error, request):
            await self._wait(error, self._backoff.delay_s(1))
            return
        if not self._may_repeat(error) or not self._may_pass(error):
            raise error
        self._failures += 1
        elsewhere = address in self._lost and self._endpoints.has_other(self._method.service, self._lost)
        delay_s = 0.0 if elsewhere else max(self._backoff.delay_s(self._failures), error.retry_after_s or 0.0)
        if not self._keeps_contact(delay_s):
            raise error
        await self._wait(error, delay_s)

    async def _wait(self, error: MulliganError, delay_s: float) -> None:
        if not self._deadline.allows(delay_s):
            raise error
        if delay_s:
            await self._time.sleep(delay_s)

    def _may_repeat(self, error: MulliganError) -> bool:
        """Whether it does no harm to send the request again: what nobody has begun may always be."""
        if self._method.retry_safe or isinstance(error, Unreachable):
            return True
        return error.reason == "DRAINING" and not self._is_stream

    def _may_pass(self, error: MulliganError) -> bool:
        """Whether the failure may be gone by the next attempt."""
        if isinstance(error, Unavailable):
            return True
        if isinstance(error, ResourceExhausted | Aborted):
            return error.retry_after_s is not None
        # A gateway ends a stream that lasts longer than it allows any request to.
        return isinstance(error, DeadlineExceeded) and self._is_stream

    @property
    def _is_stream(self) -> bool:
        return self._method.streaming is Streaming.SERVER

    def _keeps_contact(self, delay_s: float) -> bool:
        return not self._is_stream or self._contact.allows(delay_s)

    def _renews(self, error: MulliganError, metadata: Metadata) -> bool:
        """A token that a gateway does not accept any more is replaced once; the request was not looked at."""
        if not isinstance(error, Unauthenticated) or not metadata or self._renewed:
            return False
        self._renewed = self._tokens.can_renew
        return self._renewed

    def _redirects(self, error: MulliganError, request: Message) -> bool:
        """A request that went to the wrong region goes to the right one, once."""
        if self._redirected or not self._routes.redirect(self._method, request, error):
            return False
        self._redirected = True
        return True
