"""Loading a deployment: everything once, whatever breaks, and nothing that was there is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mulligan.client import Client, InMemoryTransport
from mulligan.errors import FailedPrecondition, InvalidArgument, Unavailable
from mulligan.ids import new_id
from mulligan.inventory import LoadProgress, load_deployment, packaged_deployment, parse_claim, resolve_claim
from mulligan.inventory.lookup import stable_id
from mulligan.inventory.records import _PART
from tests.fake_inventory import FakeInventory
from tests.fake_system import EARTH, EAST, REGIONS, FakeMeta

SMALL = packaged_deployment("100-shared")
TWO_SITES = replace(SMALL, layout=replace(SMALL.layout, sites=("east", "west"), racks_per_row=15))


@pytest.fixture
def inventory() -> FakeInventory:
    return FakeInventory()


@pytest.fixture
async def client(inventory: FakeInventory) -> AsyncIterator[Client]:
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), meta=inventory, resource=inventory)
    async with Client(["a"], transport) as connected:
        yield connected


async def test_everything_is_there_once(client: Client, inventory: FakeInventory) -> None:
    seen: list[LoadProgress] = []
    report = await load_deployment(client, TWO_SITES, seen.append)
    assert (report.providers_made, report.providers_kept) == (600, 0)
    assert (report.groups_made, report.groups_kept) == (2 * (1 + 1 + 15), 0)
    assert set(report.regions) == {"earth", "east", "west"}
    earth, east = report.regions["earth"], report.regions["east"]
    assert (inventory.regions[earth].parent, inventory.regions[east].parent) == ("", earth)
    assert set(inventory.vocabularies) == {east, report.regions["west"]}
    name = "west-row1-rack7-node3"
    record = inventory.providers[inventory.names["provider", report.regions["west"], name]]
    groups = {key[2] for key, id in inventory.names.items() if id in record.config.groups}
    assert groups == {"west", "west-row1", "west-row1-rack7"}
    assert [(each.site, each.done, each.total) for each in seen][-1] == ("west", 300, 300)
    assert [each.done for each in seen if each.site == "east"] == [0, 100, 200, 300, 300, 300]


async def test_loading_again_changes_nothing(client: Client, inventory: FakeInventory) -> None:
    await load_deployment(client, SMALL)
    before = dict(inventory.providers)
    report = await load_deployment(client, SMALL)
    assert (report.providers_made, report.providers_kept) == (0, 100)
    assert (report.groups_made, report.groups_kept) == (0, 7)
    assert inventory.providers == before
    assert inventory.records_received == 100


async def test_a_stream_that_breaks_goes_on_where_it_was(client: Client, inventory: FakeInventory) -> None:
    inventory.breaks = [150, 0, 30]
    report = await load_deployment(client, TWO_SITES)
    assert (report.providers_made, len(inventory.providers)) == (600, 600)
    # 150 and 30 had arrived of streams that broke; of the first, 100 were answered for.
    assert inventory.records_received == 600 + 50 + 30


async def test_what_was_deleted_since_is_made_again(client: Client, inventory: FakeInventory) -> None:
    await load_deployment(client, SMALL)
    inventory.delete("provider", "east-row1-rack2-node5")
    inventory.delete("provider", "east-row1-rack2-node6")
    report = await load_deployment(client, SMALL)
    assert (report.providers_made, report.providers_kept, len(inventory.providers)) == (2, 98, 100)


async def test_groups_that_were_deleted_since_are_made_again(client: Client, inventory: FakeInventory) -> None:
    await load_deployment(client, SMALL)
    inventory.delete("provider_group", "east-row1-rack2")
    report = await load_deployment(client, SMALL)
    assert (report.groups_made, report.groups_kept) == (1, 6)


async def test_refused_records_are_named_after_the_others_are_in(client: Client, inventory: FakeInventory) -> None:
    inventory.refuses = {"east-row1-rack1-node2", "east-row1-rack1-node3"}
    with pytest.raises(InvalidArgument, match=r"2 of 100 providers of site east .* east-row1-rack1-node2: no such"):
        await load_deployment(client, SMALL)
    assert len(inventory.providers) == 98


async def test_groups_with_other_distances_are_not_used(client: Client) -> None:
    await load_deployment(client, SMALL)
    other = replace(SMALL, distance_types={"network": ("local", "site", "remote")})
    with pytest.raises(FailedPrecondition, match="with other distances than the file gives it"):
        await load_deployment(client, other)


async def test_a_region_of_that_name_elsewhere_is_not_used(client: Client) -> None:
    await load_deployment(client, SMALL)
    with pytest.raises(FailedPrecondition, match="region east is there already, but below another region"):
        await load_deployment(client, replace(SMALL, root="mars"))


async def test_a_new_region_takes_a_moment_to_be_known(client: Client, inventory: FakeInventory) -> None:
    inventory.unknown_times = 3
    assert (await load_deployment(client, SMALL)).providers_made == 100


async def test_a_system_that_loses_records_is_not_believed(client: Client, inventory: FakeInventory) -> None:
    inventory.loses = True
    with pytest.raises(Unavailable, match="was loaded but is not found"):
        await load_deployment(client, SMALL)
    inventory.loses = False
    assert (await load_deployment(client, SMALL)).providers_made == 100


@pytest.mark.parametrize("left", [1, 3])
async def test_names_that_a_broken_load_has_left_are_not_taken_for_providers(
    client: Client, inventory: FakeInventory, left: int
) -> None:
    region = (await load_deployment(client, SMALL)).regions["east"]
    for node in range(1, left + 1):
        name = f"east-row1-rack2-node{node}"
        inventory.delete("provider", name)
        inventory.names["provider", region, name] = new_id()
        inventory.left_names[name] = True
    inventory.forget_answers()
    report = await load_deployment(client, SMALL)
    assert (report.providers_made, report.providers_kept, len(inventory.providers)) == (left, 100 - left, 100)


async def test_a_name_that_stays_without_a_provider_is_told(client: Client, inventory: FakeInventory) -> None:
    region = (await load_deployment(client, SMALL)).regions["east"]
    name = "east-row1-rack2-node5"
    inventory.delete("provider", name)
    inventory.names["provider", region, name] = new_id()
    inventory.forget_answers()
    with pytest.raises(Unavailable, match=f"{name} .*load the file again"):
        await load_deployment(client, SMALL)


def test_request_ids_follow_from_what_is_asked() -> None:
    assert stable_id("a", "b") == stable_id("a", "b")
    assert len({stable_id("a", "b"), stable_id("ab"), stable_id("b", "a"), stable_id("a", "b", "")}) == 4
    assert _PART <= 10_000


async def test_group_names_in_a_claim_are_looked_for_below_the_region() -> None:
    rack = "00000000-0000-7000-8000-0000000000f1"
    meta = FakeMeta({("provider_group", EAST, "east-row1-rack1"): rack})
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), meta=meta)
    claim = parse_claim("groups: [{exclusive: true, provider_groups: {require: [east-row1-rack1]}}]", "c.yaml")
    async with Client(["a"], transport) as client:
        spec = await resolve_claim(client, claim, EARTH, now_us=0)
    assert list(spec.groups[0].provider_groups.require) == [rack]
