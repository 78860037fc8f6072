"""The generation pointer in etcd: which generation of an actor serves a shard."""

from __future__ import annotations

from actors.names import Pointer
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import Plan, commit


async def read_pointer(etcd: EtcdClient, service: str, shard: str) -> Pointer:
    """The pointer now; generation 0 when there is none. Raises Unavailable when etcd does not answer."""
    response = await etcd.kv.get(keys.actor_generation(service, shard))
    return Pointer.decode(response.kvs[0].value if response.kvs else None)


async def move_pointer(etcd: EtcdClient, service: str, shard: str, expected: Pointer, new: Pointer) -> bool:
    """Points at `new` if it still points at `expected`; False when somebody else was first."""
    key = keys.actor_generation(service, shard)
    plan = Plan()
    if expected.generation:
        plan.expect_value(key, expected.encode())
    else:
        plan.expect_absent(key)
    plan.put(key, new.encode())
    return (await commit(etcd, plan)).succeeded
