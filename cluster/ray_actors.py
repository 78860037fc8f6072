"""Actors in Ray and their pointers in etcd, as the reconciler needs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.host import host_class
from actors.names import NAMESPACE, ActorName, Pointer
from actors.pointers import move_pointer, read_pointer
from cluster.shards import Making, Target, making
from mulligan.config import Settings
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient

log = logging.getLogger(__name__)

LOOKUP_DEADLINE_S = 5.0
# After __ray_terminate__ or a kill, until the name is free.
GONE_DEADLINE_S = 8.0
GONE_PAUSE_S = 0.05
# An idle async actor needs no share of a CPU, but Ray places actors with none badly.
CPU_SHARE = 0.01
# Requests that an actor may have at once; limits of its own are lower.
MAX_CONCURRENCY = 10_000


# How the actor of a name is made for a target.
Make = Callable[[Target, str, Addresses, Settings], Making]


class RayActors:
    """The actors that this host's components keep."""

    def __init__(self, etcd: EtcdClient, addresses: Addresses, settings: Settings, make: Make = making) -> None:
        """`ray.init` was called."""
        self._make = make
        self._etcd = etcd
        self._addresses = addresses
        self._settings = settings

    async def pointer(self, target: Target) -> Pointer:
        """Which generation serves."""
        return await read_pointer(self._etcd, target.service, target.shard)

    async def move(self, target: Target, expected: Pointer, new: Pointer) -> bool:
        """Points at another; False when somebody else was first."""
        return await move_pointer(self._etcd, target.service, target.shard, expected, new)

    async def find(self, name: ActorName) -> Any | None:
        """The actor of that name, if Ray knows one."""
        try:
            async with asyncio.timeout(LOOKUP_DEADLINE_S):
                return await asyncio.to_thread(ray.get_actor, str(name), namespace=NAMESPACE)
        except ValueError:
            return None

    async def names(self) -> list[str]:
        """Names of all our actors."""
        async with asyncio.timeout(LOOKUP_DEADLINE_S):
            found = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
        return [each["name"] for each in found if each["namespace"] == NAMESPACE]

    async def create(self, target: Target, name: ActorName) -> Any:
        """Makes it, or finds the one of that name."""
        made = self._make(target, str(name), self._addresses, self._settings)
        node = ray.get_runtime_context().get_node_id()
        options: dict[str, Any] = {
            "name": str(name),
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_task_retries": 0,
            "num_cpus": CPU_SHARE,
            "max_concurrency": MAX_CONCURRENCY,
            "enable_task_events": False,
        }
        if target.pinned:
            # By address, not by node id: after its raylet was started anew, the host has another id.
            options["resources"] = {f"node:{ray.util.get_node_ip_address()}": 0.001}  # type: ignore[no-untyped-call]
        else:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        kind = host_class(made.kind)
        return await asyncio.to_thread(lambda: ray.remote(kind).options(**options).remote(made.kind, *made.arguments))

    async def ask(self, handle: Any, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Calls a method; raises TimeoutError or RayError when it does not answer."""
        async with asyncio.timeout(timeout_s):
            return await getattr(handle, method).remote(*arguments)

    async def end(self, name: ActorName, handle: Any, *, drain_s: float) -> None:
        """Drains and terminates it; one that does not take part is killed. Raises TimeoutError when it is not gone."""
        try:
            if drain_s:
                await self.ask(handle, "drain", drain_s, timeout_s=drain_s + 2.0)
                with contextlib.suppress(RayActorError):  # the answer of an actor that ends
                    await self.ask(handle, "__ray_terminate__", timeout_s=GONE_DEADLINE_S)
        except (RayError, TimeoutError) as error:
            log.info("actor=%s did not drain in order: %s", name, type(error).__name__)
        try:
            await self._wait_gone(name, GONE_DEADLINE_S if drain_s else 0.0)
        except TimeoutError:
            await asyncio.to_thread(ray.kill, handle)
            await self._wait_gone(name, GONE_DEADLINE_S)
        log.info("actor=%s ended", name)

    async def _wait_gone(self, name: ActorName, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.find(name) is not None:  # noqa: ASYNC110 -- the GCS tells nobody when a name is free
                await asyncio.sleep(GONE_PAUSE_S)
