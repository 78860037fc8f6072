"""What a request reaches by an id: only what lies in the region that it names and in those its grants are bound to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest
from google.protobuf.message import Message

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.caller import Caller, Grant
from mulligan.errors import MulliganError
from mulligan.ids import new_id
from mulligan.resource.service import INTERNAL
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import SHARED, Shard, put_region, running_shard, spec_of


@dataclass
class Things:
    """A provider, a claim and a group without members, all in one region."""

    region: str
    provider: str
    claim: str
    group: str


@dataclass
class Country:
    """A root region with two below it, each with its things, and a claim on providers of both."""

    shard: Shard
    here: Things
    there: Things
    spanning: str

    @property
    def tenant(self) -> Caller:
        return self.shard.tenant

    @property
    def root(self) -> str:
        return self.shard.region


@pytest.fixture
async def country(fresh_addresses: Addresses, etcd: EtcdClient) -> AsyncIterator[Country]:
    async with running_shard(fresh_addresses, etcd) as shard:
        here, there = [await things_in(shard, await region_below(shard, etcd)) for _ in range(2)]
        spec = spec_of([("cpu.shared", 1)], name="a", exclusive=True)
        spec.groups.add(name="b", exclusive=True).resources.add(resource_type="cpu.shared", min=1)
        for each in (here, there):
            await shard.provider(SHARED, region=each.region)
        yield Country(shard, here, there, spanning=(await shard.claim(spec)).id)


async def region_below(shard: Shard, etcd: EtcdClient, parent: str = "", owner: str = "") -> str:
    """Id of a new region that the shard knows of; `owner` is its shard."""
    region, regions = new_id(), shard.service.core.regions
    await put_region(etcd, region, owner, parent or shard.region)
    while region not in regions.tree:
        await regions._prefix.wait_changed(regions._prefix.revision, 5)
    return region


async def things_in(shard: Shard, region: str) -> Things:
    provider = await shard.provider(SHARED, region=region)
    claim = await shard.claim(spec_of(), region=region)
    request = pb.CreateProviderGroupRequest(request_id=new_id(), region=region)
    group = (await shard.call("CreateProviderGroup", request)).group
    return Things(region, provider, claim.id, group.id)


def operator_of(region: str) -> Caller:
    """Who operates the region's tree and no more."""
    return Caller(account=new_id(), project="", grants=(Grant("operator", True, region),), system=True)


def member_of(region: str, project: str) -> Caller:
    """A member of the project within the region's tree."""
    return Caller(account=new_id(), project=project, grants=(Grant("member", False, region),))


def get_claim(region: str, things: Things) -> Message:
    return pb.GetClaimRequest(region=region, id=things.claim)


def release_claim(region: str, things: Things) -> Message:
    return pb.ReleaseClaimRequest(request_id=new_id(), region=region, id=things.claim)


def get_provider(region: str, things: Things) -> Message:
    return pb.GetProviderRequest(region=region, id=things.provider)


def set_inventory(region: str, things: Things) -> Message:
    inventories = SHARED.inventories
    return pb.SetInventoryRequest(request_id=new_id(), region=region, id=things.provider, inventories=inventories)


def set_state(region: str, things: Things) -> Message:
    state = provider_pb2.PROVIDER_STATE_MAINTENANCE
    return pb.SetProviderStateRequest(request_id=new_id(), region=region, id=things.provider, state=state)


def delete_provider(region: str, things: Things) -> Message:
    return pb.DeleteProviderRequest(request_id=new_id(), region=region, id=things.provider)


def delete_group(region: str, things: Things) -> Message:
    return pb.DeleteProviderGroupRequest(request_id=new_id(), region=region, id=things.group)


# RPC, the permission that it needs, its request, and what it says of one's own things.
BY_ID = [
    ("GetClaim", "resource.claim.get", get_claim, ""),
    ("ReleaseClaim", "resource.claim.release", release_claim, ""),
    ("GetProvider", "resource.provider.get", get_provider, ""),
    ("SetInventory", "resource.provider.update", set_inventory, ""),
    ("SetProviderState", "resource.provider.update", set_state, ""),
    ("DeleteProvider", "resource.provider.delete", delete_provider, "IN_USE"),
    ("DeleteProviderGroup", "resource.group.delete", delete_group, ""),
]
Build = Callable[[str, Things], Message]


async def said(country: Country, method: str, request: Message, caller: Caller, permission: str) -> str:
    """The reason of a refusal; empty: it was done."""
    try:
        await country.shard.call(method, request, replace(caller, permission=permission))
    except MulliganError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(("method", "permission", "build", "own"), BY_ID, ids=[each[0] for each in BY_ID])
async def test_an_operator_bound_to_a_region_reaches_nothing_elsewhere(
    country: Country, method: str, permission: str, build: Build, own: str
) -> None:
    bound = operator_of(country.here.region)
    assert await said(country, method, build(country.here.region, country.there), bound, permission) == "NOT_FOUND"
    # The gateway asks a bound operator for a region; should it not, the bounds hold all the same.
    assert await said(country, method, build("", country.there), bound, permission) == "NOT_FOUND"
    assert await said(country, method, build(country.root, country.there), bound, permission) == "NOT_FOUND"
    assert await said(country, method, build(country.here.region, country.here), bound, permission) == own
    everywhere = country.shard.operator
    assert await said(country, method, build(country.here.region, country.there), everywhere, permission) == "NOT_FOUND"
    assert await said(country, method, build(country.root, country.there), everywhere, permission) == own


