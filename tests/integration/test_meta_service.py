"""The metadata service on a real etcd: regions, names, tags, and who sees what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from mulligan.api.meta.v1 import meta_pb2, meta_service_pb2
from mulligan.api.meta.v1 import request_response_pb2 as api
from mulligan.api.meta.v1.meta_pb2 import NameKey
from mulligan.caller import Caller
from mulligan.dispatch import MethodTable
from mulligan.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MulliganError,
    NotFound,
    PermissionDenied,
)
from mulligan.ids import new_id
from mulligan.meta.model import NamedObject
from mulligan.meta.names import NameStore
from mulligan.meta.service import MetaService
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import read_many
from tests.integration.meta_bench import ADMIN, list_all, look_up, make_region, operator_of, sees, tenant


@pytest.fixture
async def meta(etcd: EtcdClient) -> AsyncIterator[MetaService]:
    service = await MetaService.open(etcd, clock=lambda: 1_700_000_000_000_000)
    yield service
    await service.close()


@pytest.fixture
def names(etcd: EtcdClient) -> NameStore:
    return NameStore(etcd)


def test_every_rpc_has_its_method(etcd: EtcdClient) -> None:
    MethodTable(meta_service_pb2.DESCRIPTOR.services_by_name["MetaService"], MetaService(etcd))


async def test_regions_form_trees_and_inherit_their_shard(meta: MetaService) -> None:
    root = await make_region(meta, shard="north")
    child = await make_region(meta, root.id)
    other = await make_region(meta, root.id, shard="fjord")
    grandchild = await make_region(meta, other.id)
    assert [each.shard for each in (root, child, other, grandchild)] == ["north", "north", "fjord", "fjord"]
    assert (await make_region(meta)).shard == "default"
    assert grandchild.parent == other.id
    assert grandchild.create_time.seconds == 1_700_000_000
    listed = await meta.list_regions(api.ListRegionsRequest(under=root.id, page_size=3), tenant())
    rest = await meta.list_regions(
        api.ListRegionsRequest(under=root.id, page_size=3, page_token=listed.next_page_token), tenant()
    )
    assert [each.id for each in [*listed.regions, *rest.regions]] == sorted(
        each.id for each in (root, child, other, grandchild)
    )
    assert not rest.next_page_token


async def test_a_parent_must_exist_and_names_are_unique(meta: MetaService) -> None:
    with pytest.raises(NotFound):
        await make_region(meta, new_id())
    request = api.CreateRegionRequest(request_id=new_id(), name=f"Twin {new_id()}")
    await meta.create_region(request, ADMIN)
    request.request_id = new_id()
    with pytest.raises(AlreadyExists) as refused:
        await meta.create_region(request, ADMIN)
    assert refused.value.reason == "NAME_TAKEN"


@pytest.mark.parametrize("shard", ["North", "a b", "-a", "a#1", "x" * 64])
async def test_bad_shards(meta: MetaService, shard: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await make_region(meta, shard=shard)
    assert refused.value.field == "shard"


async def test_failure_attributes_name_regions_that_exist(meta: MetaService) -> None:
    site = await make_region(meta)
    shared = meta_pb2.FailureAttribute(expectation="one feed", shared_with=[site.id])
    region = await make_region(meta, failures={"power": shared})
    assert region.config.failures["power"] == shared
    assert region.config.visibility == meta_pb2.VISIBILITY_PUBLIC
    for thing, attribute in (
        ("power", meta_pb2.FailureAttribute(shared_with=[new_id()])),
        ("power", meta_pb2.FailureAttribute(shared_with=["x"])),
        ("Power Feed", meta_pb2.FailureAttribute()),
        ("power", meta_pb2.FailureAttribute(expectation="x" * 1001)),
    ):
        with pytest.raises(InvalidArgument, match="failures"):
            await make_region(meta, failures={thing: attribute})


async def test_updates_touch_masked_fields_and_check_the_etag(meta: MetaService) -> None:
    region = await make_region(meta, failures={"power": meta_pb2.FailureAttribute(expectation="two feeds")})
    request = api.UpdateRegionRequest(request_id=new_id(), id=region.id, etag=region.etag)
    request.config.visibility = meta_pb2.VISIBILITY_INTERNAL
    with pytest.raises(InvalidArgument, match="update_mask"):
        await meta.update_region(request, ADMIN)
    request.update_mask.CopyFrom(FieldMask(paths=["visibility"]))
    changed = (await meta.update_region(request, ADMIN)).region
    assert changed.config.visibility == meta_pb2.VISIBILITY_INTERNAL
    assert changed.config.failures["power"].expectation == "two feeds"
    assert changed.etag != region.etag
    assert (await meta.get_region(api.GetRegionRequest(id=region.id), ADMIN)).region == changed
    request.request_id = new_id()
    with pytest.raises(Aborted) as refused:
        await meta.update_region(request, ADMIN)
    assert refused.value.reason == "GENERATION_CONFLICT"
    request.etag, request.config.visibility = "", meta_pb2.VISIBILITY_UNSPECIFIED
    with pytest.raises(InvalidArgument, match="visibility"):
        await meta.update_region(request, ADMIN)


async def test_updates_at_the_same_time_are_all_made(meta: MetaService) -> None:
    region = await make_region(meta)
    requests = []
    for number, path in enumerate(["visibility", "projects", "failures"] * 2):
        request = api.UpdateRegionRequest(request_id=new_id(), id=region.id, update_mask=FieldMask(paths=[path]))
        request.config.visibility = meta_pb2.VISIBILITY_PROJECTS
        request.config.projects.append(f"{number:08}-7c1e-7000-8000-0123456789ab")
        request.config.failures["power"].expectation = "none"
        requests.append(meta.update_region(request, ADMIN))
    await asyncio.gather(*requests)
    after = (await meta.get_region(api.GetRegionRequest(id=region.id), ADMIN)).region
    assert after.etag == "7"
    assert after.config.visibility == meta_pb2.VISIBILITY_PROJECTS
    assert len(after.config.projects) == 1
    assert after.config.failures["power"].expectation == "none"


async def test_a_region_is_deleted_only_when_nothing_lives_in_it(meta: MetaService, names: NameStore) -> None:
    root = await make_region(meta)
    child = await make_region(meta, root.id)
    provider = NamedObject("provider", child.id, "p", new_id(), region=child.id)
    await names.register(provider)
    for region, inside in ((root, "1 region"), (child, "1 provider")):
        with pytest.raises(FailedPrecondition, match=inside) as refused:
            await meta.delete_region(api.DeleteRegionRequest(request_id=new_id(), id=region.id), ADMIN)
        assert refused.value.reason == "IN_USE"
    await names.remove(provider.id)
    for region in (child, root):
        await meta.delete_region(api.DeleteRegionRequest(request_id=new_id(), id=region.id), ADMIN)
        assert not await sees(meta, ADMIN, region.id)
        assert await look_up(meta, ADMIN, region.id) == []
    with pytest.raises(NotFound):
        await meta.delete_region(api.DeleteRegionRequest(request_id=new_id(), id=root.id), ADMIN)
    with pytest.raises(NotFound, match="deleted"):
        await names.register(NamedObject("provider", child.id, "late", new_id(), region=child.id))


async def test_children_and_deletion_race_to_one_outcome(meta: MetaService, etcd: EtcdClient) -> None:
    for _ in range(10):
        root = await make_region(meta)
        deletion = meta.delete_region(api.DeleteRegionRequest(request_id=new_id(), id=root.id), ADMIN)
        outcomes = await asyncio.gather(make_region(meta, root.id), deletion, return_exceptions=True)
        failed = [each for each in outcomes if isinstance(each, MulliganError)]
        assert len(failed) == 1
        left = await read_many(etcd, [keys.meta_region(root.id)])
        assert bool(left) is isinstance(outcomes[1], FailedPrecondition)


async def test_resolving_by_slug_and_leaving_out_what_is_not_there(meta: MetaService, names: NameStore) -> None:
    region = (await make_region(meta)).id
    made = await names.register(NamedObject("provider", region, "Node 1 / Left", new_id(), region=region))
    asked = [
        NameKey(kind="provider", scope=region, name=name)
        for name in ("node-1-left", "Node 1 / Left", "node 1 / left", " ", "")
    ]
    asked.append(NameKey(kind="nothing", name="x"))
    resolved = (await meta.resolve_names(api.ResolveNamesRequest(names=asked), tenant())).resolved
    assert [each.key.name for each in resolved] == ["node-1-left", "Node 1 / Left"]
    assert {each.id for each in resolved} == {made.object.id}
    with pytest.raises(InvalidArgument, match="at most 1000"):
        await meta.resolve_names(api.ResolveNamesRequest(names=[NameKey()] * 1001), tenant())
    with pytest.raises(InvalidArgument) as refused:
        await meta.lookup_objects(api.LookupObjectsRequest(ids=["node-1-left"]), tenant())
    assert refused.value.reason == "INVALID_UUID"


async def test_renaming_and_tagging_ones_own(meta: MetaService, names: NameStore) -> None:
    mine, theirs = tenant(), tenant()
    region = (await make_region(meta)).id
    machine = NamedObject("machine", mine.project, "Old Name", new_id(), mine.project, region)
    provider = NamedObject("provider", region, "node", new_id(), region=region)
    assert not any(await names.register_many([machine, provider]))
    rename = api.RenameObjectRequest(request_id=new_id(), id=machine.id, name="New Name")
    with pytest.raises(NotFound):
        await meta.rename_object(rename, theirs)
    renamed = (await meta.rename_object(rename, mine)).object
    assert (renamed.name, renamed.slug) == ("New Name", "new-name")
    asked = [NameKey(kind="machine", scope=mine.project, name=each) for each in ("old-name", "new-name", "Old Name")]
    resolved = (await meta.resolve_names(api.ResolveNamesRequest(names=asked), mine)).resolved
    assert [each.key.name for each in resolved] == ["old-name", "new-name"]
    tagging = api.SetTagsRequest(request_id=new_id(), id=provider.id, add=["cold", "blue"])
    with pytest.raises(PermissionDenied):
        await meta.set_tags(tagging, mine)
    assert list((await meta.set_tags(tagging, operator_of(region))).object.tags) == ["blue", "cold"]
    tagging = api.SetTagsRequest(request_id=new_id(), id=provider.id, add=["red"], remove=["cold", "never"])
    assert list((await meta.set_tags(tagging, ADMIN)).object.tags) == ["blue", "red"]
    assert await list_all(meta, mine, 10, "provider", "blue", "red") == [provider.id]
    assert await list_all(meta, mine, 10, "provider", "blue", "cold") == []
    assert await list_all(meta, mine, 10, "machine", "blue") == []
    bad = api.SetTagsRequest(request_id=new_id(), id=provider.id, add=[f"t{number}" for number in range(65)])
    with pytest.raises(InvalidArgument, match="at most 64"):
        await meta.set_tags(bad, ADMIN)
    with pytest.raises(PermissionDenied):
        await meta.rename_object(api.RenameObjectRequest(request_id=new_id(), id=region, name="x"), operator_of(region))


async def test_tags_set_at_the_same_time_are_all_there(meta: MetaService, names: NameStore) -> None:
    mine = tenant()
    machine = await names.register(NamedObject("machine", mine.project, "m", new_id(), mine.project))
    tags = [f"tag-{number}" for number in range(5)]
    await asyncio.gather(
        *(meta.set_tags(api.SetTagsRequest(request_id=new_id(), id=machine.object.id, add=[tag]), mine) for tag in tags)
    )
    assert list((await look_up(meta, mine, machine.object.id))[0].tags) == tags


async def test_lists_come_in_pages(meta: MetaService, names: NameStore) -> None:
    region = (await make_region(meta)).id
    made = [NamedObject("provider", region, f"n{number}", new_id(), region=region) for number in range(25)]
    assert not any(await names.register_many(made))
    ids = {each.id for each in made}
    for size in (1, 7, 25, 1000):
        assert ids <= set(await list_all(meta, ADMIN, size, "provider"))
    with pytest.raises(InvalidArgument) as refused:
        await meta.list_objects(api.ListObjectsRequest(page_token="x"), ADMIN)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_a_repeated_request_gets_its_first_answer(meta: MetaService, names: NameStore) -> None:
    request = api.CreateRegionRequest(request_id=new_id(), name=f"Once {new_id()}")
    answers = await asyncio.gather(*(meta.create_region(request, ADMIN) for _ in range(8)))
    assert len({each.region.id for each in answers}) == 1
    region = answers[0].region.id
    request.name = f"Other {new_id()}"
    with pytest.raises(Aborted) as refused:
        await meta.create_region(request, ADMIN)
    assert refused.value.reason == "REQUEST_ID_REUSED"
    other_admin = Caller(new_id(), "", ADMIN.grants, system=True)
    assert (await meta.create_region(request, other_admin)).region.id != region

    rename = api.RenameObjectRequest(request_id=new_id(), id=region, name=f"First {new_id()}")
    first = await meta.rename_object(rename, ADMIN)
    later = api.RenameObjectRequest(request_id=new_id(), id=region, name=f"Second {new_id()}")
    await meta.rename_object(later, ADMIN)
    assert await meta.rename_object(rename, ADMIN) == first
    assert (await look_up(meta, ADMIN, region))[0].name == later.name

    update = api.UpdateRegionRequest(request_id=new_id(), id=region, update_mask=FieldMask(paths=["projects"]))
    assert await meta.update_region(update, ADMIN) == await meta.update_region(update, ADMIN)
    deletion = api.DeleteRegionRequest(request_id=new_id(), id=region)
    for _ in range(2):
        await meta.delete_region(deletion, ADMIN)


async def test_a_mutation_needs_a_request_id(meta: MetaService) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await meta.create_region(api.CreateRegionRequest(name="x"), ADMIN)
    assert refused.value.field == "request_id"


async def test_a_new_actor_sees_what_an_older_one_wrote(meta: MetaService, etcd: EtcdClient) -> None:
    region = await make_region(meta)
    again = await MetaService.open(etcd)
    try:
        assert (await again.get_region(api.GetRegionRequest(id=region.id), ADMIN)).region == region
        assert region.id in await list_all(again, ADMIN, 1000, "region")
    finally:
        await again.close()


async def test_configuring_takes_effect_and_is_told(meta: MetaService) -> None:
    request = api.MetaConfigureRequest(request_id=new_id(), update_mask=FieldMask(paths=["max_deadline_seconds"]))
    request.settings.max_deadline_seconds = 61
    request.expires_after.seconds = 60
    assert (await meta.meta_configure(request, ADMIN)).settings.max_deadline_seconds == 61
    assert (await meta.meta_configure(api.MetaConfigureRequest(), ADMIN)).settings.max_deadline_seconds == 61
