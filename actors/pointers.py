"""The generation pointer in etcd: which generation of an actor serves a shard."""

from __future__ import annotations

from actors.names import Pointer
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import Plan, commit, read_many


async def read_pointer(etcd: EtcdClient, service: str, shard: str) -> Pointer:
    """The pointer now; generation 0 when there is none. Raises Unavailable when etcd does not answer."""
    return (await _read(etcd, keys.actor_generation(service, shard)))[0]


async def move_pointer(etcd: EtcdClient, service: str, shard: str, expected: Pointer, new: Pointer) -> bool:
    """Points at `new` if it still points at `expected`; False when somebody else was first."""
    key = keys.actor_generation(service, shard)
    # By its revision: another version may have written the same pointer otherwise.
    current, revision = await _read(etcd, key)
    if current != expected:
        return False
    plan = Plan()
    plan.expect_unchanged(key, revision)
    plan.put(key, new.encode())
    return (await commit(etcd, plan)).succeeded


async def _read(etcd: EtcdClient, key: str) -> tuple[Pointer, int]:
    stored = (await read_many(etcd, [key])).get(key)
    return (Pointer.decode(stored.value), stored.revision) if stored else (Pointer(), 0)
