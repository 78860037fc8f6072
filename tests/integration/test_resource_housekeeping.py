"""Housekeeping of one shard leaves the others alone, whose clocks may differ."""

from __future__ import annotations

from mulligan.resource.timeline import FOREVER
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_checks import same_after_restart
from tests.resource_parts import HOUR, Shard, running_shard, spec_of


async def segments(shard: Shard, provider: str) -> list[int]:
    query = "SELECT until_us FROM resource.ledger WHERE owner = $1 AND resource_type = 'memory' ORDER BY from_us"
    return [row[0] for row in await shard.pool.fetch(query, provider)]


async def test_what_is_past_is_forgotten_by_its_own_shard_alone(fresh_addresses: Addresses, etcd: EtcdClient) -> None:
    async with running_shard(fresh_addresses, etcd) as slow, running_shard(fresh_addresses, etcd) as fast:
        fast.clock.ahead_us += 2 * HOUR
        providers, ends = [], []
        for shard in (slow, fast):
            providers.append(await shard.provider())
            ends.append(shard.clock() + HOUR)
            await shard.claim(spec_of(end=ends[-1]))
        await fast.service.housekeeper.clean()
        assert await segments(slow, providers[0]) == [ends[0], FOREVER]
        assert await segments(fast, providers[1]) == [ends[1], FOREVER]
        fast.clock.ahead_us += 2 * HOUR
        await fast.service.housekeeper.clean()
        assert await segments(slow, providers[0]) == [ends[0], FOREVER]
        assert await segments(fast, providers[1]) == [FOREVER]
        await same_after_restart(slow)
        await same_after_restart(fast)
