"""Streams a site's providers into a system; a stream that breaks goes on after the last record that was decided."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mulligan.api.resource.v1.request_response_pb2 import LoadProvidersRequest, RecordError
from mulligan.client import Client
from mulligan.errors import DeadlineExceeded, MulliganError, NotFound, Unavailable
from mulligan.ids import new_id
from mulligan.inventory.deployment import Deployment
from mulligan.inventory.expansion import nodes_of, provider_config
from mulligan.inventory.lookup import Patience, find_ids, stable_id

# Records held in memory and looked up in one go.
_PART = 10_000


@dataclass(slots=True)
class SiteLoad:
    """How one site's providers fare."""

    total: int
    # There before, made now, and not taken.
    kept: int = 0
    made: int = 0
    refused: list[RecordError] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Providers that are in the system."""
        return self.kept + self.made


class ProviderLoader:
    """Loads the providers of one site."""

    def __init__(self, client: Client, region: str, total: int, progress: Callable[[SiteLoad], None]) -> None:
        """`region` is the site's UUID; `progress` hears of every step."""
        self._client = client
        self._region = region
        self._progress = progress
        self.load = SiteLoad(total)
        # Ids of providers that the region is known to have, and names that were taken when their record arrived.
        self._stored: set[str] = set()
        self._taken: set[str] = set()

    async def run(self, deployment: Deployment, site: str, groups: Mapping[str, str]) -> SiteLoad:
        """Brings in all that are not there yet; `groups` tells the UUIDs of the site's groups by name."""
        self._stored = await self._list()
        records = self._records(deployment, site, groups)
        while part := {record.name: record for record in itertools.islice(records, _PART)}:
            await self._load_part(part)
        return self.load

    def _records(self, deployment: Deployment, site: str, groups: Mapping[str, str]) -> Iterator[LoadProvidersRequest]:
        for node in nodes_of(deployment, site):
            config = provider_config(deployment.profiles[node.profile], node.groups, groups)
            yield LoadProvidersRequest(region=self._region, name=node.name, config=config)

    async def _load_part(self, part: Mapping[str, LoadProvidersRequest]) -> None:
        named = await find_ids(self._client, "provider", self._region, part)
        # A load that broke may have left names without providers: those are sent as if they were not there.
        there = {name: id for name, id in named.items() if id in self._stored}
        self.load.kept += len(there)
        self._progress(self.load)
        # The first time under ids that follow from the records, so that what a broken load had sent is not sent
        # anew; what then still is missing had been deleted since, and is made under new ids.
        for salt in ("", new_id()):
            missing = self._missing(part, there)
            if not missing:
                return
            made_before = self.load.made
            await self._stream(missing, salt)
            found = await self._made(missing)
            there |= found
            self.load.made = made_before + len(found)
            self._progress(self.load)
        lost = self._missing(part, there)
        if lost:
            raise Unavailable(f"provider {lost[0].name} was loaded but is not found; load the file again")

    async def _made(self, sent: Sequence[LoadProvidersRequest]) -> dict[str, str]:
        """UUIDs by name of what is there of the records that were sent."""
        found = await find_ids(self._client, "provider", self._region, (record.name for record in sent))
        taken = {name: id for name, id in found.items() if name in self._taken}
        if not self._stored.issuperset(taken.values()):
            self._stored = await self._list()
        return {name: id for name, id in found.items() if name not in taken or id in self._stored}

    async def _list(self) -> set[str]:
        listing = self._client.resource.list_providers(region=self._region, page_size=1000)
        return {provider.id async for provider in listing}

    def _missing(
        self, part: Mapping[str, LoadProvidersRequest], there: Mapping[str, str]
    ) -> list[LoadProvidersRequest]:
        refused = {error.name for error in self.load.refused}
        return [record for name, record in part.items() if name not in there and name not in refused]

    async def _stream(self, records: Sequence[LoadProvidersRequest], salt: str) -> None:
        for record in records:
            record.request_id = ""
            record.request_id = stable_id("provider", salt, record)
        patience, decided = Patience(), 0
        while decided < len(records):
            start = decided
            try:
                async for answer in self._client.resource.load_providers(records[start:]):
                    decided = start + answer.received
                    patience.progressed()
                    self.load.made += answer.stored
                    self.load.refused += [error for error in answer.errors if error.reason != "NAME_TAKEN"]
                    self._taken |= {error.name for error in answer.errors if error.reason == "NAME_TAKEN"}
                    self._progress(self.load)
                if decided < len(records):
                    raise Unavailable("the stream of providers ended early; load the file again")
            except (Unavailable, DeadlineExceeded, NotFound) as error:
                await patience.bear(_passing(error))


def _passing(error: MulliganError) -> MulliganError:
    """A gateway's own limit on how long a request may take is no reason to give up: the next stream goes on."""
    return Unavailable(error.message) if isinstance(error, DeadlineExceeded) else error
