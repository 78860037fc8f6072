"""The one request of a call, read after the call was counted: an upload that never ends holds no place for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateways.routing import malformed
from mulligan.errors import DeadlineExceeded

if TYPE_CHECKING:
    import grpc

    from gateways.pipeline import Route

# Seconds that the request of a caller without a token may take to come in: it is small and comes at once, unless
# somebody wants to fill the memory.
ANONYMOUS_READ_S: Final = 2.0


async def read_request(context: grpc.aio.ServicerContext[Any, Any], route: Route, ends: float) -> bytes:
    """The request, most often there already; raises DeadlineExceeded, ResourceExhausted, InvalidArgument.

    `ends` is by the loop's clock.
    """
    try:
        if route.method.anonymous:
            request = await read_anonymous(context, route.pipeline.limits.anonymous_reads, ends)
        else:
            async with asyncio.timeout_at(ends):
                request = await context.read()
    except TimeoutError:
        raise late() from None
    if not isinstance(request, bytes):
        raise malformed(route.method)
    route.pipeline.limits.check_size(request)
    return request


async def read_anonymous(context: grpc.aio.ServicerContext[Any, Any], reads: asyncio.Semaphore, ends: float) -> Any:
    """What a caller without a token sends first; so many at a time as `reads` lets in. Raises TimeoutError."""
    async with asyncio.timeout_at(ends), reads:
        async with asyncio.timeout(ANONYMOUS_READ_S):
            return await context.read()


def late() -> DeadlineExceeded:
    """What is told of a request that takes too long to come in."""
    return DeadlineExceeded("the request did not come in whole in time; send less, or give it more")
