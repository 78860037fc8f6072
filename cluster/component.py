"""A component: a small Ray driver that keeps the actors of one service going, and drains them when it is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import ray
from ray.exceptions import RayError

from actors.names import NAMESPACE, ActorName
from cluster.component_state import ComponentState, report
from cluster.host import with_addresses
from cluster.places import Places
from cluster.processes import ProcessId
from cluster.ray_actors import RayActors
from cluster.ray_head import node_address, node_process, ray_address
from cluster.reconcile import Reconciler
from cluster.shards import SERVICES_OF_COMPONENT, desired_targets, is_gateway, leftover
from cluster.system import system_id, take_ray
from mulligan import __version__
from mulligan.config import Settings
from mulligan.errors import MulliganError, Unavailable
from mulligan.stores import etcd as etcd_store
from mulligan.stores import keys
from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

T = TypeVar("T")

# A region that comes or goes wakes the loop early.
REPORT_PAUSE_S = 0.5
RETRY_PAUSE_S = 1.0
# Both together stay within the 30 s that SIGTERM allows.
GATEWAY_DRAIN_S = 10.0
SHARD_DRAIN_S = 15.0
# Between two looks for generations that nobody points at.
SWEEP_PAUSE_S = 10.0
CONNECT_DEADLINE_S = 2.0


class Component:
    """The actors of one component on this host."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Touches nothing yet."""
        self._name = name
        self._settings = settings
        self._places = Places(settings.state_dir)
        self._host = self._places.host_id()
        self._reconcilers: dict[str, Reconciler] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._joined = asyncio.Event()
        # This host's Ray node when it was joined; unknown when somebody else runs it.
        self._node: ProcessId | None = None

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then drains this host's actors. Ends the process at once when its Ray node ends."""
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        report(self._places, self._name, ComponentState({}, ready=False))
        working = asyncio.create_task(self._work(), name="work")
        waiting = asyncio.create_task(stopping.wait(), name="stop signal")
        losing = asyncio.create_task(self._node_lost(), name="Ray node")
        await asyncio.wait((working, waiting, losing), return_when=asyncio.FIRST_COMPLETED)
        if losing.done():
            # Ray would never tell this process where the actors are that it makes anew on the next node.
            log.error("the Ray node of this host ended; this component begins anew")
            os._exit(1)
        losing.cancel()
        if stopping.is_set() and not self._joined.is_set():
            # Nothing to drain yet, and Ray's own wait for its head cannot be cut short.
            os._exit(0)
        working.cancel()
        waiting.cancel()
        await asyncio.wait((working, waiting))
        if not working.cancelled() and (error := working.exception()):
            raise error

    async def _work(self) -> None:
        """Connects, reconciles for ever, and drains when cancelled."""
        addresses = Addresses.load(self._settings)
        etcd = await _patiently(lambda: etcd_store.connect(addresses))
        system = await _patiently(lambda: system_id(etcd))
        await _patiently(self._reach_ray)
        await asyncio.to_thread(self._join, system)
        self._joined.set()
        actors = RayActors(etcd, addresses, with_addresses(self._settings))
        regions = etcd_store.WatchedPrefix(etcd, keys.META_REGIONS)
        await _patiently(regions.start)
        try:
            await self._keep_actors(actors, regions)
        except asyncio.CancelledError:
            await self._drain()
            raise
        finally:
            await regions.close()
            await etcd.close()

    async def _node_lost(self) -> None:
        await self._joined.wait()
        if self._node is None:
            await asyncio.Event().wait()
        else:
            await self._node.wait()

    async def _reach_ray(self) -> None:
        self._node = node_process(self._settings)
        if self._node is None and not self._settings.ray:
            raise Unavailable("the Ray node of this host is not up yet")
        host, _, port = ray_address(self._settings).rpartition(":")
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()

    def _join(self, system: str) -> None:
        ray.init(
            address=ray_address(self._settings),
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
            _node_ip_address=node_address(self._settings),
        )
        take_ray(system, ray_address(self._settings))

    async def _keep_actors(self, actors: RayActors, regions: etcd_store.WatchedPrefix) -> None:
        """Keeps an eye on each actor on its own: what one takes its time for does not hold the others up."""
        seen, swept = -1, 0.0
        while True:
            if seen != regions.revision:
                seen = regions.revision
                await self._follow(actors, regions.items)
            report(self._places, self._name, self._state())
            if self._ready() and time.monotonic() - swept > SWEEP_PAUSE_S:
                swept = time.monotonic()
                try:
                    await self._end_superseded(actors)
                except (TimeoutError, RayError, MulliganError) as error:
                    log.warning("could not look for what is left over: %s: %s", type(error).__name__, error)
            await regions.wait_changed(seen, REPORT_PAUSE_S)

    async def _follow(self, actors: RayActors, regions: Mapping[str, bytes]) -> None:
        """Begins to keep what the regions ask for now, and lets go of what they do not ask for any more."""
        targets = desired_targets(self._name, regions, self._host, self._settings.executors)
        wanted = {target.path: target for target in targets}
        for path, target in wanted.items():
            if path not in self._reconcilers:
                drain_s = GATEWAY_DRAIN_S if is_gateway(target.service) else SHARD_DRAIN_S
                reconciler = Reconciler(target, actors, __version__, self._host, drain_s)
                self._reconcilers[path] = reconciler
                self._keeping[path] = asyncio.create_task(reconciler.keep(), name=path)
        unwanted = [self._reconcilers.pop(path) for path in set(self._reconcilers) - set(wanted)]
        await self._end(unwanted)

    async def _end_superseded(self, actors: RayActors) -> None:
        """Ends generations that a component made or left behind before it was killed."""
        services = SERVICES_OF_COMPONENT[self._name]
        names = await actors.names()
        targets = [reconciler.target for reconciler in self._reconcilers.values()]
        unwanted = set(leftover(names, targets, services, self._host))
        for text in names:
            name = ActorName.parse(text)
            if name is None or name.service not in services:
                continue
            reconciler = self._reconcilers.get(f"{name.service}/{name.shard}")
            if reconciler is None and text not in unwanted:
                continue
            pointer = await actors.pointer(reconciler.target) if reconciler else None
            if pointer is None or name.generation < pointer.generation:
                handle = await actors.find(name)
                if handle is not None:
                    await actors.end(name, handle, drain_s=SHARD_DRAIN_S)

    def _ready(self) -> bool:
        return bool(self._reconcilers) and all(each.serving for each in self._reconcilers.values())

    def _state(self) -> ComponentState:
        return ComponentState({path: each.told for path, each in self._reconcilers.items()}, self._ready())

    async def _drain(self) -> None:
        """Gateways first: they stop accepting while their shards can still answer."""
        log.info("draining")
        gateways = [each for each in self._reconcilers.values() if is_gateway(each.target.service)]
        shards = [each for each in self._reconcilers.values() if not is_gateway(each.target.service)]
        for group in (gateways, shards):
            await self._end(group)
        log.info("drained")

    async def _end(self, reconcilers: Sequence[Reconciler]) -> None:
        keeping = [self._keeping.pop(each.target.path) for each in reconcilers]
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for result in await asyncio.gather(*(each.drain() for each in reconcilers), return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("an actor did not drain: %s: %s", type(result).__name__, result)


async def _patiently(connect: Callable[[], Awaitable[T]]) -> T:
    """Tries until it works: a store that is away comes back, and the supervisor says that it is away."""
    while True:
        try:
            return await connect()
        except (MulliganError, OSError) as error:
            log.warning("waiting: %s", error)
            await asyncio.sleep(RETRY_PAUSE_S)


def run_component(name: str, settings: Settings) -> None:
    """Runs a component in the foreground until it is told to stop. Ray's environment is set already."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    log.info("component=%s version=%s pid=%d", name, __version__, os.getpid())
    asyncio.run(Component(name, settings).run())
    # Ray would take a second or two to say good-bye; the actors that stay are detached and need none.
    logging.shutdown()
    os._exit(0)
