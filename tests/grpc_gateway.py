"""Gateways over real gRPC and TLS inside the test process: services are plain objects, as for InMemoryTransport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from mulligan.api.catalog.v1 import catalog_client
from mulligan.api.catalog.v1.catalog_service_pb2 import Endpoint, RegionRoute, WatchCatalogResponse
from mulligan.api.control.v1 import control_client
from mulligan.api.iam.v1 import iam_client
from mulligan.api.meta.v1 import meta_client
from mulligan.api.resource.v1 import resource_client
from mulligan.casing import snake_case
from mulligan.errors import MulliganError, Unauthenticated, to_status
from mulligan.methods import Method, Streaming
from mulligan.pki import ensure_ca, ensure_server_certificate

_MODULES: dict[str, ModuleType] = {
    "catalog": catalog_client,
    "control": control_client,
    "iam": iam_client,
    "meta": meta_client,
    "resource": resource_client,
}


class Fleet:
    """Some gateways of one small system, and the catalogue that they all tell."""

    def __init__(self, tls_dir: Path) -> None:
        ensure_ca(tls_dir)
        ensure_server_certificate(tls_dir, ["127.0.0.1", "localhost"])
        pair = ((tls_dir / "server.key").read_bytes(), (tls_dir / "server.crt").read_bytes())
        self.ca_file = tls_dir / "ca.crt"
        self.regions: list[RegionRoute] = []
        # Calls that arrived: address and method.
        self.calls: list[tuple[str, str]] = []
        self._credentials = grpc.ssl_server_credentials([pair])
        self._servers: dict[str, grpc.aio.Server] = {}
        self._services: dict[str, dict[str, object]] = {}
        self._changed = asyncio.Event()

    async def serve(self, at: str = "127.0.0.1:0", **services: object) -> str:
        """Starts a gateway, on a free port or at an address that it had before, and answers its address."""
        server = grpc.aio.server()
        port = server.add_secure_port(at, self._credentials)
        address = f"127.0.0.1:{port}"
        for name, served in {"catalog": _Catalog(self), **services}.items():
            server.add_generic_rpc_handlers([self._handlers(address, name, served)])
        await server.start()
        self._servers[address], self._services[address] = server, services
        self._tell_change()
        return address

    async def kill(self, address: str, *, announced: bool = False) -> None:
        """Ends a gateway without grace. The catalogue goes on naming it, unless `announced`."""
        if announced:
            del self._services[address]
            self._tell_change()
        await self._servers.pop(address).stop(None)

    async def close(self) -> None:
        """Ends every gateway."""
        for address in list(self._servers):
            await self.kill(address)

    async def catalogues(self, logged_in: bool) -> AsyncIterator[WatchCatalogResponse]:
        """What WatchCatalog tells."""
        while True:
            changed = self._changed
            endpoints = [
                Endpoint(service=service, address=address)
                for address, services in self._services.items()
                for service in services
                if logged_in or service == "iam"
            ]
            yield WatchCatalogResponse(endpoints=endpoints, regions=self.regions if logged_in else [])
            await changed.wait()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _handlers(self, address: str, service: str, served: object) -> grpc.GenericRpcHandler:
        found = [value for value in vars(_MODULES[service]).values() if isinstance(value, Method)]
        handlers = {
            method.name: self._handler(address, method, getattr(served, snake_case(method.name)))
            for method in found
            if hasattr(served, snake_case(method.name))
        }
        return grpc.method_handlers_generic_handler(found[0].path.split("/")[1], handlers)

    def _handler(self, address: str, method: Method[Any, Any], handler: Callable[[Any], Any]) -> grpc.RpcMethodHandler:
        async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
            async with self._admitted(address, method, context):
                return await handler(request)

        async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async with self._admitted(address, method, context):
                given = bool(_token(context)) if method.name == "WatchCatalog" else request
                async for response in handler(given):
                    yield response

        make, behaviour = {
            Streaming.NONE: (grpc.unary_unary_rpc_method_handler, unary),
            Streaming.SERVER: (grpc.unary_stream_rpc_method_handler, stream),
            Streaming.BOTH: (grpc.stream_stream_rpc_method_handler, stream),
        }[method.streaming]
        return make(behaviour, method.request.FromString, method.response.SerializeToString)

    @asynccontextmanager
    async def _admitted(
        self, address: str, method: Method[Any, Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[None]:
        self.calls.append((address, method.name))
        try:
            if not method.anonymous and not _token(context):
                raise Unauthenticated(f"{method.name} needs a token")
            yield
        except MulliganError as error:
            details = (("grpc-status-details-bin", to_status(error).SerializeToString()),)
            code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
            await context.abort(code, error.message, details)


class _Catalog:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def watch_catalog(self, logged_in: bool) -> AsyncIterator[WatchCatalogResponse]:
        return self._fleet.catalogues(logged_in)


def _token(context: grpc.aio.ServicerContext) -> str:
    return str(dict(context.invocation_metadata() or ()).get("authorization", ""))
