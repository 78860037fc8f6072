"""The Ray actor of a gateway: wiring only. One gateway serves one service on one host."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from actors.handles import ActorDirectory, ask_health
from actors.lifecycle import ActorBase
from gateways.assembly import Address, Gateway, Stores
from mulligan.api.control.v1 import control_service_pb2
from mulligan.api.iam.v1 import iam_service_pb2
from mulligan.api.meta.v1 import meta_service_pb2
from mulligan.api.resource.v1 import resource_service_pb2
from mulligan.clock import now_us
from mulligan.stores import keys

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

    from mulligan.config import Settings
    from mulligan.stores.addresses import Addresses

# In the order of their ports: Settings.port and on.
SERVICES: Final[dict[str, ServiceDescriptor]] = {
    "iam": iam_service_pb2.DESCRIPTOR.services_by_name["IamService"],
    "meta": meta_service_pb2.DESCRIPTOR.services_by_name["MetaService"],
    "resource": resource_service_pb2.DESCRIPTOR.services_by_name["ResourceService"],
    "control": control_service_pb2.DESCRIPTOR.services_by_name["ControlService"],
}


class GatewayActor(ActorBase):
    """The only public surface of a service. Its name is `gateway-<service>/<host>#<generation>`."""

    kind: ClassVar[str] = "gateway"

    def __init__(self, addresses: Addresses, settings: Settings, service: str, name: str) -> None:
        super().__init__(addresses, name)
        self._settings = settings
        self._service = service
        self._directory: ActorDirectory | None = None
        self._stores: Stores | None = None
        self._gateway: Gateway | None = None
        # The port; 0: not yet.
        self._listening = 0

    async def prepare_to_open(self) -> None:
        """Follows etcd, so that the first request is judged by what is true."""
        if self._directory is None:
            directory = ActorDirectory(self.etcd)
            await directory.start()
            self._directory = directory
        if self._stores is None:
            stores = Stores(self.etcd, self._service)
            await stores.start()
            self._stores = stores

    async def open(self) -> None:
        """Listens, then announces the address."""
        assert self._directory is not None
        assert self._stores is not None
        if self._gateway is None:
            at = Address(self._settings.listen, self._port(), self.addresses.tls_dir)
            self._gateway = Gateway(SERVICES[self._service], self._stores, self._directory, ask_health, at, now_us)
        if not self._listening:
            self._listening = await self._gateway.start()
        host = self._settings.advertised_host
        shown = f"[{host}]" if ":" in host else host
        await self.announce(keys.catalog_gateway(self._service, self.name.shard), address=f"{shown}:{self._listening}")

    async def close(self, deadline_s: float) -> None:
        """Finishes the calls in flight, then lets go of everything."""
        if self._gateway is not None:
            await self._gateway.drain(deadline_s)
        if self._stores is not None:
            await self._stores.close()
        if self._directory is not None:
            await self._directory.close()

    def detail(self) -> str:
        """Its load."""
        return f"{self._gateway.in_flight if self._gateway else 0} in flight"

    def _port(self) -> int:
        return self._settings.port + list(SERVICES).index(self._service) if self._settings.port else 0
