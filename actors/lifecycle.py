"""The life that every actor has: prepare, start, serve, drain.

An actor serves only while the generation pointer in etcd names it. Created ahead of a switch it prepares and waits;
restarted by Ray it starts itself; once a later generation is named it leaves for good.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from actors.health import ComponentHealth, loop_lag_ms, probe
from actors.logs import configure_logging
from actors.names import ActorName
from actors.pointers import read_pointer
from mulligan import __version__
from mulligan.errors import MulliganError, Unavailable
from mulligan.ids import new_id
from mulligan.stores import etcd as etcd_store

if TYPE_CHECKING:
    from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

CATALOGUE_DEADLINE_S = 5.0
# A first failure is retried at once or nearly; a store that stays away is asked every two seconds.
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 2.0
# Seconds that an actor which lost its shard gives to the answers that are on their way.
STEP_DOWN_S = 2.0


class State(StrEnum):
    """Where in its life an actor is."""

    NEW = "starting"
    PREPARED = "prepared"
    SERVING = "serving"
    DRAINING = "draining"


class ActorBase:
    """start, health and drain; a subclass says what opening and closing mean for it."""

    # The component's kind in the status report.
    kind: ClassVar[str] = "service"

    def __init__(self, addresses: Addresses, name: str) -> None:
        """`name` is `<service>/<shard>#<generation>`. Inside Ray the actor starts itself."""
        parsed = ActorName.parse(name)
        if parsed is None:
            raise ValueError(f"{name!r} is not <service>/<shard>#<generation>")
        self.addresses = addresses
        self.name = parsed
        # Tells this process's life from an earlier or later one under the same name.
        self.incarnation = new_id()
        self.state = State.NEW
        self.in_flight = 0
        self.leaving = asyncio.Event()
        self._etcd: etcd_store.EtcdClient | None = None
        self._lock = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._background: dict[str, asyncio.Task[None]] = {}
        self._announcements: dict[etcd_store.Announcement, bytes] = {}
        configure_logging(addresses.state_dir, parsed)
        self.keep_running("start", self._keep_starting)

    # What a subclass fills in.

    async def prepare_to_open(self) -> None:
        """Work that may be done while another generation serves: connections, migrations, imports."""

    async def open(self) -> None:
        """Takes what it owns, rebuilds its memory and begins to serve; ends by announcing itself."""
        raise TypeError(f"{type(self).__name__} has no open()")

    async def close(self, deadline_s: float) -> None:
        """Ends what open() began, after the last request in flight was answered."""

    async def dependencies(self) -> list[ComponentHealth]:
        """Health of what it uses beside etcd."""
        return []

    def detail(self) -> str:
        """A figure worth showing in the status report while it is healthy."""
        return f"{self.in_flight} in flight"

    # What every actor has.

    @property
    def etcd(self) -> etcd_store.EtcdClient:
        """The connection to etcd; there from prepare() on."""
        if self._etcd is None:
            raise Unavailable(f"{self.name} is not connected to etcd yet; try again")
        return self._etcd

    async def prepare(self) -> str:
        """Does all that may be done beside another generation; idempotent. Returns the state."""
        async with self._lock:
            if self.state is State.NEW:
                if self._etcd is None:
                    self._etcd = await etcd_store.connect(self.addresses)
                await self.prepare_to_open()
                self.state = State.PREPARED
            return self.state

    async def start(self) -> str:
        """Serves if the pointer names this generation; idempotent. Returns the state."""
        await self.prepare()
        async with self._lock:
            if self.state is State.PREPARED:
                pointer = await read_pointer(self.etcd, self.name.service, self.name.shard)
                if pointer.generation > self.name.generation:
                    log.info("generation %d serves now: leaving", pointer.generation)
                    self._leave_for_good()
                elif pointer.generation == self.name.generation:
                    await self.open()
                    self._serve()
            return self.state

    async def ping(self) -> tuple[str, str]:
        """The state and the version, at once."""
        return self.state.value, __version__

    async def health(self) -> list[ComponentHealth]:
        """Itself first, then the dependencies it uses; answers within some seconds whatever state they are in."""
        lag = await loop_lag_ms()
        serving = self.state is State.SERVING
        detail = self.detail() if serving else self.state.value
        own = ComponentHealth(self.kind, str(self.name), serving, detail, lag, version=__version__)
        if self._etcd is None:
            return [own, ComponentHealth("dependency", "etcd", False, "not connected yet")]
        kv = self._etcd.kv
        etcd = probe("etcd", lambda: kv.get("mulligan"), ",".join(self.addresses.etcd))
        answers = await asyncio.gather(etcd, self.dependencies())
        return [own, answers[0], *answers[1]]

    async def drain(self, deadline_s: float) -> None:
        """Leaves the catalogue, refuses new requests, waits for those in flight, closes; idempotent."""
        if self.state is State.DRAINING:
            return
        log.info("draining")
        self.state = State.DRAINING
        await self._withdraw()
        self.leaving.set()
        try:
            async with asyncio.timeout(deadline_s), self._lock:
                await self._withdraw()
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d requests were still in flight after %g s", self.in_flight, deadline_s)
        for task in self._background.values():
            task.cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)
        await self.close(deadline_s)
        if self._etcd is not None:
            await self._etcd.close()
        log.info("drained")

    def enter(self, requests: int) -> None:
        """Counts requests as in flight."""
        self.in_flight += requests
        self._idle.clear()

    def leave(self, requests: int) -> None:
        """Counts them as answered."""
        self.in_flight -= requests
        if not self.in_flight:
            self._idle.set()

    async def announce(self, key: str, **fields: str) -> None:
        """Serves, and puts the actor in the catalogue for as long as it lives and is not draining."""
        encoded = json.dumps(
            {"actor": str(self.name), "version": __version__, "incarnation": self.incarnation, **fields}
        )
        announcement = etcd_store.Announcement(self.etcd, key, encoded.encode())
        # Whoever follows the catalogue calls at once.
        self._serve()
        try:
            await announcement.start()
        except BaseException:
            if self.state is State.SERVING:
                self.state = State.PREPARED
            raise
        self._announcements[announcement] = encoded.encode()

    async def announce_again(self) -> None:
        """Puts back what another actor of the same name or shard has overwritten."""
        for announcement, value in self._announcements.items():
            await announcement.update(value)

    def keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` until it returns or the actor drains; a failure is logged and it begins again.

        Work that meets a lost fence makes the actor step down.
        """
        if name not in self._background or self._background[name].done():
            self._background[name] = asyncio.get_running_loop().create_task(self._supervise(name, work), name=name)

    def step_down(self) -> None:
        """Ends this process after the answers on their way; Ray makes it anew, and it finds out who serves."""
        if self.state is not State.DRAINING:
            log.warning("another actor owns the shard now: stepping down")
            self.state = State.DRAINING
            self._background["step down"] = asyncio.get_running_loop().create_task(self._step_down())

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                return await work()
            except MulliganError as error:
                if error.reason == "FENCED":
                    return self.step_down()
                log.warning("%s failed and begins again in %g s: %s", name, delay_s, error)
            except Exception:
                log.exception("%s failed and begins again in %g s", name, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MOST_S)

    async def _keep_starting(self) -> None:
        while self.state in (State.NEW, State.PREPARED):
            await self.start()
            if self.state is State.PREPARED:
                await asyncio.sleep(RETRY_MOST_S)

    def _serve(self) -> None:
        if self.state is State.PREPARED:  # it may have been told to drain meanwhile
            self.state = State.SERVING
            log.info("serving version=%s pid=%d", __version__, os.getpid())

    async def _withdraw(self) -> None:
        for announcement in self._announcements:
            try:
                async with asyncio.timeout(CATALOGUE_DEADLINE_S):
                    await announcement.withdraw()
            except Exception as error:
                log.warning("could not leave the catalogue, its lease ends by itself: %s", error)
        self._announcements.clear()

    async def _step_down(self) -> None:
        await self._withdraw()
        self.leaving.set()
        try:
            async with asyncio.timeout(STEP_DOWN_S):
                await self._idle.wait()
                await asyncio.sleep(0.1)  # the last answers are still in Ray's hands
        except TimeoutError:
            pass
        os._exit(1)

    def _leave_for_good(self) -> None:
        import ray

        self.state = State.DRAINING
        asyncio.get_running_loop().call_soon(ray.actor.exit_actor)
