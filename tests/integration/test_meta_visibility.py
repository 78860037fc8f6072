"""Who sees what of the metadata service on a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mulligan.api.meta.v1 import meta_pb2
from mulligan.api.meta.v1 import request_response_pb2 as api
from mulligan.api.meta.v1.meta_pb2 import FailureAttribute, NameKey
from mulligan.caller import Caller
from mulligan.errors import NotFound
from mulligan.ids import new_id
from mulligan.meta.model import NamedObject
from mulligan.meta.names import NameStore
from mulligan.meta.service import MetaService
from mulligan.stores.etcd import EtcdClient
from tests.integration.meta_bench import ADMIN, list_all, look_up, make_region, operator_of, sees, tenant


@pytest.fixture
async def meta(etcd: EtcdClient) -> AsyncIterator[MetaService]:
    service = await MetaService.open(etcd, clock=lambda: 1_700_000_000_000_000)
    yield service
    await service.close()


@pytest.fixture
def names(etcd: EtcdClient) -> NameStore:
    return NameStore(etcd)


async def test_who_sees_which_region(meta: MetaService) -> None:
    mine, theirs = tenant(), tenant()
    public = await make_region(meta)
    internal = await make_region(meta, public.id, visibility=meta_pb2.VISIBILITY_INTERNAL)
    below = await make_region(meta, internal.id)
    listed = await make_region(
        meta, public.id, visibility=meta_pb2.VISIBILITY_PROJECTS, projects=[mine.project, new_id()]
    )
    regions = [public.id, internal.id, below.id, listed.id]
    assert [await sees(meta, mine, each) for each in regions] == [True, False, False, True]
    assert [await sees(meta, theirs, each) for each in regions] == [True, False, False, False]
    assert [await sees(meta, ADMIN, each) for each in regions] == [True] * 4
    assert [await sees(meta, operator_of(internal.id), each) for each in regions] == [True, True, True, False]
    assert {each.id for each in await look_up(meta, theirs, *regions)} == {public.id}
    under = await meta.list_regions(api.ListRegionsRequest(under=public.id), theirs)
    assert [each.id for each in under.regions] == [public.id]
    with pytest.raises(NotFound):
        await meta.list_regions(api.ListRegionsRequest(under=internal.id), theirs)


async def test_a_region_tells_a_tenant_nothing_of_others(meta: MetaService) -> None:
    """Neither who else sees the region nor which regions it shares its fate with beyond those that it may see."""
    mine, theirs = tenant(), tenant()
    hidden = await make_region(meta, visibility=meta_pb2.VISIBILITY_INTERNAL)
    public = await make_region(meta)
    shared = {"power": FailureAttribute(expectation="one feed", shared_with=[hidden.id, public.id])}
    both = [mine.project, theirs.project]
    listed = await make_region(meta, public.id, visibility=meta_pb2.VISIBILITY_PROJECTS, projects=both, failures=shared)

    async def told(caller: Caller) -> list[tuple[list[str], list[str]]]:
        got = (await meta.get_region(api.GetRegionRequest(id=listed.id), caller)).region
        page = (await meta.list_regions(api.ListRegionsRequest(under=listed.id), caller)).regions
        configs = [each.config for each in (got, *page)]
        return [(list(each.projects), sorted(each.failures["power"].shared_with)) for each in configs]

    everything = (sorted(both), sorted([hidden.id, public.id]))
    assert await told(mine) == [([mine.project], [public.id])] * 2
    assert await told(ADMIN) == [everything] * 2
    assert await told(operator_of(listed.id)) == [(sorted(both), [public.id])] * 2
    elsewhere = replace(operator_of(hidden.id), project=mine.project)
    assert await told(elsewhere) == [([mine.project], sorted([hidden.id, public.id]))] * 2


async def test_who_sees_which_object(meta: MetaService, names: NameStore) -> None:
    mine, theirs = tenant(), tenant()
    open_region = (await make_region(meta)).id
    hidden_region = (await make_region(meta, visibility=meta_pb2.VISIBILITY_INTERNAL)).id
    objects = {
        "machine": NamedObject("machine", mine.project, "web", new_id(), mine.project, open_region),
        "provider": NamedObject("provider", open_region, "n1", new_id(), region=open_region),
        "group": NamedObject("provider_group", open_region, "rack", new_id(), region=open_region),
        "hidden": NamedObject("provider", hidden_region, "n1", new_id(), region=hidden_region),
        "project": NamedObject("project", "", f"project {new_id()[-8:]}", mine.project),
        "account": NamedObject("account", "", f"account {new_id()[-8:]}", mine.account),
        "credential": NamedObject("account", "", f"app {new_id()[-8:]}", new_id(), mine.project),
    }
    assert not any(await names.register_many(list(objects.values())))
    everything = set(objects)
    expected = {
        mine: everything - {"hidden"},
        theirs: {"provider", "group"},
        ADMIN: everything,
        operator_of(hidden_region): {"provider", "group", "hidden"},
        operator_of(open_region): {"provider", "group", "machine"},
    }
    ids = {each.id: label for label, each in objects.items()}
    for caller, labels in expected.items():
        assert {ids[each.id] for each in await look_up(meta, caller, *ids)} == labels
        keys_asked = [NameKey(kind=each.kind, scope=each.scope, name=each.name) for each in objects.values()]
        resolved = await meta.resolve_names(api.ResolveNamesRequest(names=keys_asked), caller)
        assert {ids[each.id] for each in resolved.resolved} == labels
        listed = await list_all(meta, caller, 1000)
        assert {ids[each] for each in listed if each in ids} == labels
