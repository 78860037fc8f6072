"""Rebuilds the memory of a shard from Postgres: everything that planning needs, in one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from mulligan.resource.inventory import Inventory, capacity_of
from mulligan.resource.model import Provider, ProviderGroup
from mulligan.resource.quota import Quota
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline
from mulligan.resource.vocabulary import Vocabulary
from mulligan.resource.world import World

# Rows handled in one go, so that the event loop is never held for long.
_ROWS = 2_000

_CODES = "SELECT kind, code, unit, positions FROM resource.codes WHERE shard = $1"
_GROUPS = "SELECT id::text, region::text, distance_types, positions FROM resource.provider_groups WHERE shard = $1"
# Lists come as text: equal texts are then looked up instead of being decoded again and again.
_PROVIDERS = """
SELECT id::text, region::text, provider_type, array_to_string(capabilities, ' ') AS capabilities,
       array_to_string(groups, ' ') AS groups, state, state_reason, state_since_us, generation, create_us
FROM resource.providers WHERE shard = $1 ORDER BY id
"""
# Most providers are alike: the inventories of each kind come once, with the ids of those that have them.
_INVENTORIES = """
WITH sets AS (
    SELECT i.provider, array_agg((i.resource_type, i.total, i.reserved, i.min_unit, i.max_unit, i.step_size,
                                  i.allocation_ratio) ORDER BY i.resource_type COLLATE "C") AS inventories
    FROM resource.inventories i JOIN resource.providers p ON p.id = i.provider
    WHERE p.shard = $1 GROUP BY 1
)
SELECT inventories, array_agg(provider::text) AS providers FROM sets GROUP BY 1
"""
# What is in use for ever, a thousand providers in a row; and what changes over time.
_STEADY_USE = """
SELECT resource_type, array_agg(owner) AS owners, array_agg(used) AS levels
FROM (SELECT l.owner::text, l.resource_type, l.used,
             row_number() OVER (PARTITION BY l.resource_type) / 1000 AS part
      FROM resource.ledger l JOIN resource.providers p ON p.id = l.owner
      WHERE p.shard = $1 AND l.until_us = $3 AND l.used > 0 AND NOT EXISTS (
          SELECT FROM resource.ledger e
          WHERE e.owner = l.owner AND e.resource_type = l.resource_type AND e.until_us > $2 AND e.until_us < $3)) AS one
GROUP BY resource_type, part
"""
_CHANGING_USE = """
SELECT l.owner::text AS owner, l.resource_type, array_agg(l.until_us ORDER BY l.from_us) AS untils,
       array_agg(l.used ORDER BY l.from_us) AS levels
FROM resource.ledger l JOIN resource.providers p ON p.id = l.owner
WHERE p.shard = $1 AND l.until_us > $2
GROUP BY 1, 2 HAVING count(*) > 1 AND max(l.used) > 0
"""
_QUOTAS = """
SELECT q.id::text, q.project::text, q.resource_type, q.most, array_agg(l.until_us ORDER BY l.from_us) AS untils,
       array_agg(l.used ORDER BY l.from_us) AS levels
FROM resource.quotas q JOIN resource.ledger l ON l.owner = q.id AND l.resource_type = q.resource_type COLLATE "C"
WHERE q.shard = $1 AND l.until_us > $2
GROUP BY q.id
"""


async def load_world(connection: asyncpg.Connection, shard: str, now: int) -> World:
    """The shard's memory as the database has it at `now`."""
    world = World()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        world.extend_vocabulary(await _load_vocabulary(connection, shard))
        async for row in _rows(connection, _GROUPS, shard):
            positions = zip(row["distance_types"], row["positions"], strict=True)
            spans = {kind: world.vocabulary.distance_types[kind].index(at) for kind, at in positions}
            world.add_group(ProviderGroup(row["id"], row["region"], spans))
        await _load_providers(connection, world, shard)
        await _load_use(connection, world, shard, now)
        async for row in _rows(connection, _QUOTAS, shard, now):
            use = timeline_from(row["untils"], row["levels"])
            world.quotas.put(Quota(row["id"], row["project"], row["resource_type"], row["most"], use))
    world.advance(now)
    return world


def timeline_from(untils: list[int], levels: list[int]) -> Timeline:
    """A timeline from the segments of the ledger, the first of which has begun."""
    starts, kept = [ALREADY], [levels[0]]
    for start, level in zip(untils[:-1], levels[1:], strict=True):
        if level != kept[-1]:
            starts.append(start)
            kept.append(level)
    assert untils[-1] == FOREVER, "the ledger has no gaps and no end"
    return Timeline(starts, kept)


async def _load_vocabulary(connection: asyncpg.Connection, shard: str) -> Vocabulary:
    vocabulary = Vocabulary()
    for kind, code, unit, positions in await connection.fetch(_CODES, shard):
        if kind == "provider_type":
            vocabulary.provider_types.add(code)
        elif kind == "capability":
            vocabulary.capabilities.add(code)
        elif kind == "resource_type":
            vocabulary.resource_types[code] = unit
        else:
            vocabulary.distance_types[code] = tuple(positions)
    return vocabulary


async def _load_providers(connection: asyncpg.Connection, world: World, shard: str) -> None:
    inventories: dict[str, tuple[Inventory, ...]] = {}
    async for row in _rows(connection, _INVENTORIES, shard):
        same = tuple(_inventory(*each) for each in row["inventories"])
        inventories.update(dict.fromkeys(row["providers"], same))
    sets: dict[str, frozenset[str]] = {}
    regions: dict[str, str] = {}

    def parts(text: str) -> frozenset[str]:
        if text not in sets:
            sets[text] = frozenset(text.split())
        return sets[text]

    async for row in _rows(connection, _PROVIDERS, shard):
        identifier, region, provider_type, capabilities, groups, state, reason, since, generation, created = row
        profile = world.profile(provider_type, parts(capabilities), inventories.get(identifier, ()))
        provider = Provider(identifier, regions.setdefault(region, region), profile, parts(groups), created)
        provider.state, provider.state_reason, provider.state_since_us = state, reason, since
        provider.generation = generation
        world.add_provider(provider)


async def _load_use(connection: asyncpg.Connection, world: World, shard: str, now: int) -> None:
    async for row in _rows(connection, _STEADY_USE, shard, now, FOREVER, every=1):
        for owner, level in zip(row["owners"], row["levels"], strict=True):
            provider = world.providers[owner]
            world.set_use(provider, provider.profile.position[row["resource_type"]], Timeline([ALREADY], [level]))
    async for row in _rows(connection, _CHANGING_USE, shard, now):
        provider = world.providers[row["owner"]]
        use = timeline_from(row["untils"], row["levels"])
        world.set_use(provider, provider.profile.position[row["resource_type"]], use)


def _inventory(
    resource_type: str, total: int, reserved: int, min_unit: int, max_unit: int, step_size: int, ratio: float
) -> Inventory:
    capacity = capacity_of(total, reserved, ratio)
    return Inventory(resource_type, total, reserved, min_unit, max_unit, step_size, ratio, capacity)


async def _rows(connection: asyncpg.Connection, query: str, *values: object, every: int = _ROWS) -> AsyncIterator[Any]:
    """The rows of a query; others get a turn after so many."""
    for number, row in enumerate(await connection.fetch(query, *values)):
        if number % every == 0:
            await asyncio.sleep(0)
        yield row
