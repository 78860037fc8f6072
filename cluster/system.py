"""Which system the stores hold, and that a Ray cluster serves no other: its components would end our actors."""

from __future__ import annotations

from ray.experimental import internal_kv

from actors.names import NAMESPACE
from mulligan.errors import FailedPrecondition
from mulligan.ids import new_id
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import Plan, commit, read_many

_MARK = b"mulligan-system"


async def system_id(etcd: EtcdClient) -> str:
    """The UUID of the system that etcd holds, made by whoever asks first; raises Unavailable when etcd is away."""
    made = new_id()
    plan = Plan()
    plan.expect_absent(keys.SYSTEM)
    plan.put(keys.SYSTEM, made)
    if (await commit(etcd, plan)).succeeded:
        return made
    return (await read_many(etcd, [keys.SYSTEM]))[keys.SYSTEM].value.decode()


def take_ray(system: str, address: str) -> None:
    """Marks the Ray cluster that was joined as this system's; raises FailedPrecondition when it is another's."""
    namespace = NAMESPACE.encode()
    internal_kv._internal_kv_put(_MARK, system.encode(), overwrite=False, namespace=namespace)
    found = internal_kv._internal_kv_get(_MARK, namespace=namespace)
    if found != system.encode():
        raise FailedPrecondition(
            f"the Ray cluster at {address} runs another Mulligan; give the etcd, nats and postgres of that one to join "
            "it, or another ray to run beside it"
        )
