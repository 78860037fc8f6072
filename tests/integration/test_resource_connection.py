"""The writer of a shard whose connection to Postgres is lost while nothing is written."""

from __future__ import annotations

from mulligan.resource.writer import Writer
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.resource_parts import SMALL, running_shard, spec_of
from tests.waiting import eventually

END_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_a_connection_lost_between_claims_is_replaced(fresh_addresses: Addresses, etcd: EtcdClient) -> None:
    async with running_shard(fresh_addresses, etcd) as shard:
        await shard.provider()
        await shard.claim(spec_of(SMALL))
        memory = shard.service.core.memory
        assert await shard.pool.fetchval(END_ALL) > 0
        await eventually(lambda: _has_noticed(memory.writer))
        await shard.claim(spec_of(SMALL))
        assert shard.service.core.memory is memory, "the whole shard was read anew"


def _has_noticed(writer: Writer) -> bool:
    return writer._connection is not None and writer._connection._con is None
