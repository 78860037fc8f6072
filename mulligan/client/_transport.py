"""The seam between the client and the network: swap it, and the client runs without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from mulligan.errors import DeadlineExceeded, Unavailable
from mulligan.methods import Method, RequestT, ResponseT

Metadata = tuple[tuple[str, str], ...]


class ConnectionLost(Unavailable):
    """A gateway could not be reached, or the connection to it broke; another one may answer."""


class Unreachable(ConnectionLost):
    """There was no connection to the gateway, so it has seen nothing of the request."""


class NoAnswer(DeadlineExceeded):
    """The time was over before the gateway said anything at all; it may hang."""


class Transport(Protocol):
    """Carries messages to one address. Failures are `mulligan.errors`; a lost gateway is ConnectionLost, and
    Unreachable when it certainly got nothing.
    """

    async def unary(
        self, address: str, method: Method[RequestT, ResponseT], request: RequestT, metadata: Metadata, timeout_s: float
    ) -> ResponseT:
        """One request, one response; NoAnswer after `timeout_s` seconds."""
        ...

    def stream(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        """One request, many responses."""
        ...

    def exchange(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterator[RequestT],
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        """Many requests, many responses."""
        ...

    async def close(self) -> None:
        """Ends every connection."""
        ...
