"""Deployments as they come along, loaded into a whole system."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mulligan.client import Client
from mulligan.clock import now_us
from mulligan.ids import new_id
from mulligan.inventory import Deployment, load_deployment, packaged_claim, packaged_deployment, resolve_claim
from mulligan.inventory.expansion import nodes_of
from tests.system import System


def own(name: str) -> Deployment:
    """A packaged deployment with region names of this test's own."""
    deployment, mark = packaged_deployment(name), new_id()[-6:]
    sites = tuple(f"{site}-{mark}" for site in deployment.layout.sites)
    profiles = {f"{group}": profile for group, profile in deployment.group_profiles.items()}
    for group in list(profiles):
        site, _, rest = group.partition("-")
        profiles[f"{site}-{mark}-{rest}"] = profiles.pop(group)
    return replace(
        deployment, root=f"earth-{mark}", layout=replace(deployment.layout, sites=sites), group_profiles=profiles
    )


async def count(client: Client, region: str) -> int:
    """Providers of a region's tree."""
    return sum([1 async for _ in client.resource.list_providers(region=region, page_size=1000)])


@pytest.mark.timeout(240)
async def test_ten_thousand_providers_are_made_once(system: System) -> None:
    deployment = own("10k-shared")
    async with system.client() as client:
        report = await load_deployment(client, deployment)
        assert (report.providers_made, report.groups_made) == (10_000, 524)
        assert await count(client, report.regions[deployment.root]) == 10_000
        again = await load_deployment(client, deployment)
        assert (again.providers_made, again.providers_kept, again.groups_made) == (0, 10_000, 0)
        assert again.regions == report.regions


async def test_what_the_file_says_is_what_is_there(system: System) -> None:
    deployment = own("2k-mixed")
    site = deployment.layout.sites[0]
    async with system.client() as client:
        report = await load_deployment(client, deployment)
        region = report.regions[site]
        assert (await client.meta.get_region(id=region)).region.parent == report.regions[deployment.root]
        rack = await client.names.resolve("provider_group", f"{site}-row1-rack1", region)
        members = [each async for each in client.resource.list_providers(region=region, group=rack)]
        assert len(members) == 20
        wanted = deployment.profiles["dedicated-12cpu-64g-4t-ssd"]
        assert {tuple(member.config.capabilities) for member in members} == {wanted.capabilities}
        totals = {each.resource_type: each.total for each in members[0].config.inventories}
        assert totals == {each.resource_type: each.total for each in wanted.inventories}
        names = {item.name for item in (await client.names.objects(member.id for member in members)).values()}
        assert names == {node.name for node in nodes_of(deployment, site) if node.groups[2] == f"{site}-row1-rack1"}


async def test_distances_hold_in_claims(system: System) -> None:
    deployment = own("2k-shared")
    async with system.client() as client:
        report = await load_deployment(client, deployment)
        region = report.regions[deployment.layout.sites[0]]
        spec = await resolve_claim(client, packaged_claim("two-groups-apart"), region, now_us())
        spec.project = (await client.iam.create_project(name=f"apart-{new_id()[-8:]}")).project.id
        claim = (await client.resource.create_claim(region=region, spec=spec)).claim
        homes = {each.group: each.provider for each in claim.allocations}
        racks = {}
        for group, id in homes.items():
            provider = (await client.resource.get_provider(region=region, id=id)).provider
            found = await client.names.objects(provider.config.groups)
            racks[group] = {item.name for item in found.values() if "rack" in item.name}
        assert racks["a"].isdisjoint(racks["b"])


async def test_a_deleted_provider_comes_back_and_a_broken_load_is_finished(system: System) -> None:
    deployment = own("100-shared")
    site = deployment.layout.sites[0]
    async with system.client() as client:
        region = (await load_deployment(client, deployment)).regions[site]
        id = await client.names.resolve("provider", f"{site}-row1-rack1-node1", region)
        await client.resource.delete_provider(region=region, id=id)
        again = await load_deployment(client, deployment)
        assert (again.providers_made, again.providers_kept) == (1, 99)
        assert await count(client, region) == 100
