"""The RPCs of the metadata service: validate, look whether the caller may, act, answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from google.protobuf.message import Message

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.meta.v1 import request_response_pb2 as api
from mulligan.api.meta.v1.meta_pb2 import Region, ResolvedName
from mulligan.caller import Caller
from mulligan.clock import Clock, now_us
from mulligan.dispatch import Page
from mulligan.errors import InvalidArgument
from mulligan.ids import new_id, parse_id
from mulligan.meta.errors import object_not_found, region_not_found
from mulligan.meta.model import MAX_TAGS, NamedObject, check_name, check_tag
from mulligan.meta.names import Also, Found, NameStore
from mulligan.meta.policy import Facets
from mulligan.meta.region_config import check_shard, to_message, with_config
from mulligan.meta.regions import DEFAULT_SHARD, RegionRecord
from mulligan.meta.store import Recorder, RegionStore, Requests, next_version
from mulligan.meta.view import MetaView
from mulligan.meta.watch import ObjectWatch
from mulligan.requests import decode_page_token, encode_page_token, masked_fields, page_size
from mulligan.runtime_settings import RuntimeSettings
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import Plan

SERVICE = "meta"

MAX_BATCH = 1000

# Objects looked at for one page of a list; a page may so be short, or empty, and yet have a next one.
_LOOKED_AT = 20_000


class MetaService:
    """Serves mulligan.meta.v1.MetaService from etcd."""

    def __init__(self, etcd: EtcdClient, clock: Clock = now_us) -> None:
        self._clock = clock
        self._settings = RuntimeSettings(etcd, SERVICE, ServiceSettings, clock=clock)
        self._view = MetaView(etcd)
        self._names = NameStore(etcd)
        self._regions = RegionStore(etcd, self._names)
        self._requests = Requests(etcd)
        self._watch = ObjectWatch(etcd, self._view)

    @classmethod
    async def open(cls, etcd: EtcdClient, clock: Clock = now_us) -> MetaService:
        """A service that has read all objects and regions; raises Unavailable."""
        service = cls(etcd, clock)
        try:
            await service._settings.start()
            await service._view.start()
        except BaseException:
            await service.close()
            raise
        return service

    async def close(self) -> None:
        """Stops following etcd."""
        await self._view.close()
        await self._settings.close()

    # Regions.

    async def create_region(self, request: api.CreateRegionRequest, caller: Caller) -> api.CreateRegionResponse:
        """Makes a region, a root or below another one."""
        name = check_name(request.name)
        parent = parse_id(request.parent, "parent") if request.parent else ""
        shard = check_shard(request.shard) if request.shard else ""
        given = [name for name in ("failures", "visibility", "projects") if getattr(request.config, name)]

        async def act(record_answer: Recorder) -> api.CreateRegionResponse:
            above = (await self._regions.find(parent)).record if parent else None
            inherited = (above.shard or self._view.tree.shard_of(parent)) if above else DEFAULT_SHARD
            record = RegionRecord(new_id(), parent, shard or inherited, created_us=self._clock())
            record = with_config(record, request.config, given, self._view.tree)
            response = api.CreateRegionResponse(region=self._message(record))
            revision = await self._regions.create(record, name, partial(record_answer, response))
            await self._view.saw_region(revision)
            await self._view.saw_object(revision)
            return response

        return await self._requests.once(caller, request, api.CreateRegionResponse, act)

    async def get_region(self, request: api.GetRegionRequest, caller: Caller) -> api.GetRegionResponse:
        """One region that the caller may see."""
        region = parse_id(request.id, "id")
        self._check_visible(region, caller)
        return api.GetRegionResponse(region=self._message(self._view.tree.shown(region, caller)))

    async def list_regions(self, request: api.ListRegionsRequest, caller: Caller) -> api.ListRegionsResponse:
        """Regions that the caller may see, by id."""
        size, tree = page_size(request.page_size), self._view.tree
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        under = parse_id(request.under, "under") if request.under else ""
        if under:
            self._check_visible(under, caller)
        behind = (each for each in sorted(tree.descendants(under)) if each > after and tree.is_visible(each, caller))
        found = list(islice(behind, size + 1))
        return api.ListRegionsResponse(
            regions=[self._message(tree.shown(each, caller)) for each in found[:size]],
            next_page_token=encode_page_token({"after": found[size - 1]}) if len(found) > size else "",
        )

    async def update_region(self, request: api.UpdateRegionRequest, caller: Caller) -> api.UpdateRegionResponse:
        """Changes failure attributes or visibility of a region."""
        region = parse_id(request.id, "id")
        names = masked_fields(request.update_mask, type(request.config))
        if not names:
            raise InvalidArgument("update_mask names no field; name those of config to change", field="update_mask")

        async def act(record_answer: Recorder) -> api.UpdateRegionResponse:
            stored = await self._regions.find(region)
            changed = with_config(stored.record, request.config, names, self._view.tree)
            changed = next_version(stored, changed, request.etag)
            response = api.UpdateRegionResponse(region=self._message(changed))
            revision = await self._regions.update(stored, changed, partial(record_answer, response))
            await self._view.saw_region(revision)
            return response

        return await self._requests.once(caller, request, api.UpdateRegionResponse, act)

    async def delete_region(self, request: api.DeleteRegionRequest, caller: Caller) -> api.DeleteRegionResponse:
        """Deletes a region; refused while it has children or objects live in it."""
        region = parse_id(request.id, "id")

        async def act(record_answer: Recorder) -> api.DeleteRegionResponse:
            response = api.DeleteRegionResponse()
            revision = await self._regions.delete(region, partial(record_answer, response))
            await self._view.saw_region(revision)
            await self._view.saw_object(revision)
            return response

        return await self._requests.once(caller, request, api.DeleteRegionResponse, act)

    # Names and tags.

    async def resolve_names(self, request: api.ResolveNamesRequest, caller: Caller) -> api.ResolveNamesResponse:
        """UUIDs of named objects, in a batch. What is not found is left out."""
        _check_batch(len(request.names), "names")
        ids = await self._names.resolve_many([(key.kind, key.scope, key.name) for key in request.names])
        visible = await self._visible(caller, filter(None, ids))
        resolved = [
            ResolvedName(key=key, id=id) for key, id in zip(request.names, ids, strict=True) if id and id in visible
        ]
        return api.ResolveNamesResponse(resolved=resolved)

    async def lookup_objects(self, request: api.LookupObjectsRequest, caller: Caller) -> api.LookupObjectsResponse:
        """Names, slugs and tags of objects by UUID, in a batch. What the caller may not see is left out."""
        _check_batch(len(request.ids), "ids")
        ids = list(dict.fromkeys(parse_id(each, "ids") for each in request.ids))
        visible = await self._visible(caller, ids)
        return api.LookupObjectsResponse(objects=[visible[each].to_message() for each in ids if each in visible])

    async def rename_object(self, request: api.RenameObjectRequest, caller: Caller) -> api.RenameObjectResponse:
        """Gives an object another name and slug; the old slug finds it for a day."""
        id, name = parse_id(request.id, "id"), check_name(request.name)

        async def act(record_answer: Recorder) -> api.RenameObjectResponse:
            found = await self._changeable(id, caller)
            also = _answering(record_answer, lambda each: api.RenameObjectResponse(object=each.to_message()))
            renamed = await self._names.rename(found, name, also)
            await self._view.saw_object(renamed.revision)
            return api.RenameObjectResponse(object=renamed.object.to_message())

        return await self._requests.once(caller, request, api.RenameObjectResponse, act)

    async def set_tags(self, request: api.SetTagsRequest, caller: Caller) -> api.SetTagsResponse:
        """Adds tags to an object and removes tags from it; a tag in both lists is there afterwards."""
        id = parse_id(request.id, "id")
        add = {check_tag(tag, "add") for tag in request.add}

        async def act(record_answer: Recorder) -> api.SetTagsResponse:
            found = await self._changeable(id, caller)
            tags = set(found.object.tags) - set(request.remove) | add
            if len(tags) > MAX_TAGS:
                raise InvalidArgument(f"an object has at most {MAX_TAGS} tags; remove some first", field="add")
            also = _answering(record_answer, lambda each: api.SetTagsResponse(object=each.to_message()))
            tagged = await self._names.retag(found, tags, also)
            await self._view.saw_object(tagged.revision)
            return api.SetTagsResponse(object=tagged.object.to_message())

        return await self._requests.once(caller, request, api.SetTagsResponse, act)

    async def list_objects(self, request: api.ListObjectsRequest, caller: Caller) -> api.ListObjectsResponse:
        """Objects of a kind that carry all the given tags, by id."""
        size, eyes = page_size(request.page_size), self._view.eyes(caller)
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        candidates = self._view.index.candidates(eyes, request.kind, request.tags, after)
        shown: list[str] = []
        for object_id, facets in islice(candidates, _LOOKED_AT):
            after = object_id
            if eyes.sees(object_id, facets):
                shown.append(object_id)
                if len(shown) == size:
                    break
        more = next(candidates, None) is not None
        return api.ListObjectsResponse(
            objects=[self._view.object(each).to_message() for each in shown],
            next_page_token=encode_page_token({"after": after}) if more else "",
        )

    async def watch_objects(self, request: api.WatchObjectsRequest, caller: Caller, cursor: str, wait_s: float) -> Page:
        """Changes of names and tags, from a revision on. A change of who may see a region is no event."""
        return await self._watch.poll(request, caller, cursor, wait_s)

    async def meta_configure(self, request: api.MetaConfigureRequest, caller: Caller) -> api.MetaConfigureResponse:
        """Changes the service's settings while it runs; with an empty mask, tells them."""
        return api.MetaConfigureResponse(settings=await self._settings.configure(request, caller))

    def _message(self, record: RegionRecord) -> Region:
        return to_message(record, record.shard or self._view.tree.shard_of(record.id))

    def _check_visible(self, region: str, caller: Caller) -> None:
        if not self._view.tree.is_visible(region, caller):
            raise region_not_found(region)

    async def _visible(self, caller: Caller, ids: Iterable[str]) -> dict[str, NamedObject]:
        known, eyes = await self._names.lookup(ids), self._view.eyes(caller)
        return {id: each for id, each in known.items() if eyes.sees(id, Facets.of(each))}

    async def _changeable(self, id: str, caller: Caller) -> Found:
        found = await self._names.find(id)
        if found is None:
            raise object_not_found(id)
        self._view.eyes(caller).check_change(found.object)
        return found


def _check_batch(size: int, field: str) -> None:
    if size > MAX_BATCH:
        raise InvalidArgument(f"{field} has {size} entries; send at most {MAX_BATCH} at once", field=field)


def _answering(record_answer: Recorder, response: Callable[[NamedObject], Message]) -> Also:
    def also(each: NamedObject) -> Plan:
        plan = Plan()
        record_answer(response(each), plan)
        return plan

    return also
