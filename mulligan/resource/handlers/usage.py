"""Usage: capacity and peak use in a window."""

from __future__ import annotations

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.resource.core import Core
from mulligan.resource.funnel import Turns
from mulligan.resource.handlers.quotas import visible_project
from mulligan.resource.inventory import MAX_AMOUNT
from mulligan.resource.model import Provider
from mulligan.resource.planner import Scope
from mulligan.resource.spec import canonical_id
from mulligan.resource.usage import peaks_in_database, peaks_in_memory
from mulligan.resource.window import parse_window
from mulligan.resource.world import World, provider_not_found


class UsageHandlers:
    """Serves GetUsage."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get_usage(self, request: messages.GetUsageRequest, caller: Caller) -> messages.GetUsageResponse:
        """By resource type: everybody's use for a system assignment, else that of the caller's project alone."""
        core, world = self._core, self._core.world
        scope = core.regions.scope(request.region, caller)
        provider = self._provider(request.provider, scope)
        project = visible_project(request.project, caller)
        now = world.now
        begin, end = parse_window(request.window, now) if request.HasField("window") else (now, now + 1)
        counted = [provider] if provider else await _within(world, scope)
        if project or begin < now or not caller.system:
            regions = scope.regions if request.region else None
            used = await core.store.read(
                lambda connection: peaks_in_database(
                    connection,
                    core.store.shard,
                    begin,
                    end,
                    project=project,
                    provider=provider.id if provider else "",
                    regions=regions,
                )
            )
        else:
            used = await peaks_in_memory(counted, begin, end)
        capacities = {} if project else await _capacities(counted)
        kinds = {each.resource_type for profile in {one.profile for one in counted} for each in profile.inventories}
        return messages.GetUsageResponse(
            usages=[
                claim_pb2.Usage(
                    resource_type=kind,
                    capacity=min(capacities.get(kind, 0), MAX_AMOUNT),
                    used=min(used.get(kind, 0), MAX_AMOUNT),
                    shard=core.store.shard,
                )
                for kind in sorted(kinds | used.keys())
            ]
        )

    def _provider(self, identifier: str, scope: Scope) -> Provider | None:
        if not identifier:
            return None
        provider = self._core.world.provider(canonical_id(identifier, "provider"))
        if provider.region not in scope.regions:
            raise provider_not_found(provider.id)
        return provider


async def _within(world: World, scope: Scope) -> list[Provider]:
    turns, found = Turns(), list[Provider]()
    for pool in world.index.pools():
        if pool.region in scope.regions:
            for cell in pool.cells:
                await turns.step(len(cell.providers))
                found.extend(cell.providers)
    return found


async def _capacities(providers: list[Provider]) -> dict[str, int]:
    turns, capacities = Turns(), dict[str, int]()
    for provider in providers:
        await turns.step()
        for inventory in provider.profile.inventories:
            kind = inventory.resource_type
            capacities[kind] = capacities.get(kind, 0) + inventory.capacity
    return capacities
