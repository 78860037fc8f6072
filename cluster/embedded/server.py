"""What the embedded servers have in common: a remembered port, a foreground command, a readiness probe."""

from __future__ import annotations

import asyncio
import fcntl
import json
import secrets
import signal
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cluster.ports import free_port, is_free
from mulligan.errors import Unavailable
from mulligan.files import make_private_directory, write_private
from mulligan.stores.addresses import run_file

HOST = "127.0.0.1"
PROBE_DEADLINE_S = 2.0
PROBE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Command:
    """What a supervisor runs in the foreground."""

    arguments: list[str]
    # Added to the supervisor's own environment.
    environment: dict[str, str] = field(default_factory=dict)


class EmbeddedServer(ABC):
    """A server that Mulligan runs for itself, within this host only, behind credentials from the start.

    Order: `prepare()` (changes nothing for one that runs), then `command()` under a supervisor, `ready()` until true.
    """

    name: ClassVar[str]
    # Asks for a clean stop within seconds.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    # A supervisor that comes back finds it running, so it need not end with the one that started it.
    outlives_parent: bool = False

    def __init__(self, state_dir: Path, tls_dir: Path, secrets_dir: Path) -> None:
        """Touches nothing yet. `tls_dir` holds ca.crt, server.crt and server.key."""
        self.state_dir = state_dir
        self.tls_dir = tls_dir
        self.secrets_dir = secrets_dir
        self.data_dir = state_dir / self.name

    @abstractmethod
    def prepare(self) -> None:
        """Makes data folder, credentials and configuration, and picks the port. Idempotent."""

    @abstractmethod
    def command(self) -> Command:
        """Runs the server in the foreground, locking its data. It dies with its parent unless `outlives_parent`."""

    @abstractmethod
    async def probe(self) -> None:
        """Returns when the server serves; raises OSError or Unavailable when it does not."""

    async def ready(self) -> bool:
        """Whether it serves now; answers within two seconds."""
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                await self.probe()
        except (OSError, Unavailable):
            return False
        return True

    @property
    def address(self) -> str:
        """host:port (for a Unix socket its folder and number), known after `prepare`."""
        remembered = self.remembered()
        return f"{remembered['host']}:{remembered['port']}"

    def remembered(self) -> dict[str, Any]:
        """What the last `prepare` wrote down."""
        path = run_file(self.state_dir, self.name)
        return json.loads(path.read_text()) if path.exists() else {}

    def remember(self, **values: Any) -> None:
        """Writes down the address and whatever else clients need, no secrets."""
        path = run_file(self.state_dir, self.name)
        make_private_directory(path.parent)
        write_private(path, json.dumps({"host": HOST} | values, indent=2).encode())

    def keep_port(self, key: str = "port") -> int:
        """The remembered port if it is free or our server has it, else another one."""
        port = self.remembered().get(key)
        return port if port and (is_free(port) or self.runs()) else free_port()

    def runs(self) -> bool:
        """Whether a server process holds the data, ready or not."""
        if not self.lock_file.exists():
            return False
        with self.lock_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def lock_file(self) -> Path:
        """Locked by the server for as long as it lives."""
        return run_file(self.state_dir, self.name).with_suffix(".lock")

    def password(self, file_name: str) -> str:
        """The password in that file of the secrets folder, made when it is missing."""
        path = make_private_directory(self.secrets_dir) / file_name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32).encode())
        return path.read_text().strip()

    def launched(self, arguments: list[str], user: str = "", stale: str = "") -> Command:
        """The command wrapped so that it locks its data, drops to `user` and, as a rule, dies with its parent.

        `stale` is a pid file that a killed predecessor leaves.
        """
        launcher = [sys.executable, "-m", "cluster.embedded.launch"]
        death_signal = 0 if self.outlives_parent else self.stop_signal.value
        options = [f"--lock={self.lock_file}", f"--signal={death_signal}", f"--user={user}", f"--stale={stale}"]
        return Command([*launcher, *options, "--", *arguments], {"PYTHONUNBUFFERED": "1"})


async def wait_ready(server: EmbeddedServer, deadline_s: float = 30.0) -> None:
    """Waits until the server serves; raises Unavailable after the deadline."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await server.ready():  # noqa: ASYNC110 -- another process becomes ready, it sets no event here
                await asyncio.sleep(PROBE_PAUSE_S)
    except TimeoutError:
        raise Unavailable(
            f"embedded {server.name} did not become ready within {deadline_s:g} s; its log says why",
            reason="STORE_UNAVAILABLE",
        ) from None
