"""The metadata service as tests drive it: who calls it, and regions to call it about."""

from __future__ import annotations

from mulligan.api.meta.v1 import request_response_pb2 as api
from mulligan.api.meta.v1.meta_pb2 import Object, Region, RegionConfig
from mulligan.caller import Caller, Grant
from mulligan.errors import NotFound
from mulligan.ids import new_id
from mulligan.meta.service import MetaService

ADMIN = Caller(new_id(), "", (Grant("admin", True, ""),), permission="meta.name.update", system=True)


def tenant() -> Caller:
    """A member of a project of its own."""
    return Caller(new_id(), new_id(), (Grant("member", False, ""),), permission="meta.name.update")


def operator_of(region: str) -> Caller:
    """An operator who is bound to a region's tree."""
    return Caller(new_id(), "", (Grant("operator", True, region),), permission="meta.name.update", system=True)


async def make_region(meta: MetaService, parent: str = "", shard: str = "", **config: object) -> Region:
    """A new region."""
    request = api.CreateRegionRequest(request_id=new_id(), name=f"Region {new_id()[-12:]}", parent=parent, shard=shard)
    request.config.CopyFrom(RegionConfig(**config))  # type: ignore[arg-type]
    return (await meta.create_region(request, ADMIN)).region


async def look_up(meta: MetaService, caller: Caller, *ids: str) -> list[Object]:
    """The objects of these that the caller may see."""
    return list((await meta.lookup_objects(api.LookupObjectsRequest(ids=ids), caller)).objects)


async def sees(meta: MetaService, caller: Caller, region: str) -> bool:
    """Whether the caller may know of the region."""
    try:
        await meta.get_region(api.GetRegionRequest(id=region), caller)
    except NotFound:
        return False
    return True


async def list_all(meta: MetaService, caller: Caller, size: int, kind: str = "", *tags: str) -> list[str]:
    """Ids of what a list shows, from all its pages."""
    found, token = [], ""
    while True:
        request = api.ListObjectsRequest(kind=kind, tags=tags, page_size=size, page_token=token)
        page = await meta.list_objects(request, caller)
        assert len(page.objects) <= size
        found += [each.id for each in page.objects]
        token = page.next_page_token
        if not token:
            assert found == sorted(set(found))
            return found
