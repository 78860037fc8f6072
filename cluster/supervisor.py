"""Runs everything that a host runs, and starts it again when it ends: stores, the Ray node, the five components.

Servers that the operator brought himself (an address in the settings) are left to him.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
import time

from cluster.child import Child, ChildSpec
from cluster.component_state import component_ready
from cluster.embedded.etcd import EmbeddedEtcd
from cluster.embedded.nats import EmbeddedNats
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.server import Command, EmbeddedServer
from cluster.flags import parse_flags
from cluster.host import prepare_host, tls_dir
from cluster.places import Places, write_json
from cluster.processes import MARK, ProcessId
from cluster.ray_head import RayHead, ray_environment
from mulligan.config import Settings, load_settings
from mulligan.errors import FailedPrecondition, MulliganError

log = logging.getLogger(__name__)

COMPONENTS = ("iam", "meta", "resource", "control", "executor")
# A component drains its actors within 30 s.
COMPONENT_STOP_S = 40.0

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class Supervisor:
    """The children of one state directory."""

    def __init__(self, settings: Settings) -> None:
        """Touches nothing yet."""
        self._settings = settings
        self._places = Places(settings.state_dir)
        system = str(settings.state_dir)
        # Nothing of the caller's own Ray or Python set-up may reach ours.
        unwanted = ("RAY_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        environment |= {MARK: system, "MULLIGAN_STATE_DIR": system, "PYTHONUNBUFFERED": "1"}

        def child(spec: ChildSpec) -> Child:
            return Child(spec, self._places, environment, system)

        self.servers = [child(spec) for spec in server_specs(settings)]
        self.components = [child(component_spec(settings, name)) for name in COMPONENTS]

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then stops everything. Raises FailedPrecondition when another supervisor runs."""
        await prepare_host(self._settings)
        self._lock()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        log.info("supervising %s pid=%d", self._settings.state_dir, os.getpid())
        self.start()
        self._announce(stopping=False)
        await stopping.wait()
        log.info("stopping everything")
        self._announce(stopping=True)
        await self.stop()
        self._places.supervisor.unlink(missing_ok=True)
        log.info("everything is stopped")

    def start(self) -> None:
        """Servers at once, all at the same time; components when the servers serve."""
        for server in self.servers:
            server.keep_running(_at_once)
        for component in self.components:
            component.keep_running(self._servers_ready)

    async def stop(self) -> None:
        """Components first, so that they can drain; then servers, in the reverse order of their list."""
        await asyncio.gather(*(component.stop() for component in self.components))
        for server in reversed(self.servers):
            await server.stop()

    async def _servers_ready(self) -> None:
        for server in self.servers:
            await server.ready.wait()

    def _lock(self) -> None:
        """Kept until this process ends, however it ends."""
        descriptor = os.open(self._places.supervisor_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(
                f"another supervisor runs for {self._settings.state_dir}; `mulligan down` stops it"
            ) from None

    def _announce(self, *, stopping: bool) -> None:
        write_json(self._places.supervisor, {**ProcessId.own().tell(), "since": time.time(), "stopping": stopping})


async def _at_once() -> None:
    """Nothing to wait for."""


def server_specs(settings: Settings) -> list[ChildSpec]:
    """The servers that this host runs, in the order of their need; Ray last."""
    places, tls = Places(settings.state_dir), tls_dir(settings)
    own: list[tuple[str, type[EmbeddedServer]]] = [
        (settings.etcd, EmbeddedEtcd),
        (settings.postgres, EmbeddedPostgres),
        (settings.nats, EmbeddedNats),
    ]
    servers: list[EmbeddedServer] = [kind(settings.state_dir, tls, places.secrets) for given, kind in own if not given]
    servers.append(RayHead(settings))
    for server in servers:
        server.outlives_parent = True
    return [
        ChildSpec(server.name, server.prepare, server.command, server.ready, server.stop_signal) for server in servers
    ]


def component_spec(settings: Settings, name: str) -> ChildSpec:
    """A component, as its console script runs it."""
    arguments = [sys.executable, "-P", "-m", "cluster.components", name]

    async def ready() -> bool:
        return component_ready(Places(settings.state_dir), name)

    return ChildSpec(
        name,
        prepare=lambda: None,
        command=lambda: Command(arguments, ray_environment(settings)),
        ready=ready,
        stop_deadline_s=COMPONENT_STOP_S,
    )


def main() -> None:
    """`python -m cluster.supervisor`: as `mulligan supervise`, without the rest of the command line."""
    try:
        settings = load_settings(parse_flags("mulligan supervise", sys.argv[1:]))
        logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
        asyncio.run(Supervisor(settings).run())
    except MulliganError as error:
        print(error.message, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
