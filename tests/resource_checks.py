"""What tests of the resource service check of a shard as a whole: the ledger, and memory against the database."""

from __future__ import annotations

from typing import Any

from mulligan.ids import new_id
from mulligan.resource.audit import overcommitted
from mulligan.resource.batch import RequestKey, Write
from mulligan.resource.model import Allocation, Claim
from mulligan.resource.timeline import FOREVER
from tests.resource_parts import Shard


async def audited(shard: Shard) -> int:
    """Over-committed resources, over all of the past too: no inventory shrank here."""
    async with shard.pool.acquire() as connection:
        return await overcommitted(connection, since_us=0)


async def same_after_restart(shard: Shard) -> None:
    """Memory rebuilt from the database is what it was."""
    before = shard.service.core.world
    again = await shard.restarted()
    after = again.service.core.world
    after.advance(before.advance(shard.clock()))
    assert normal(after.usage()) == normal(before.usage())
    for provider in before.providers.values():
        same = after.providers[provider.id]
        assert (same.profile.key, same.groups, same.region) == (provider.profile.key, provider.groups, provider.region)
        assert (same.state, same.state_reason, same.generation) == (
            provider.state,
            provider.state_reason,
            provider.generation,
        )
    assert {each.id: (each.limit, each.use) for each in after.quotas} == {
        each.id: (each.limit, each.use) for each in before.quotas
    }
    assert after.vocabulary.to_message() == before.vocabulary.to_message()
    assert {each.id: (each.spans, each.members) for each in after.groups.values()} == {
        each.id: (each.spans, each.members) for each in before.groups.values()
    }
    await again.service.close()


def normal(usage: Any) -> Any:
    """Without resources that are in use no more."""
    return {key: {kind: use for kind, use in uses.items() if max(use.levels)} for key, uses in usage.items()}


def forged(shard: Shard, provider: str, amount: int, begin: int = 0, end: int = FOREVER) -> Write:
    """A claim that no planner saw."""
    claim = Claim(
        new_id(),
        shard.region,
        shard.tenant.project,
        new_id(),
        begin or shard.clock(),
        end,
        shard.clock(),
        allocations=[Allocation("0", provider, "cpu.shared", amount, False)],
    )
    key = RequestKey(shard.tenant.account, shard.tenant.project, new_id())
    return Write(key, b"digest", b"response", claim, commit=lambda: None, undo=lambda: None)
