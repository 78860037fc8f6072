"""Brings a deployment into a system. What is there already is left as it is, so it can be repeated and resumed.

Request ids follow from names and content, so whatever is sent again after a break is the same request. What an
earlier request answers for may have been deleted since: therefore everything is looked up by name afterwards, and
what is missing is made under new ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from mulligan.api.resource.v1.provider_pb2 import Span
from mulligan.client import Client
from mulligan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Unavailable
from mulligan.ids import new_id
from mulligan.inventory.deployment import Deployment
from mulligan.inventory.expansion import Group, groups_of, spans, vocabulary
from mulligan.inventory.lookup import all_of, find_ids, once_known, stable_id
from mulligan.inventory.records import ProviderLoader, SiteLoad


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far the load of one site is: providers that are in the system, and that the site has."""

    site: str
    done: int
    total: int


@dataclass(slots=True)
class LoadReport:
    """What a load came to."""

    # UUIDs by name, the root included.
    regions: dict[str, str] = field(default_factory=dict)
    groups_made: int = 0
    groups_kept: int = 0
    providers_made: int = 0
    # There already under their names, and left as they were.
    providers_kept: int = 0


Progress = Callable[[LoadProgress], None]


async def load_deployment(client: Client, deployment: Deployment, progress: Progress | None = None) -> LoadReport:
    """Makes the deployment's regions, vocabulary, provider groups and providers, one site after another.

    Raises InvalidArgument when providers are refused (after all others of the site are in), FailedPrecondition when
    a region or group of that name is there already but is another one, and what a system that is down raises.
    """
    loader = _Loader(client, deployment, progress or (lambda progress: None))
    root = await loader.region(deployment.root, "")
    for site in deployment.layout.sites:
        await loader.site(site, await loader.region(site, root))
    return loader.report


class _Loader:
    def __init__(self, client: Client, deployment: Deployment, progress: Progress) -> None:
        self._client = client
        self._deployment = deployment
        self._progress = progress
        self.report = LoadReport()

    async def region(self, name: str, parent: str) -> str:
        """The region's UUID, after making it when it is not there."""
        found = (await find_ids(self._client, "region", "", [name])).get(name, "")
        if found:
            await self._check_parent(name, found, parent)
        for salt in ("", new_id()):
            if not found:
                with suppress(AlreadyExists):  # somebody else was quicker
                    await self._create_region(name, parent, salt)
                found = (await find_ids(self._client, "region", "", [name])).get(name, "")
        if not found:
            raise Unavailable(f"region {name} was made but is not found; load the file again")
        self.report.regions[name] = found
        return found

    async def _create_region(self, name: str, parent: str, salt: str) -> None:
        request_id = stable_id("region", salt, parent, name)
        await once_known(lambda: self._client.meta.create_region(name=name, parent=parent, request_id=request_id))

    async def _check_parent(self, name: str, id: str, parent: str) -> None:
        region = (await once_known(lambda: self._client.meta.get_region(id=id))).region
        if region.parent != parent:
            where = "below another region" if region.parent else "a root"
            raise FailedPrecondition(
                f"region {name} is there already, but {where}; give the site or the root another name in the file",
                metadata={"region": id},
            )

    async def site(self, site: str, region: str) -> None:
        """Everything of one site."""
        words, request_id = vocabulary(self._deployment), new_id()
        await once_known(
            lambda: self._client.resource.define_vocabulary(region=region, vocabulary=words, request_id=request_id)
        )
        groups = await self._groups(site, region)
        total = self._deployment.layout.nodes_per_site
        providers = ProviderLoader(self._client, region, total, lambda load: self._tell(site, load))
        load = await providers.run(self._deployment, site, groups)
        self.report.providers_made += load.made
        self.report.providers_kept += load.kept
        if load.refused:
            first = load.refused[0]
            raise InvalidArgument(
                f"{len(load.refused)} of {total} providers of site {site} were refused; "
                f"the first is {first.name}: {first.message}"
            )

    def _tell(self, site: str, load: SiteLoad) -> None:
        self._progress(LoadProgress(site, min(load.done, load.total), load.total))

    async def _groups(self, site: str, region: str) -> dict[str, str]:
        """UUIDs of the site's groups by name, after making those that are not there."""
        wanted = {group.name: group for group in groups_of(self._deployment, site)}
        there = await find_ids(self._client, "provider_group", region, wanted)
        kept = len(there)
        if there:
            await self._check_spans(region, wanted, there)
        for salt in ("", new_id()):
            missing = [group for name, group in wanted.items() if name not in there]
            if missing:
                await all_of(partial(self._create_group, region, salt), missing)
                there |= await find_ids(self._client, "provider_group", region, (group.name for group in missing))
        if len(there) < len(wanted):
            raise Unavailable(f"not all groups of site {site} are found after they were made; load the file again")
        self.report.groups_kept += kept
        self.report.groups_made += len(there) - kept
        return there

    async def _create_group(self, region: str, salt: str, group: Group) -> None:
        around = spans(self._deployment, group.level)
        request_id = stable_id("provider_group", salt, region, group.name, *around)
        with suppress(AlreadyExists):  # somebody else was quicker
            await once_known(
                lambda: self._client.resource.create_provider_group(
                    region=region, name=group.name, spans=around, request_id=request_id
                )
            )

    async def _check_spans(self, region: str, wanted: Mapping[str, Group], there: Mapping[str, str]) -> None:
        """Groups that are there must be as far across as the file says: distances rest on them."""
        names = {id: name for name, id in there.items()}
        async for group in self._client.resource.list_provider_groups(region=region, page_size=1000):
            name = names.get(group.id)
            if name and _pairs(group.spans) != _pairs(spans(self._deployment, wanted[name].level)):
                raise FailedPrecondition(
                    f"provider group {name} is there already with other distances than the file gives it; "
                    "delete the group, or load under another root and other site names",
                    metadata={"group": group.id, "region": region},
                )


def _pairs(spans: Iterable[Span]) -> set[tuple[str, str]]:
    return {(span.distance_type, span.position) for span in spans}
