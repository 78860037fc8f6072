"""A whole gateway without Ray: the rooms of this package, wired to the stores and to whoever reaches the shards."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from gateways.authentication import Authentication
from gateways.catalogue import CatalogService, Catalogue
from gateways.coalesce import Coalescer
from gateways.limits import Limits
from gateways.load import LoadCall
from gateways.methods import Method, methods_of
from gateways.pipeline import Pipeline, Route
from gateways.routing import Regions, Router
from gateways.server import Admit, Door, GatewayServer
from gateways.shards import Here, ShardCaller
from gateways.standard import Standard
from gateways.status import Ask, Status
from gateways.tls import ServerCertificate
from gateways.unary import UnaryCall
from gateways.watch import WatchCall
from mulligan.api.catalog.v1 import catalog_service_pb2
from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.clock import Clock
from mulligan.dispatch import MethodTable
from mulligan.runtime_settings import RuntimeSettings
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix

log = logging.getLogger(__name__)

CATALOG: Final = catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"]

# Seconds in which a gateway that left the catalogue still serves those who have just read it.
LINGER_S: Final = 0.2


class Stores:
    """What a gateway follows in etcd."""

    def __init__(self, etcd: EtcdClient, service: str) -> None:
        self.settings = RuntimeSettings(etcd, service, ServiceSettings)
        self.keys = WatchedPrefix(etcd, keys.IAM_KEYS)
        self.revocations = WatchedPrefix(etcd, keys.IAM_REVOKED)
        self.regions = WatchedPrefix(etcd, keys.META_REGIONS)
        self.actors = WatchedPrefix(etcd, keys.CATALOG_ACTORS)
        self.gateways = WatchedPrefix(etcd, keys.CATALOG_GATEWAYS)
        self._all = (self.settings, self.keys, self.revocations, self.regions, self.actors, self.gateways)

    async def start(self) -> None:
        """Reads everything and follows it from then on; raises Unavailable."""
        await asyncio.gather(*[each.start() for each in self._all])

    async def close(self) -> None:
        """Stops following."""
        await asyncio.gather(*[each.close() for each in self._all])


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway listens, and where its certificate is."""

    host: str
    # 0: a free one.
    port: int
    tls_dir: Path


class Gateway:
    """Serves one service, the catalogue, health and reflection on one address."""

    def __init__(
        self, descriptor: ServiceDescriptor, stores: Stores, shards: ShardCaller, ask: Ask, at: Address, clock: Clock
    ) -> None:
        """Raises InvalidMethod when the descriptor says too little. Nothing is served before `start`."""
        self._limits = Limits(lambda: stores.settings.current)
        self._regions = Regions(stores.regions)
        self._authentication = Authentication(stores.keys, stores.revocations, clock)
        self._coalescers: list[Coalescer] = []
        methods = [methods_of(descriptor), methods_of(CATALOG)]
        self._standard = Standard((descriptor.full_name, CATALOG.full_name), self._authentication, self._limits)
        self._door = Door(
            {
                **self._entries(methods[0], shards, looks_at_tokens=False),
                **self._entries(methods[1], Here(self._catalogue(stores, ask)), looks_at_tokens=True),
            },
            self._standard.entries(),
        )
        self._server = GatewayServer(at.host, at.port, ServerCertificate(at.tls_dir), self._door)

    @property
    def in_flight(self) -> int:
        """Calls that are worked on."""
        return self._limits.in_flight

    async def start(self) -> int:
        """Serves; returns the port."""
        port = await self._server.start()
        await self._standard.set_serving()
        return port

    async def drain(self, deadline_s: float) -> None:
        """Refuses new calls, ends streams, waits for what is in flight, closes the port. Leave the catalogue before."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        await self._standard.set_draining()
        await asyncio.sleep(min(LINGER_S, deadline_s / 2))
        self._door.close()
        self._limits.drain()
        if not await self._limits.wait_idle(ends - loop.time()):
            log.warning("%d calls were still in flight after %g s", self.in_flight, deadline_s)
        await self._server.stop()
        for coalescer in self._coalescers:
            await coalescer.close()

    def _catalogue(self, stores: Stores, ask: Ask) -> MethodTable:
        catalogue = Catalogue(stores.actors, stores.gateways, self._regions, stores.regions)
        return MethodTable(CATALOG, CatalogService(catalogue, Status(catalogue, ask).report))

    def _entries(self, methods: list[Method], shards: ShardCaller, *, looks_at_tokens: bool) -> dict[str, Admit]:
        """The door's entries for the methods of one service."""
        service = methods[0].service
        router = Router(service, self._regions, lambda: shards.shards(service))
        coalescer = Coalescer(shards, service)
        self._coalescers.append(coalescer)
        pipeline = Pipeline(self._limits, self._authentication, router, shards, coalescer, looks_at_tokens)
        return {method.path: Route(method, pipeline, _kind(method)).admit for method in methods}


def _kind(method: Method) -> type[UnaryCall] | type[WatchCall] | type[LoadCall]:
    if method.client_streaming:
        return LoadCall
    return WatchCall if method.server_streaming else UnaryCall