@pytest.mark.parametrize(("method", "permission", "build", "own"), BY_ID[:3], ids=[each[0] for each in BY_ID[:3]])
async def test_a_member_bound_to_a_region_reaches_nothing_of_its_project_elsewhere(
    country: Country, method: str, permission: str, build: Build, own: str
) -> None:
    bound = member_of(country.here.region, country.tenant.project)
    assert await said(country, method, build(country.here.region, country.there), bound, permission) == "NOT_FOUND"
    assert await said(country, method, build("", country.there), bound, permission) == "NOT_FOUND"
    assert await said(country, method, build(country.here.region, country.here), bound, permission) == own
    assert await said(country, method, build("", country.there), country.tenant, permission) == own


async def test_a_system_grant_elsewhere_does_not_narrow_what_a_project_grant_allows(country: Country) -> None:
    both = replace(
        member_of(country.there.region, country.tenant.project),
        grants=(Grant("operator", True, country.here.region), Grant("member", False, country.there.region)),
    )
    request = release_claim(country.there.region, country.there)
    assert await said(country, "ReleaseClaim", request, both, "resource.claim.release") == ""


async def test_a_claim_over_several_regions_is_reached_from_above_them_all(country: Country) -> None:
    spanning = replace(country.here, claim=country.spanning)
    for region, caller, reason in (
        (country.here.region, operator_of(country.here.region), "NOT_FOUND"),
        (country.there.region, operator_of(country.there.region), "NOT_FOUND"),
        (country.here.region, country.tenant, "NOT_FOUND"),
        (country.root, operator_of(country.root), ""),
        (country.root, country.tenant, ""),
        ("", country.tenant, ""),
    ):
        assert await said(country, "GetClaim", get_claim(region, spanning), caller, "resource.claim.get") == reason


async def listed(country: Country, region: str, caller: Caller | None = None) -> set[str]:
    request = pb.ListClaimsRequest(region=region)
    response = await country.shard.call("ListClaims", request, caller or country.tenant)
    return {each.id for each in response.claims}


def two_disks() -> claim_pb2.ClaimSpec:
    """Two providers, each with an empty disk."""
    spec = spec_of([("storage.block", 10**12)], name="a")
    spec.groups.add(name="b").resources.add(resource_type="storage.block", min=10**12)
    return spec


async def test_claims_are_listed_where_all_their_providers_are(country: Country, etcd: EtcdClient) -> None:
    shard = country.shard
    middle = await region_below(shard, etcd)
    for _ in range(2):
        await shard.provider(SHARED, region=await region_below(shard, etcd, middle))
    # They alone have room, so the claim that names the root is all below the middle.
    within = (await shard.claim(two_disks(), region=country.root)).id
    for caller in (country.tenant, shard.operator):
        assert await listed(country, country.here.region, caller) == {country.here.claim}
        assert await listed(country, country.there.region, caller) == {country.there.claim}
        assert await listed(country, middle, caller) == {within}
        everything = {country.here.claim, country.there.claim, within, country.spanning}
        assert await listed(country, country.root, caller) == await listed(country, "", caller) == everything


async def test_a_claim_below_a_region_of_another_shard_is_listed(country: Country, etcd: EtcdClient) -> None:
    shard = country.shard
    name = shard.service.core.store.shard
    above = await region_below(shard, etcd, owner=f"{name}-2")
    for _ in range(2):
        await shard.provider(SHARED, region=await region_below(shard, etcd, above, owner=name))
    claim = await shard.claim(two_disks(), region=above)
    assert claim.region == above
    assert await listed(country, above) == {claim.id}
    assert await said(country, "GetClaim", pb.GetClaimRequest(region=above, id=claim.id), shard.tenant, "") == ""


async def test_a_claim_is_found_in_its_region_when_its_provider_is_gone(country: Country) -> None:
    await country.shard.release(country.there.claim)
    delete = delete_provider(country.root, country.there)
    assert await said(country, "DeleteProvider", delete, country.shard.operator, "resource.provider.delete") == ""
    for region, reason in ((country.there.region, ""), (country.here.region, "NOT_FOUND")):
        request = get_claim(region, country.there)
        assert await said(country, "GetClaim", request, country.shard.operator, "resource.claim.get") == reason


async def test_other_services_reach_a_claim_by_its_id_alone(country: Country) -> None:
    found = await country.shard.service.get_claim(
        pb.GetClaimRequest(region=country.here.region, id=country.there.claim), INTERNAL
    )
    assert found.claim.id == country.there.claim
    request = pb.ReleaseClaimRequest(request_id=new_id(), region=country.here.region, id=country.spanning)
    await country.shard.service.release_claim(request, INTERNAL)


async def test_why_a_provider_is_in_its_state_is_told_to_operators_alone(country: Country) -> None:
    shard, provider = country.shard, country.here.provider
    request = pb.SetProviderStateRequest(
        request_id=new_id(),
        id=provider,
        state=provider_pb2.PROVIDER_STATE_QUARANTINED,
        reason=f"machine {new_id()}: BMC 10.1.2.3 refused the password",
    )
    assert (await shard.call("SetProviderState", request)).provider.state_reason == request.reason
    for caller, reason in ((shard.tenant, ""), (shard.operator, request.reason)):
        found = (await shard.call("GetProvider", pb.GetProviderRequest(id=provider), caller)).provider
        assert (found.state, found.state_reason) == (request.state, reason)
        listed = (await shard.call("ListProviders", pb.ListProvidersRequest(), caller)).providers
        assert found in listed
