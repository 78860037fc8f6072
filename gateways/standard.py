"""The services that gRPC tools expect of any server: health for everyone, reflection for authenticated callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from gateways.authentication import Authentication, Metadata, Need
from gateways.server import Admit

HEALTH: Final = "grpc.health.v1.Health"
# The same messages under two names: tools try the newer one first.
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Standard:
    """Handlers by path, for the door."""

    def __init__(self, services: Iterable[str], authentication: Authentication) -> None:
        """`services` are the full names of what the gateway serves."""
        self._services = tuple(services)
        self._authentication = authentication
        self._health = health_aio.HealthServicer()

    async def set_serving(self) -> None:
        """Whole and each service are SERVING from now on."""
        for name in ("", *self._services):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def set_draining(self) -> None:
        """All are NOT_SERVING, for good."""
        await self._health.enter_graceful_shutdown()

    def entries(self) -> dict[str, Admit]:
        """Path -> admission of a call."""
        return {**self._health_entries(), **self._reflection_entries()}

    def _health_entries(self) -> dict[str, Admit]:
        """Open to everyone: load balancers have no token, and it tells nothing but whether this server serves."""
        codec = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        check = grpc.unary_unary_rpc_method_handler(self._health.Check, **codec)
        watch = grpc.unary_stream_rpc_method_handler(self._health.Watch, **codec)
        return {f"/{HEALTH}/Check": lambda _: check, f"/{HEALTH}/Watch": lambda _: watch}

    def _reflection_entries(self) -> dict[str, Admit]:
        servicer = ReflectionServicer(sorted((*self._services, HEALTH, *REFLECTION)))
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )

        def admit(metadata: Metadata) -> Any:
            self._authentication.identify(metadata, Need.VALID)
            return handler

        return {f"/{name}/ServerReflectionInfo": admit for name in REFLECTION}
