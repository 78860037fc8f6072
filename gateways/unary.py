"""One request, one response: the hot path. Bytes come in and go out; nothing is serialized again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateways.failures import abort, as_reply, unexpected
from gateways.fan_out import find, first, merge
from gateways.methods import FanOut
from gateways.reading import read_request
from mulligan.dispatch import Reply
from mulligan.errors import MulliganError

if TYPE_CHECKING:
    import grpc

    from gateways.authentication import Identity
    from gateways.pipeline import Route
    from gateways.routing import Passage

# Seconds after which a request that came in is not taken for one of the moment in which its caller was let in.
WAITED_S: Final = 0.01


class UnaryCall:
    """One unary call. A handler, as grpc.RpcMethodHandler is one; made for each call, so it is kept small."""

    __slots__ = ("_identity", "_route")

    # So that the call is counted, and its time runs, before its request is read.
    request_streaming = True
    response_streaming = False
    request_deserializer = None
    response_serializer = None

    def __init__(self, route: Route, identity: Identity) -> None:
        self._route = route
        self._identity = identity

    async def stream_unary(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The serialized response; a failure aborts the call."""
        route = self._route
        limits = route.pipeline.limits
        try:
            limits.enter(route.lane)
            try:
                code, payload = await self._reply(context)
            finally:
                limits.leave(route.lane)
        except MulliganError as error:
            code, payload = as_reply(error)
        except Exception as error:
            code, payload = unexpected(route.method.path, error)
        if code:
            await abort(context, code, payload)
        return payload

    async def _reply(self, context: grpc.aio.ServicerContext[Any, Any]) -> Reply:
        pipeline, method = self._route.pipeline, self._route.method
        clock = asyncio.get_running_loop().time
        began = clock()
        ends = began + pipeline.limits.deadline_s(context.time_remaining())
        request = await read_request(context, self._route, ends)
        if self._identity.ended is not None or clock() - began > WAITED_S:
            pipeline.authentication.require_current(self._identity)
        passage = pipeline.router.passage(self._identity, method, request)
        if len(passage.shards) == 1:
            return await pipeline.coalescer.queue(passage.shards[0]).send(method, passage.caller, request, ends)
        return await self._fan_out(passage, request, ends)

    async def _fan_out(self, passage: Passage, request: bytes, ends: float) -> Reply:
        pipeline, method = self._route.pipeline, self._route.method

        async def send(shard: str, part: bytes) -> Reply:
            return await pipeline.coalescer.queue(shard).send(method, passage.caller, part, ends)

        if method.fan_out is FanOut.FIRST:
            return await (first if method.mutating else find)(send, passage.shards, request)
        return await merge(send, method, passage.shards, request)
