"""The codes of a shard: defined, told, removed while nothing uses them."""

from __future__ import annotations

from typing import Any

from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import FailedPrecondition
from mulligan.resource.batch import RequestKey
from mulligan.resource.core import Answer, Core, Recorder
from mulligan.resource.structure import delete_codes, insert_codes
from mulligan.resource.vocabulary import Vocabulary, check_code, parse_vocabulary
from mulligan.resource.world import World


class VocabularyHandlers:
    """Serves the RPCs about codes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def define_vocabulary(self, request: messages.DefineVocabularyRequest, caller: Caller) -> Answer:
        """Adds codes, all or none; what is there stays as it is."""

        async def define(key: RequestKey, record: Recorder) -> messages.DefineVocabularyResponse:
            core, world = self._core, self._core.world
            core.regions.scope(request.region, caller)
            codes = parse_vocabulary(request.vocabulary)

            async def store(connection: Any) -> messages.DefineVocabularyResponse:
                await insert_codes(connection, core.store.shard, codes)
                after = Vocabulary()
                after.add(world.vocabulary)
                after.add(codes)
                response = messages.DefineVocabularyResponse(vocabulary=after.to_message())
                await record(connection, response)
                return response

            return await core.memory.writer.exclusive(store, lambda _: world.extend_vocabulary(codes))

        return await self._core.mutate(request, caller, define)

    async def get_vocabulary(
        self, request: messages.GetVocabularyRequest, caller: Caller
    ) -> messages.GetVocabularyResponse:
        """All codes."""
        self._core.regions.scope(request.region, caller)
        return messages.GetVocabularyResponse(vocabulary=self._core.world.vocabulary.to_message())

    async def delete_vocabulary(self, request: messages.DeleteVocabularyRequest, caller: Caller) -> Answer:
        """Removes codes, all or none; refused while one is used. What is not there is left out."""

        async def delete(key: RequestKey, record: Recorder) -> messages.DeleteVocabularyResponse:
            core, world = self._core, self._core.world
            core.regions.scope(request.region, caller)
            codes = _codes_of(request)

            async def store(connection: Any) -> messages.DeleteVocabularyResponse:
                _require_unused(world, codes)
                await delete_codes(connection, core.store.shard, codes)
                response = messages.DeleteVocabularyResponse()
                await record(connection, response)
                return response

            return await core.memory.writer.exclusive(store, lambda _: world.reduce_vocabulary(codes))

        return await self._core.mutate(request, caller, delete)


def _codes_of(request: messages.DeleteVocabularyRequest) -> Vocabulary:
    codes = Vocabulary()
    codes.provider_types = {check_code(each, "provider_types") for each in request.provider_types}
    codes.resource_types = {check_code(each, "resource_types"): "" for each in request.resource_types}
    codes.capabilities = {check_code(each, "capabilities") for each in request.capabilities}
    codes.distance_types = {check_code(each, "distance_types"): () for each in request.distance_types}
    return codes


def _require_unused(world: World, codes: Vocabulary) -> None:
    for pool in world.index.pools():
        profile = pool.profile
        user = f"{pool.size} providers"
        _require(profile.provider_type not in codes.provider_types, profile.provider_type, user)
        for capability in profile.capabilities & codes.capabilities:
            _require(False, capability, user)
        for inventory in profile.inventories:
            _require(inventory.resource_type not in codes.resource_types, inventory.resource_type, user)
    for quota in world.quotas:
        _require(quota.resource_type not in codes.resource_types, quota.resource_type, "a quota")
    for group in world.groups.values():
        for distance_type in group.spans:
            _require(distance_type not in codes.distance_types, distance_type, f"provider group {group.id}")


def _require(unused: bool, code: str, user: str) -> None:
    if not unused:
        raise FailedPrecondition(
            f"{code} is used by {user}; change or delete those first", reason="IN_USE", metadata={"code": code}
        )
