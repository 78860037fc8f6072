"""SQL of what changes rarely: vocabulary, provider groups, providers with their inventories, quotas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from mulligan.resource.inventory import Inventory
from mulligan.resource.model import Provider, ProviderGroup
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline
from mulligan.resource.vocabulary import Vocabulary

_INSERT_CODES = """
INSERT INTO resource.codes (shard, kind, code, unit, positions)
SELECT $1, kind, code, unit, string_to_array(positions, ' ')
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS c (kind, code, unit, positions)
ON CONFLICT DO NOTHING
"""
_DELETE_CODES = """
DELETE FROM resource.codes AS c USING unnest($2::text[], $3::text[]) AS d (kind, code)
WHERE c.shard = $1 AND c.kind = d.kind AND c.code = d.code
"""
_INSERT_GROUP = """
INSERT INTO resource.provider_groups (id, shard, region, create_us, distance_types, positions)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_DELETE_GROUP = "DELETE FROM resource.provider_groups WHERE id = $1"

_PROVIDER_COLUMNS = (
    "id",
    "shard",
    "region",
    "provider_type",
    "capabilities",
    "groups",
    "state",
    "state_reason",
    "state_since_us",
    "generation",
    "create_us",
)
_INVENTORY_COLUMNS = (
    "provider",
    "resource_type",
    "total",
    "reserved",
    "min_unit",
    "max_unit",
    "step_size",
    "allocation_ratio",
)
_LEDGER_COLUMNS = ("owner", "resource_type", "from_us", "until_us", "used", "capacity", "nominal")
_UPDATE_LEDGER = """
UPDATE resource.ledger SET nominal = $3, capacity = greatest(used, $3)
WHERE owner = $1 AND resource_type = $2 COLLATE "C"
"""
_DELETE_LEDGER = "DELETE FROM resource.ledger WHERE owner = $1 AND resource_type = ANY($2::text[])"

_IS_HELD_WHOLE = """
SELECT EXISTS (SELECT FROM resource.allocations a JOIN resource.claims c ON c.id = a.claim
               WHERE a.provider = $1 AND a.exclusive AND NOT c.released AND c.release_us > $2)
"""
_UPDATE_STATE = """
UPDATE resource.providers SET state = $2, state_reason = $3, state_since_us = $4, generation = $5 WHERE id = $1
"""
_UPDATE_GENERATION = "UPDATE resource.providers SET generation = $2 WHERE id = $1"
_DELETE_PROVIDER = "DELETE FROM resource.providers WHERE id = $1"

_PROJECT_USE = """
SELECT greatest(c.acquire_us, $4), c.release_us, sum(a.amount)
FROM resource.claims c JOIN resource.allocations a ON a.claim = c.id
WHERE c.shard = $1 AND c.project = $2 AND a.resource_type = $3 AND NOT c.released AND c.release_us > $4
GROUP BY 1, 2
"""
_PUT_QUOTA = """
INSERT INTO resource.quotas (id, shard, project, resource_type, most) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (shard, project, resource_type) DO UPDATE SET most = excluded.most
"""
_DELETE_QUOTA = "DELETE FROM resource.quotas WHERE id = $1"


async def insert_codes(connection: asyncpg.Connection, shard: str, codes: Vocabulary) -> None:
    """Adds codes; those that are there stay as they are."""
    await connection.execute(_INSERT_CODES, shard, *_columns(_code_rows(codes), 4))


async def delete_codes(connection: asyncpg.Connection, shard: str, codes: Vocabulary) -> None:
    """Removes codes."""
    await connection.execute(_DELETE_CODES, shard, *_columns([row[:2] for row in _code_rows(codes)], 2))


async def insert_group(
    connection: asyncpg.Connection, shard: str, group: ProviderGroup, vocabulary: Vocabulary, now: int
) -> None:
    """Adds a provider group; positions are stored by their code."""
    positions = [vocabulary.distance_types[kind][at] for kind, at in group.spans.items()]
    await connection.execute(_INSERT_GROUP, group.id, shard, group.region, now, list(group.spans), positions)


async def delete_group(connection: asyncpg.Connection, identifier: str) -> None:
    """Removes a provider group."""
    await connection.execute(_DELETE_GROUP, identifier)


async def insert_providers(connection: asyncpg.Connection, shard: str, providers: Sequence[Provider]) -> None:
    """Adds new providers, of which nothing is in use."""
    rows = [
        (
            each.id,
            shard,
            each.region,
            each.profile.provider_type,
            sorted(each.profile.capabilities),
            sorted(each.groups),
            each.state,
            each.state_reason,
            each.state_since_us,
            each.generation,
            each.created_us,
        )
        for each in providers
    ]
    await _copy(connection, "providers", _PROVIDER_COLUMNS, rows)
    await _insert_inventories(connection, [(each.id, has) for each in providers for has in each.profile.inventories])
    unused = [
        _segment(each.id, has.resource_type, ALREADY, FOREVER, 0, has.capacity)
        for each in providers
        for has in each.profile.inventories
    ]
    await _copy(connection, "ledger", _LEDGER_COLUMNS, unused)


