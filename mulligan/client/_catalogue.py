"""Follows the catalogue for ever: which gateways there are, and which shard each region lives in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mulligan.api.catalog.v1.catalog_client import WATCH_CATALOG
from mulligan.api.catalog.v1.catalog_service_pb2 import RegionRoute, WatchCatalogRequest, WatchCatalogResponse
from mulligan.client._config import Backoff
from mulligan.client._endpoints import CATALOG, Endpoints
from mulligan.client._time import Deadline, Time
from mulligan.client._transport import ConnectionLost, Metadata, Transport
from mulligan.errors import MulliganError, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

_GRPC_SERVICES = ("iam", "meta", "resource", "control")


class Catalogue:
    """The catalogue as last told by any gateway. While none answers, the last one holds."""

    def __init__(self, transport: Transport, endpoints: Endpoints, time: Time, backoff: Backoff) -> None:
        self._transport = transport
        self._endpoints = endpoints
        self._time = time
        self._backoff = backoff
        self._regions: dict[str, RegionRoute] = {}
        self._whole = False
        self._complete = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_error: MulliganError | None = None
        self._identify: Callable[[], Awaitable[Metadata]] = _nobody
        self._rejected: Callable[[Metadata], None] = lambda metadata: None

    def identify_with(self, identify: Callable[[], Awaitable[Metadata]], rejected: Callable[[Metadata], None]) -> None:
        """`identify` tells the metadata to watch with, () before login; `rejected` hears of refused ones."""
        self._identify, self._rejected = identify, rejected

    def start(self) -> None:
        """Begins to watch."""
        self._task = asyncio.create_task(self._follow(), name="mulligan-catalogue")

    async def restart(self) -> None:
        """Watches anew: the caller has become somebody else, who may see more or less."""
        await self.stop()
        self.start()

    @property
    def is_whole(self) -> bool:
        """Whether it is watched with a token: without one it tells the IAM endpoints alone."""
        return self._whole

    async def stop(self) -> None:
        """Ends the watch."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def shard_of(self, region: str) -> str:
        """The region's shard, or the region itself when the catalogue does not tell: good enough to be the same."""
        route = self._regions.get(region)
        return route.shard if route else region

    def correct(self, region: str, shard: str) -> None:
        """A gateway knows better where a region is; it holds until the catalogue is told anew."""
        if region in self._regions and shard:
            route = self._regions[region]
            self._regions[region] = RegionRoute(region=region, parent=route.parent, shard=shard)

    def below(self, region: str) -> list[str]:
        """UUIDs of the region and of all that are below it; with "" of all that the caller may see."""
        if not region:
            return list(self._regions)
        children: dict[str, list[str]] = {}
        for route in self._regions.values():
            children.setdefault(route.parent, []).append(route.region)
        found = [region]
        for candidate in found:
            found += children.get(candidate, [])
        return found

    async def wait_for(self, service: str, deadline: Deadline) -> None:
        """Returns once a gateway of the service is known; raises Unavailable at the deadline."""
        await self._wait(lambda: bool(self._endpoints.addresses(service)), service, deadline)

    async def wait_whole(self, deadline: Deadline) -> None:
        """Returns once regions are known, which a caller without a token is not told."""
        await self._wait(lambda: self._complete, "meta", deadline)

    async def _wait(self, is_known: Callable[[], bool], service: str, deadline: Deadline) -> None:
        while not is_known():
            changed = self._changed
            try:
                async with asyncio.timeout(deadline.remaining_s()):
                    await changed.wait()
            except TimeoutError:
                raise self._unavailable(service) from None

    def _unavailable(self, service: str) -> Unavailable:
        if self._last_error:
            return Unavailable(f"no gateway of this system can be reached: {self._last_error.message}")
        return Unavailable(f"no gateway of the {service} service is announced; `mulligan status` says what runs")

    async def _follow(self) -> None:
        failures = 0
        while True:
            address = self._endpoints.choose(CATALOG)
            assert address is not None, "a client has at least one address"
            try:
                if await self._watch(address):
                    failures = 0
            except MulliganError as error:
                self._last_error = error
                self._tell_waiting()
            failures += 1
            await self._time.sleep(self._backoff.delay_s(failures))

    async def _watch(self, address: str) -> bool:
        """Takes catalogues from one gateway until the stream ends; says whether there was any."""
        metadata = await self._identify()
        self._whole = bool(metadata)
        any_taken = False
        try:
            async for catalogue in self._transport.stream(
                address, WATCH_CATALOG, WatchCatalogRequest(), metadata, None
            ):
                self._endpoints.works(address)
                self._take(catalogue)
                any_taken = True
        except Unauthenticated:
            self._rejected(metadata)
            raise
        except MulliganError as error:
            if isinstance(error, ConnectionLost) or error.reason == "DRAINING":
                self._endpoints.failed(address)
            if not any_taken:
                raise
            log.debug("address=%s the catalogue stream broke: %s", address, error)
        return any_taken

    def _take(self, catalogue: WatchCatalogResponse) -> None:
        """Before login only the IAM endpoints are told, so what was known of others stays."""
        addresses: dict[str, list[str]] = {service: [] for service in (_GRPC_SERVICES if self._whole else ("iam",))}
        for endpoint in catalogue.endpoints:
            if endpoint.service in _GRPC_SERVICES:
                addresses.setdefault(endpoint.service, []).append(endpoint.address)
        self._endpoints.update(addresses)
        if self._whole or catalogue.regions:
            self._complete = True
            self._regions = {route.region: route for route in catalogue.regions}
        self._last_error = None
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _nobody() -> Metadata:
    return ()
