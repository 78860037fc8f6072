"""Providers: made, read, given another inventory or state, deleted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mulligan.api.resource.v1 import provider_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import Aborted, FailedPrecondition, InvalidArgument
from mulligan.meta.model import PROVIDER
from mulligan.requests import decode_page_token, derived_id, encode_page_token, page_size
from mulligan.resource.batch import RequestKey
from mulligan.resource.core import Answer, Core, Recorder
from mulligan.resource.funnel import Turns
from mulligan.resource.handlers.configs import ConfigParser, known_inventories
from mulligan.resource.inventory import Inventory
from mulligan.resource.model import Provider
from mulligan.resource.spec import canonical_id
from mulligan.resource.structure import (
    delete_provider,
    insert_providers,
    is_held_whole,
    replace_inventory,
    update_state,
)
from mulligan.resource.usage import project_peaks
from mulligan.resource.wire import inventory_message, provider_message
from mulligan.resource.world import World, provider_exists, provider_not_found

MAX_REASON_CHARACTERS = 1000


class ProviderHandlers:
    """Serves the RPCs about single providers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create_provider(self, request: messages.CreateProviderRequest, caller: Caller) -> Answer:
        """Makes a provider; raises AlreadyExists when its name is taken in the region."""

        async def create(key: RequestKey, record: Recorder) -> messages.CreateProviderResponse:
            core = self._core
            region = core.regions.require(request.region, caller)
            identifier = derived_id(*key)
            ConfigParser(core.world).provider(identifier, region, request.config, 0)
            registering = core.names.registering(PROVIDER, region, request.name, identifier, region=region)
            async with core.changing, registering:
                world = core.world

                async def store(connection: Any) -> tuple[Provider, messages.CreateProviderResponse]:
                    if identifier in world.providers:
                        raise provider_exists(identifier)
                    provider = ConfigParser(world).provider(identifier, region, request.config, core.clock())
                    await insert_providers(connection, core.store.shard, [provider])
                    message = provider_message(provider, provider.used(), for_operators=True)
                    response = messages.CreateProviderResponse(provider=message)
                    await record(connection, response)
                    return provider, response

                _, response = await core.memory.writer.exclusive(store, lambda made: world.add_provider(made[0]))
                return response

        return await self._core.mutate(request, caller, create)

    async def get_provider(self, request: messages.GetProviderRequest, caller: Caller) -> messages.GetProviderResponse:
        """One provider, with what the caller may know to be in use of it."""
        provider = self._visible(request.id, request.region, caller)
        used = await self._used([provider], caller)
        message = provider_message(provider, used[provider.id], for_operators=caller.system)
        return messages.GetProviderResponse(provider=message)

    async def list_providers(
        self, request: messages.ListProvidersRequest, caller: Caller
    ) -> messages.ListProvidersResponse:
        """Providers of a region's tree, in order of id."""
        world = self._core.world
        scope = self._core.regions.scope(request.region, caller)
        group = world.group(canonical_id(request.group, "group")).id if request.group else ""
        size, turns = page_size(request.page_size), Turns()
        after = decode_page_token(request.page_token, {"after": str}).get("after", "")
        ids, found = world.provider_ids(), list[Provider]()
        for at in range(bisect_right(ids, after), len(ids)):
            await turns.step()
            provider = world.providers.get(ids[at])
            if provider and provider.region in scope.regions and (not group or group in provider.groups):
                found.append(provider)
                if len(found) > size:
                    break
        page = found[:size]
        used = await self._used(page, caller)
        return messages.ListProvidersResponse(
            providers=[provider_message(each, used[each.id], for_operators=caller.system) for each in page],
            next_page_token=encode_page_token({"after": page[-1].id}) if len(found) > size else "",
        )

    async def set_inventory(self, request: messages.SetInventoryRequest, caller: Caller) -> Answer:
        """Replaces a provider's inventory; raises FailedPrecondition (CAPACITY_IN_USE) where claims no longer fit."""

        async def replace(key: RequestKey, record: Recorder) -> messages.SetInventoryResponse:
            core, world = self._core, self._core.world
            provider = self._visible(request.id, request.region, caller)
            inventories = known_inventories(world, request.inventories, "inventories")

            async def store(connection: Any) -> messages.SetInventoryResponse:
                _check_present(world, provider)
                _check_etag(provider, request.etag)
                check_capacity(provider, inventories)
                if _capacities(provider.profile.inventories) != _capacities(inventories):
                    await _check_not_whole(connection, provider, core.clock())
                await replace_inventory(connection, provider, inventories)
                response = messages.SetInventoryResponse(provider=_restocked(provider, inventories))
                await record(connection, response)
                return response

            def apply(_: object) -> None:
                world.change_inventory(provider, inventories)
                provider.generation += 1

            with core.frozen(provider):
                return await core.memory.writer.exclusive(store, apply)

        return await self._core.mutate(request, caller, replace)

    async def set_provider_state(self, request: messages.SetProviderStateRequest, caller: Caller) -> Answer:
        """Takes a provider out of placement or puts it back; its claims stay as they are."""

        async def change(key: RequestKey, record: Recorder) -> messages.SetProviderStateResponse:
            core, world = self._core, self._core.world
            provider = self._visible(request.id, request.region, caller)
            state, reason = request.state, _checked_reason(request.reason)
            if state == 0 or state not in provider_pb2.ProviderState.values():
                raise InvalidArgument("state must be ACTIVE, MAINTENANCE or QUARANTINED", field="state")
            now = core.clock()

            async def store(connection: Any) -> messages.SetProviderStateResponse:
                _check_present(world, provider)
                _check_etag(provider, request.etag)
                await update_state(connection, provider, state, reason, now)
                message = provider_message(provider, provider.used(), for_operators=True)
                message.state, message.state_reason = state, reason
                message.state_since.FromMicroseconds(now)
                message.etag = str(provider.generation + 1)
                response = messages.SetProviderStateResponse(provider=message)
                await record(connection, response)
                return response

            def apply(_: object) -> None:
                world.set_state(provider, state, reason, now)
                provider.generation += 1

            return await core.memory.writer.exclusive(store, apply)

        return await self._core.mutate(request, caller, change)

    async def delete_provider(self, request: messages.DeleteProviderRequest, caller: Caller) -> Answer:
        """Deletes a provider; raises FailedPrecondition (IN_USE) while a claim holds it now or later."""
        identifier = canonical_id(request.id, "id")

        async def delete(key: RequestKey, record: Recorder) -> messages.DeleteProviderResponse:
            world = self._core.world
            provider = self._visible(identifier, request.region, caller)

            async def store(connection: Any) -> messages.DeleteProviderResponse:
                _check_present(world, provider)
                if provider.is_used():
                    raise FailedPrecondition(
                        f"claims hold provider {identifier} now or later; release them first",
                        reason="IN_USE",
                        metadata={"provider": identifier},
                    )
                await delete_provider(connection, provider)
                response = messages.DeleteProviderResponse()
                await record(connection, response)
                return response

            with self._core.frozen(provider):
                return await self._core.memory.writer.exclusive(store, lambda _: world.remove_provider(provider))

        answer = await self._core.mutate(request, caller, delete)
        # Also when it was deleted by an earlier attempt, which may have ended before this.
        await self._core.names.remove(identifier)
        return answer

    def _visible(self, identifier: str, region: str, caller: Caller) -> Provider:
        """Raises NotFound for a provider that is not there or in a region that the request does not reach."""
        provider = self._core.world.provider(canonical_id(identifier, "id"))
        regions, home = self._core.regions, provider.region
        if not (regions.tree.is_visible(home, caller) and regions.reaches([home], region, caller)):
            raise provider_not_found(provider.id)
        return provider

    async def _used(self, providers: Sequence[Provider], caller: Caller) -> Mapping[str, Mapping[str, int]]:
        """What is in use from now on: by everybody for a system assignment, else by the caller's project."""
        if caller.system:
            return {each.id: each.used() for each in providers}
        core, ids = self._core, [each.id for each in providers]
        now = core.clock()
        return await core.store.read(lambda connection: project_peaks(connection, caller.project, ids, now))


