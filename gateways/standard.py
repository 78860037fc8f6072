"""The services that gRPC tools expect of any server: health for everyone, reflection for authenticated callers.

Both are bounded as our own services are. Only the drain is left to them: a gateway that drains still says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from gateways.authentication import Authentication, Identity, Metadata, Need
from gateways.failures import abort, as_reply, unexpected
from gateways.lifetime import Lifetime
from gateways.limits import ANONYMOUS_READS, Lane, Limits
from gateways.reading import late, read_anonymous
from gateways.server import Admit
from mulligan.errors import InvalidArgument, MulliganError

HEALTH: Final = "grpc.health.v1.Health"
# The same messages under two names: tools try the newer one first.
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

Context = Any  # a grpc.aio.ServicerContext
Serve = Callable[[Context, Lifetime], Awaitable[None]]


class Standard:
    """Handlers by path, for the door."""

    def __init__(self, services: Iterable[str], authentication: Authentication, limits: Limits) -> None:
        """`services` are the full names of what the gateway serves."""
        self._services = tuple(services)
        self._authentication = authentication
        self._limits = limits
        self._health = health_aio.HealthServicer()
        self._reflection = ReflectionServicer(sorted((*self._services, HEALTH, *REFLECTION)))
        # Of their own: who holds up logins holds up no load balancer.
        self._reads = asyncio.Semaphore(ANONYMOUS_READS)

    async def set_serving(self) -> None:
        """Whole and each service are SERVING from now on."""
        for name in ("", *self._services):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def set_draining(self) -> None:
        """All are NOT_SERVING, for good."""
        await self._health.enter_graceful_shutdown()

    def entries(self) -> dict[str, Admit]:
        """Path -> admission of a call."""
        # Health is open to everyone: load balancers have no token, and it tells nothing but whether this server serves.
        check = self._admission(self._check, Need.NOTHING)
        watch = self._admission(self._watch, Need.NOTHING)
        reflect = self._admission(self._reflect, Need.VALID)
        health = {f"/{HEALTH}/Check": check, f"/{HEALTH}/Watch": watch}
        return health | {f"/{name}/ServerReflectionInfo": reflect for name in REFLECTION}

    def _admission(self, serve: Serve, need: Need) -> Admit:
        lane = Lane()

        def admit(metadata: Metadata) -> StandardCall:
            identity = self._authentication.identify(metadata, need)
            return StandardCall(serve, self._limits, lane, identity, self._authentication.now_us())

        return admit

    async def _check(self, context: Context, lifetime: Lifetime) -> None:
        request = await self._asked(context, lifetime)
        await lifetime.race(context.write(await self._health.Check(request, context)))

    async def _watch(self, context: Context, lifetime: Lifetime) -> None:
        request = await self._asked(context, lifetime)
        await lifetime.race(self._health.Watch(request, context))

    async def _asked(self, context: Context, lifetime: Lifetime) -> Any:
        ends = asyncio.get_running_loop().time() + self._limits.deadline_s(None)
        try:
            data = await lifetime.race(read_anonymous(context, self._reads, ends))
        except TimeoutError:
            raise late() from None
        return _parsed(health_pb2.HealthCheckRequest, data)

    async def _reflect(self, context: Context, lifetime: Lifetime) -> None:
        async def asked() -> AsyncIterator[Any]:
            while (data := await lifetime.race(context.read())) is not grpc.aio.EOF:
                self._limits.check_size(data)
                yield _parsed(reflection_pb2.ServerReflectionRequest, data)

        async with aclosing(self._reflection.ServerReflectionInfo(asked(), context)) as answers:
            async for answer in answers:
                await lifetime.race(context.write(answer))


class StandardCall:
    """One call, counted and ended like those of our own services. A handler, as grpc.RpcMethodHandler is one."""

    __slots__ = ("_identity", "_lane", "_limits", "_now_us", "_serve")

    # So that the call is counted, and its time runs, before its request is read.
    request_streaming = True
    response_streaming = True
    request_deserializer = None
    response_serializer = staticmethod(lambda message: message.SerializeToString())

    def __init__(self, serve: Serve, limits: Limits, lane: Lane, identity: Identity, now_us: int) -> None:
        self._serve = serve
        self._limits = limits
        self._lane = lane
        self._identity = identity
        self._now_us = now_us

    async def stream_stream(self, _requests: Any, context: Context) -> None:
        """Writes the responses; a failure aborts the call."""
        try:
            self._limits.count(self._lane)
            try:
                with Lifetime(self._identity, self._limits, self._now_us) as lifetime:
                    await self._serve(context, lifetime)
            finally:
                self._limits.leave(self._lane)
        except grpc.aio.AbortError:
            raise
        except MulliganError as error:
            reply = as_reply(error)
        except Exception as error:
            reply = unexpected("health or reflection", error)
        else:
            return
        await abort(context, *reply)


def _parsed(kind: type[Message], data: Any) -> Message:
    try:
        if isinstance(data, bytes):
            return kind.FromString(data)
    except DecodeError:
        pass
    raise InvalidArgument(f"the request is not a valid {kind.DESCRIPTOR.full_name}", reason="MALFORMED_MESSAGE")
