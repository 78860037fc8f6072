"""Provider groups: made, listed, deleted when they have no members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mulligan.api.resource.v1 import provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import FailedPrecondition, InvalidArgument
from mulligan.meta.model import PROVIDER_GROUP
from mulligan.requests import decode_page_token, derived_id, encode_page_token, page_size
from mulligan.resource.batch import RequestKey
from mulligan.resource.core import Answer, Core, Recorder
from mulligan.resource.model import ProviderGroup
from mulligan.resource.spec import canonical_id
from mulligan.resource.structure import delete_group, insert_group
from mulligan.resource.vocabulary import Vocabulary
from mulligan.resource.wire import group_message
from mulligan.resource.world import group_exists, group_not_found


class GroupHandlers:
    """Serves the RPCs about provider groups."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create_provider_group(self, request: messages.CreateProviderGroupRequest, caller: Caller) -> Answer:
        """Makes a group; raises AlreadyExists when its name is taken in the region."""

        async def create(key: RequestKey, record: Recorder) -> messages.CreateProviderGroupResponse:
            core = self._core
            region = core.regions.require(request.region, caller)
            parse_spans(request.spans, core.world.vocabulary)
            identifier = derived_id(*key)
            registering = core.names.registering(PROVIDER_GROUP, region, request.name, identifier, region=region)
            async with core.changing, registering:
                world = core.world

                async def store(connection: Any) -> tuple[ProviderGroup, messages.CreateProviderGroupResponse]:
                    if identifier in world.groups:
                        raise group_exists(identifier)
                    group = ProviderGroup(identifier, region, parse_spans(request.spans, world.vocabulary))
                    await insert_group(connection, core.store.shard, group, world.vocabulary, core.clock())
                    response = messages.CreateProviderGroupResponse(group=group_message(group, world.vocabulary))
                    await record(connection, response)
                    return group, response

                _, response = await core.memory.writer.exclusive(store, lambda made: world.add_group(made[0]))
                return response

        return await self._core.mutate(request, caller, create)

    async def list_provider_groups(
        self, request: messages.ListProviderGroupsRequest, caller: Caller
    ) -> messages.ListProviderGroupsResponse:
        """Groups of a region's tree, in order of id."""
        world = self._core.world
        scope = self._core.regions.scope(request.region, caller)
        size = page_size(request.page_size)
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        found = sorted(each.id for each in world.groups.values() if each.region in scope.regions and each.id > after)
        return messages.ListProviderGroupsResponse(
            groups=[group_message(world.groups[each], world.vocabulary) for each in found[:size]],
            next_page_token=encode_page_token({"after": found[size - 1]}) if len(found) > size else "",
        )

    async def delete_provider_group(self, request: messages.DeleteProviderGroupRequest, caller: Caller) -> Answer:
        """Deletes a group; refused while it has members."""
        identifier = canonical_id(request.id, "id")

        async def delete(key: RequestKey, record: Recorder) -> messages.DeleteProviderGroupResponse:
            core, world = self._core, self._core.world

            async def store(connection: Any) -> messages.DeleteProviderGroupResponse:
                group = world.group(identifier)
                if not core.regions.reaches([group.region], request.region, caller):
                    raise group_not_found(identifier)
                if group.members:
                    raise FailedPrecondition(
                        f"provider group {identifier} has {group.members} members; delete those first",
                        reason="IN_USE",
                        metadata={"provider_group": identifier},
                    )
                await delete_group(connection, identifier)
                response = messages.DeleteProviderGroupResponse()
                await record(connection, response)
                return response

            return await core.memory.writer.exclusive(store, lambda _: world.remove_group(identifier))

        answer = await self._core.mutate(request, caller, delete)
        # Also when it was deleted by an earlier attempt, which may have ended before this.
        await self._core.names.remove(identifier)
        return answer


def parse_spans(spans: Iterable[provider_pb2.Span], vocabulary: Vocabulary) -> dict[str, int]:
    """Distance type -> index of the position; raises InvalidArgument."""
    parsed: dict[str, int] = {}
    for index, span in enumerate(spans):
        field = f"spans[{index}]"
        if span.distance_type in parsed:
            raise InvalidArgument(f"{field}: {span.distance_type} is given twice", field=field)
        parsed[span.distance_type] = vocabulary.position(span.distance_type, span.position, f"{field}.position")
    return parsed
