"""Server streams: long polls of a shard, one after another, each from the cursor that the last one gave.

So a stream does not notice that the actor which serves it was replaced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateways.failures import abort, as_reply, unexpected
from gateways.fan_out import AWAY, TRY_NEXT
from gateways.lifetime import Lifetime
from gateways.methods import FanOut
from gateways.reading import read_request
from mulligan.dispatch import OK, PageReply, Reply
from mulligan.errors import InvalidArgument, MulliganError

if TYPE_CHECKING:
    import grpc

    from gateways.authentication import Identity
    from gateways.pipeline import Route
    from gateways.routing import Passage

# Seconds that a shard waits for something to tell.
POLL_WAIT_S: Final = 20.0
# Seconds without an answer after which the stream fails; its client then resumes it, here or elsewhere.
OUTAGE_S: Final = 30.0
# Seconds between polls that answer at once and tell nothing, and between polls that fail.
PAUSE_S: Final = 0.1


class WatchCall:
    """One server stream. A handler, as grpc.RpcMethodHandler is one."""

    __slots__ = ("_identity", "_route")

    # So that the call is counted, and its time runs, before its request is read.
    request_streaming = True
    response_streaming = True
    request_deserializer = None
    response_serializer = None

    def __init__(self, route: Route, identity: Identity) -> None:
        self._route = route
        self._identity = identity

    async def stream_stream(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Writes serialized responses until the shard says that there are no more; a failure aborts the call."""
        route = self._route
        limits = route.pipeline.limits
        try:
            limits.enter(route.lane)
            try:
                with Lifetime(self._identity, limits, route.pipeline.authentication.now_us()) as lifetime:
                    code, payload = await self._follow(context, lifetime)
            finally:
                limits.leave(route.lane)
        except MulliganError as error:
            code, payload = as_reply(error)
        except Exception as error:
            code, payload = unexpected(route.method.path, error)
        if code:
            await abort(context, code, payload)

    async def _follow(self, context: grpc.aio.ServicerContext[Any, Any], lifetime: Lifetime) -> Reply:
        pipeline, method = self._route.pipeline, self._route.method
        ends = asyncio.get_running_loop().time() + pipeline.limits.deadline_s(None)
        request = await lifetime.race(read_request(context, self._route, ends))
        passage = pipeline.router.passage(self._identity, method, request)
        if method.fan_out is FanOut.MERGE and len(passage.shards) != 1:
            raise InvalidArgument(
                f"{method.name} follows one shard; name a region of one",
                reason="REGION_AMBIGUOUS",
                field=method.region_field,
            )
        return await self._from_any(context, passage, request, lifetime)

    async def _from_any(
        self, context: grpc.aio.ServicerContext[Any, Any], passage: Passage, request: bytes, lifetime: Lifetime
    ) -> Reply:
        """The stream of the shard that has it; shards that are away are asked again after the others."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            away: Reply | None = None
            reply: Reply = (OK, b"")
            for shard in passage.shards:
                stream = _ShardStream(self._route, passage, shard, request, lifetime)
                reply = await stream.copy_to(context)
                if stream.found or reply[0] not in TRY_NEXT | AWAY:
                    return reply
                away = away or (reply if reply[0] in AWAY else None)
            if away is None or clock() - began >= OUTAGE_S:
                return away or reply
            await lifetime.race(asyncio.sleep(PAUSE_S))


class _ShardStream:
    """The stream as one shard serves it."""

    def __init__(self, route: Route, passage: Passage, shard: str, request: bytes, lifetime: Lifetime) -> None:
        self._route = route
        self._passage = passage
        self._shard = shard
        self._request = request
        self._lifetime = lifetime
        self._cursor = ""
        # The shard has answered with other than a failure.
        self.found = False

    @property
    def _waits(self) -> bool:
        """Whether the shard is worth waiting for, as it is the only one or is known to have it."""
        return self.found or len(self._passage.shards) == 1

    async def copy_to(self, context: grpc.aio.ServicerContext[Any, Any]) -> Reply:
        """How the stream ended."""
        clock = asyncio.get_running_loop().time
        answered = clock()
        while True:
            began = clock()
            page = await self._poll()
            if page.code in AWAY and self._waits and clock() - answered < OUTAGE_S:
                await self._lifetime.race(asyncio.sleep(PAUSE_S))
                continue
            if page.code:
                return page.code, page.error
            self.found, self._cursor, answered = True, page.cursor, clock()
            for message in page.messages:
                await self._lifetime.race(context.write(message))
            if page.done:
                return OK, b""
            if not page.messages and answered - began < PAUSE_S:
                await self._lifetime.race(asyncio.sleep(PAUSE_S))

    async def _poll(self) -> PageReply:
        method = self._route.method
        try:
            return await self._lifetime.race(
                self._route.pipeline.shards.poll(
                    method.service,
                    self._shard,
                    method.name,
                    self._passage.caller,
                    self._request,
                    self._cursor,
                    POLL_WAIT_S,
                )
            )
        except MulliganError as error:
            if self._lifetime.over:
                raise
            code, payload = as_reply(error)
            return PageReply([], self._cursor, False, code, payload)
