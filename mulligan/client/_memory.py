"""The transport without a network: gateways that are objects in the same process, for tests of programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from mulligan.api.catalog.v1.catalog_service_pb2 import Endpoint, RegionRoute, WatchCatalogResponse
from mulligan.casing import snake_case
from mulligan.client._transport import ConnectionLost, Metadata, NoAnswer, Unreachable
from mulligan.errors import Unauthenticated, Unimplemented
from mulligan.methods import Method, RequestT, ResponseT

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that reached a gateway."""

    address: str
    method: str
    request: Any
    metadata: Metadata


class InMemoryTransport:
    """Serves calls from plain objects.

        transport = InMemoryTransport()
        transport.serve("gateway-1", resource=MyResource())
        async with Client.connect("gateway-1", transport=transport) as client: ...

    A service object has a method for each RPC that is called, named in snake case: `async def create_claim(self,
    request) -> response`; `async def watch_machine(self, request)` yields responses; `async def
    load_providers(self, requests)` takes an async iterator and yields responses. It raises `mulligan.errors`.
    The catalogue is served by itself. With `require_login` it behaves as real gateways do: without a token only IAM
    is told and reachable.
    """

    def __init__(self, *, require_login: bool = False, regions: Sequence[RegionRoute] = ()) -> None:
        self._require_login = require_login
        self._regions = list(regions)
        self._gateways: dict[str, dict[str, object]] = {}
        self._stopped: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._revision = 0
        # Every call that reached a gateway, in order; catalogue watches included.
        self.calls: list[RecordedCall] = []

    def serve(self, address: str, **services: object) -> None:
        """Starts a gateway with these services (iam, meta, resource, control, catalog), or starts it again."""
        self._gateways[address] = services
        self._stopped[address] = asyncio.Event()
        self._tell_change()

    def stop(self, address: str, *, announced: bool = True) -> None:
        """Kills a gateway: its streams break and calls to it fail. Not announced: the catalogue still names it."""
        self._stopped[address].set()
        if announced:
            del self._gateways[address]
            self._tell_change()

    def set_regions(self, regions: Sequence[RegionRoute]) -> None:
        """Changes the regions that the catalogue tells."""
        self._regions = list(regions)
        self._tell_change()

    async def unary(
        self, address: str, method: Method[RequestT, ResponseT], request: RequestT, metadata: Metadata, timeout_s: float
    ) -> ResponseT:
        handler = self._admit(address, method, request, metadata)
        response: ResponseT = await self._unless_stopped(address, method, handler(_copy(request)), timeout_s)
        return _copy(response)

    def stream(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        return self._responses(address, method, request, request, metadata, timeout_s)

    async def exchange(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterator[RequestT],
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        async for response in self._responses(address, method, requests, method.request(), metadata, timeout_s):
            yield response

    async def close(self) -> None:
        """There is nothing to end."""

    async def _responses(
        self,
        address: str,
        method: Method[Any, ResponseT],
        outgoing: Any,
        recorded: Message,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        handler = self._admit(address, method, recorded, metadata)
        responses = handler(outgoing)
        ends_at = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        try:
            while True:
                left_s = None if ends_at is None else max(0.0, ends_at - asyncio.get_running_loop().time())
                try:
                    response: ResponseT = await self._unless_stopped(address, method, anext(responses), left_s)
                except StopAsyncIteration:
                    return
                yield _copy(response)
        finally:
            await responses.aclose()

    def _admit(self, address: str, method: Method[Any, Any], request: Message, metadata: Metadata) -> Any:
        """The handler of the method, when there is such a gateway and the caller may call it."""
        stopped = self._stopped.get(address)
        if stopped is None or stopped.is_set():
            raise Unreachable(f"no answer from {address}: connection refused")
        self.calls.append(RecordedCall(address, method.name, _copy(request), metadata))
        if self._require_login and not method.anonymous and not metadata:
            raise Unauthenticated(f"{method.name} needs a token")
        served = self._gateways.get(address, {}).get(method.service)
        handler = getattr(served, snake_case(method.name), None)
        if handler is None and method.name == "WatchCatalog":
            return lambda request: self._catalogues(bool(metadata))
        if handler is None:
            raise Unimplemented(f"{address} has no {snake_case(method.name)}; serve an object that does")
        return handler

    async def _unless_stopped(
        self, address: str, method: Method[Any, Any], work: Coroutine[Any, Any, _T], timeout_s: float | None
    ) -> _T:
        """The work's result; when the gateway is stopped first, the caller sees the connection break."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopped[address].wait())
        try:
            await asyncio.wait([working, stopping], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if stopping.done():
                raise ConnectionLost(f"no answer from {address}: the connection broke")
            raise NoAnswer(f"{method.name} did not answer in {timeout_s} s")
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.wait([working, stopping])

    async def _catalogues(self, logged_in: bool) -> AsyncIterator[WatchCatalogResponse]:
        while True:
            changed = self._changed
            yield self._catalogue(logged_in or not self._require_login)
            await changed.wait()

    def _catalogue(self, whole: bool) -> WatchCatalogResponse:
        endpoints = [
            Endpoint(service=service, address=address, instance=address)
            for address, services in self._gateways.items()
            for service in services
            if service != "catalog" and (whole or service == "iam")
        ]
        return WatchCatalogResponse(
            revision=self._revision, endpoints=endpoints, regions=self._regions if whole else []
        )

    def _tell_change(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()


def _copy(message: _M) -> _M:
    """As it would arrive: nothing is shared between the two sides of a wire."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