async def replace_inventory(
    connection: asyncpg.Connection, provider: Provider, inventories: Sequence[Inventory]
) -> None:
    """Gives a provider another inventory and its next generation; nothing that is left out may be in use."""
    before = {each.resource_type: each.capacity for each in provider.profile.inventories}
    after = {each.resource_type: each.capacity for each in inventories}
    await connection.execute("DELETE FROM resource.inventories WHERE provider = $1", provider.id)
    await _insert_inventories(connection, [(provider.id, each) for each in inventories])
    gone = [kind for kind in before if kind not in after]
    await connection.execute(_DELETE_LEDGER, provider.id, gone)
    changed = [(provider.id, kind, cap) for kind, cap in after.items() if kind in before and before[kind] != cap]
    await connection.executemany(_UPDATE_LEDGER, changed)
    new = [_segment(provider.id, kind, ALREADY, FOREVER, 0, cap) for kind, cap in after.items() if kind not in before]
    await _copy(connection, "ledger", _LEDGER_COLUMNS, new)
    await connection.execute(_UPDATE_GENERATION, provider.id, provider.generation + 1)


async def is_held_whole(connection: asyncpg.Connection, provider: str, now: int) -> bool:
    """Whether an exclusive claim holds the provider now or later."""
    return bool(await connection.fetchval(_IS_HELD_WHOLE, provider, now))


async def update_state(connection: asyncpg.Connection, provider: Provider, state: int, reason: str, now: int) -> None:
    """Changes the state of a provider and gives it its next generation."""
    await connection.execute(_UPDATE_STATE, provider.id, state, reason, now, provider.generation + 1)


async def delete_provider(connection: asyncpg.Connection, provider: Provider) -> None:
    """Removes a provider of which nothing is in use."""
    kinds = [each.resource_type for each in provider.profile.inventories]
    await connection.execute(_DELETE_LEDGER, provider.id, kinds)
    await connection.execute(_DELETE_PROVIDER, provider.id)


async def project_use(
    connection: asyncpg.Connection, shard: str, project: str, resource_type: str, now: int
) -> Timeline:
    """What a project's claims use of a resource type, from now on."""
    use = Timeline()
    for begin, end, amount in await connection.fetch(_PROJECT_USE, shard, project, resource_type, now):
        use.add(begin if begin > now else ALREADY, end, int(amount))
    return use


async def put_quota(
    connection: asyncpg.Connection,
    shard: str,
    identifier: str,
    project: str,
    resource_type: str,
    limit: int,
    use: Timeline | None,
) -> None:
    """Sets a limit; `use` is what is in use already when the quota is new. Less than that may be the limit."""
    await connection.execute(_PUT_QUOTA, identifier, shard, project, resource_type, limit)
    if use is None:
        await connection.execute(_UPDATE_LEDGER, identifier, resource_type, limit)
    else:
        rows = [_segment(identifier, resource_type, begin, end, level, limit) for begin, end, level in use.segments()]
        await _copy(connection, "ledger", _LEDGER_COLUMNS, rows)


async def delete_quota(connection: asyncpg.Connection, identifier: str, resource_type: str) -> None:
    """Removes a limit."""
    await connection.execute(_DELETE_LEDGER, identifier, [resource_type])
    await connection.execute(_DELETE_QUOTA, identifier)


async def _insert_inventories(connection: asyncpg.Connection, owned: Iterable[tuple[str, Inventory]]) -> None:
    rows = [
        (
            provider,
            each.resource_type,
            each.total,
            each.reserved,
            each.min_unit,
            each.max_unit,
            each.step_size,
            each.allocation_ratio,
        )
        for provider, each in owned
    ]
    await _copy(connection, "inventories", _INVENTORY_COLUMNS, rows)


def _segment(
    owner: str, resource_type: str, begin: int, end: int, used: int, nominal: int
) -> tuple[str, str, int, int, int, int, int]:
    """A row of the ledger; where more is in use than is allowed now, that much stays allowed."""
    return owner, resource_type, begin, end, used, max(used, nominal), nominal


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    if rows:
        await connection.copy_records_to_table(table, schema_name="resource", columns=columns, records=rows)


def _code_rows(codes: Vocabulary) -> list[tuple[str, str, str, str]]:
    return [
        *(("provider_type", code, "", "") for code in sorted(codes.provider_types)),
        *(("resource_type", code, unit, "") for code, unit in sorted(codes.resource_types.items())),
        *(("capability", code, "", "") for code in sorted(codes.capabilities)),
        *(("distance_type", code, "", " ".join(at)) for code, at in sorted(codes.distance_types.items())),
    ]


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) or [()] * width
