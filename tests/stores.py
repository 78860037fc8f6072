"""Real etcd, NATS and Postgres for tests, as child processes that die with the test run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cluster.embedded.etcd import EmbeddedEtcd
from cluster.embedded.nats import EmbeddedNats
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.server import EmbeddedServer, wait_ready
from mulligan.config import Settings
from mulligan.pki import ensure_ca, ensure_server_certificate
from mulligan.secretbox import ensure_master_key
from mulligan.stores.addresses import Addresses

STOP_DEADLINE_S = 15.0
HOSTS = ("127.0.0.1", "::1", "localhost")


class RunningServer:
    """An embedded server that a test may kill and start again."""

    def __init__(self, server: EmbeddedServer, log_dir: Path) -> None:
        """Nothing runs yet."""
        self.server = server
        self._log = log_dir / f"{server.name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def prepare_and_start(self) -> None:
        """Sets it up and waits until it serves."""
        await asyncio.to_thread(self.server.prepare)
        await self.start()

    async def start(self) -> None:
        """Runs it and waits until it serves."""
        command = self.server.command()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command.arguments, env={**os.environ, **command.environment}, stdout=log, stderr=log
            )
        await wait_ready(self.server)

    async def prepare_and_start_elsewhere(self) -> None:
        """Runs it on ports that its clients do not know."""
        remembered = {key: value for key, value in self.server.remembered().items() if not key.endswith("port")}
        self.server.remember(**remembered)
        await self.prepare_and_start()

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Asks it to stop; kills it after a deadline."""
        try:
            await asyncio.wait_for(self._end(self.server.stop_signal), STOP_DEADLINE_S)
        except TimeoutError:
            await self.kill()

    @property
    def return_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.returncode if self._process else None

    async def _end(self, signal_number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal_number)
            await self._process.wait()


def make_keys(state_dir: Path) -> None:
    """CA, certificates and master key, as bootstrap makes them."""
    ensure_ca(state_dir / "tls")
    ensure_server_certificate(state_dir / "tls", HOSTS)
    ensure_master_key(state_dir / "secrets" / "master.key")


def embedded(kind: type[EmbeddedServer], state_dir: Path) -> EmbeddedServer:
    """A server with its state in that folder."""
    return kind(state_dir, state_dir / "tls", state_dir / "secrets")


@asynccontextmanager
async def running(kind: type[EmbeddedServer], state_dir: Path) -> AsyncIterator[RunningServer]:
    """One server of its own, for a test that kills it."""
    make_keys(state_dir)
    server = RunningServer(embedded(kind, state_dir), state_dir)
    await server.prepare_and_start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def running_stores(state_dir: Path) -> AsyncIterator[Addresses]:
    """All three, started at the same time."""
    make_keys(state_dir)
    kinds: list[type[EmbeddedServer]] = [EmbeddedEtcd, EmbeddedNats, EmbeddedPostgres]
    servers = [RunningServer(embedded(kind, state_dir), state_dir) for kind in kinds]
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.stop)
        await asyncio.gather(*(server.prepare_and_start() for server in servers))
        yield Addresses.load(Settings(state_dir=state_dir))