def check_capacity(provider: Provider, inventories: Sequence[Inventory]) -> None:
    """Raises FailedPrecondition (CAPACITY_IN_USE) where more would be in use than there is, and by more than now."""
    after = _capacities(inventories)
    for position, inventory in enumerate(provider.profile.inventories):
        used, capacity = provider.peak(position), after.get(inventory.resource_type, 0)
        if used > capacity and capacity < inventory.capacity:
            raise FailedPrecondition(
                f"claims use {used} of {inventory.resource_type} at their peak and the change leaves {capacity};"
                " release claims first, or set the state to MAINTENANCE to keep new ones away",
                reason="CAPACITY_IN_USE",
                metadata={"provider": provider.id, "resource_type": inventory.resource_type, "used": str(used)},
            )


async def _check_not_whole(connection: Any, provider: Provider, now: int) -> None:
    if await is_held_whole(connection, provider.id, now):
        raise FailedPrecondition(
            f"an exclusive claim holds all of provider {provider.id}, so its capacity cannot change; release it first",
            reason="CAPACITY_IN_USE",
            metadata={"provider": provider.id},
        )


def _capacities(inventories: Iterable[Inventory]) -> dict[str, int]:
    return {each.resource_type: each.capacity for each in inventories}


def _restocked(provider: Provider, inventories: Sequence[Inventory]) -> provider_pb2.Provider:
    """The provider as it will be with another inventory."""
    before = provider.used()
    used = {each.resource_type: before.get(each.resource_type, 0) for each in inventories}
    message = provider_message(provider, used, for_operators=True)
    del message.config.inventories[:]
    message.config.inventories.extend(inventory_message(each) for each in inventories)
    message.etag = str(provider.generation + 1)
    return message


def _check_present(world: World, provider: Provider) -> None:
    if world.providers.get(provider.id) is not provider:
        raise provider_not_found(provider.id)


def _check_etag(provider: Provider, etag: str) -> None:
    if etag and etag != str(provider.generation):
        raise Aborted(
            f"provider {provider.id} was changed since etag {etag[:32]!r}; read it again, then retry",
            reason="GENERATION_CONFLICT",
            metadata={"provider": provider.id, "etag": str(provider.generation)},
        )


def _checked_reason(text: str) -> str:
    reason = " ".join(text.split())
    if len(reason) > MAX_REASON_CHARACTERS or not (reason.isprintable() or not reason):
        raise InvalidArgument(f"reason must have at most {MAX_REASON_CHARACTERS} printable characters", field="reason")
    return reason
