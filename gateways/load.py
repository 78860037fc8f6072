"""Client streams: messages go to their shard in chunks. While one chunk is served the next one gathers."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from gateways.failures import abort, as_reply, unexpected
from gateways.lifetime import Lifetime
from mulligan.dispatch import OK, Reply
from mulligan.errors import InvalidArgument, MulliganError

if TYPE_CHECKING:
    from gateways.authentication import Identity
    from gateways.pipeline import Route
    from gateways.routing import Passage

MAX_CHUNK_MESSAGES: Final = 256
MAX_CHUNK_BYTES: Final = 512 * 1024


@dataclass(slots=True)
class Chunk:
    """Messages that follow one another and go to the same shard."""

    passage: Passage
    requests: list[bytes]
    # Bytes in all.
    size: int

    def takes(self, passage: Passage, request: bytes) -> bool:
        """Whether the next message still belongs in here."""
        return (
            passage is self.passage
            and len(self.requests) < MAX_CHUNK_MESSAGES
            and self.size + len(request) <= MAX_CHUNK_BYTES
        )

    def add(self, request: bytes) -> None:
        """Puts a message at the end."""
        self.requests.append(request)
        self.size += len(request)


class Inbox:
    """What was read and not yet sent on: two chunks at most, then the caller has to wait."""

    MAX_CHUNKS: Final = 2

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._closed = False
        self._error: Exception | None = None
        self._changed = asyncio.Condition()

    async def put(self, passage: Passage, request: bytes) -> None:
        """Takes a message, once there is room for it."""
        async with self._changed:
            if self._chunks and self._chunks[-1].takes(passage, request):
                self._chunks[-1].add(request)
                return
            while len(self._chunks) >= self.MAX_CHUNKS:
                await self._changed.wait()
            self._chunks.append(Chunk(passage, [request], len(request)))
            self._changed.notify_all()

    async def close(self, error: Exception | None = None) -> None:
        """Nothing comes after this; `error` is raised once everything before it was taken."""
        async with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    async def take(self) -> Chunk | None:
        """The next chunk as large as it is now, or None at the end."""
        async with self._changed:
            while not self._chunks and not self._closed:
                await self._changed.wait()
            if self._chunks:
                chunk = self._chunks.popleft()
                self._changed.notify_all()
                return chunk
            if self._error is not None:
                raise self._error
            return None


class LoadCall:
    """One client or two-way stream. A handler, as grpc.RpcMethodHandler is one.

    A two-way stream gets a response for each chunk, else the response for the last one is that of the call.
    """

    __slots__ = ("_identity", "_route")

    request_streaming = True
    request_deserializer = None
    response_serializer = None

    def __init__(self, route: Route, identity: Identity) -> None:
        self._route = route
        self._identity = identity

    @property
    def response_streaming(self) -> bool:
        """As the method declares it."""
        return self._route.method.server_streaming

    async def stream_stream(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Writes the response for each chunk; a failure aborts the call."""
        await self._serve(context)

    async def stream_unary(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """The response for the last chunk; a failure aborts the call."""
        return await self._serve(context)

    async def _serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        route = self._route
        limits = route.pipeline.limits
        try:
            limits.enter(route.lane)
            try:
                with Lifetime(self._identity, limits, route.pipeline.authentication.now_us()) as lifetime:
                    code, payload = await self._copy(context, lifetime)
            finally:
                limits.leave(route.lane)
        except MulliganError as error:
            code, payload = as_reply(error)
        except Exception as error:
            code, payload = unexpected(route.method.path, error)
        if code:
            await abort(context, code, payload)
        return payload

    async def _copy(self, context: grpc.aio.ServicerContext[Any, Any], lifetime: Lifetime) -> Reply:
        inbox = Inbox()
        reader = asyncio.create_task(self._read(context, inbox))
        try:
            return await self._send_chunks(context, inbox, lifetime)
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self, context: grpc.aio.ServicerContext[Any, Any], inbox: Inbox) -> None:
        """Each message is judged by itself: any may name a region that its caller may not touch."""
        pipeline, method = self._route.pipeline, self._route.method
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                pipeline.limits.check_size(request)
                await inbox.put(pipeline.router.passage(self._identity, method, request), request)
        except Exception as error:
            await inbox.close(error)
        else:
            await inbox.close()

    async def _send_chunks(
        self, context: grpc.aio.ServicerContext[Any, Any], inbox: Inbox, lifetime: Lifetime
    ) -> Reply:
        method = self._route.method
        position, reply = 0, None
        while (chunk := await lifetime.race(inbox.take())) is not None:
            reply = await self._send(chunk, position)
            position += len(chunk.requests)
            if reply[0]:
                return reply
            if method.server_streaming:
                await lifetime.race(context.write(reply[1]))
        if reply is None and not method.server_streaming:
            raise InvalidArgument(f"{method.name} needs at least one message", reason="MALFORMED_MESSAGE")
        return (OK, b"") if reply is None or method.server_streaming else reply

    async def _send(self, chunk: Chunk, position: int) -> Reply:
        """A chunk that was begun is finished, also when the gateway drains: its caller goes on after it."""
        pipeline, method = self._route.pipeline, self._route.method
        timeout_s = pipeline.limits.deadline_s(None)
        try:
            return await pipeline.shards.chunk(
                method.service,
                chunk.passage.shards[0],
                method.name,
                chunk.passage.caller,
                chunk.requests,
                position,
                timeout_s,
            )
        except MulliganError as error:
            return as_reply(error)
