"""This host's part of the Ray cluster: a head, or a node that joins one, in the foreground for a supervisor.

Everything that Mulligan needs of Ray is the GCS and a raylet. Ray's dashboard, its agents, the log monitor and the
autoscaler's monitor stay off: together they take more memory than all of Mulligan's services.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from cluster.embedded.server import Command, EmbeddedServer
from cluster.places import Places, read_json
from cluster.processes import ProcessId
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition, Unavailable
from mulligan.files import make_private_directory, write_private
from mulligan.stores.addresses import run_file

LOOPBACK = "127.0.0.1"
CONNECT_DEADLINE_S = 1.0

# Ray's own settings, for every process that has to do with this cluster.
_COMMON = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # SIGTERM is an order here, no failure to print a stack for.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}

# For the GCS and raylets. A dead raylet is seen in about a second, a silent one in 4 to 5.
_SERVERS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    # Hosts that joined go on serving while the head is away; who may write is decided in Postgres.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    # When memory is short, which process has to go is not Ray's to say.
    "RAY_memory_monitor_refresh_ms": "0",
    # Services are no batch jobs: Ray would run them at nice 15.
    "RAY_worker_niceness": "0",
    "RAY_enable_metrics_collection": "false",
    "RAY_event_stats": "false",
    # Idle Python workers that are kept: the next actor starts faster, each costs 40 MB.
    "RAY_num_workers_soft_limit": "1",
}


def node_address(settings: Settings) -> str:
    """The IP address that Ray uses on this host: loopback unless gateways serve other hosts too."""
    if settings.listen in (LOOPBACK, "localhost", "::1") and not settings.ray:
        return LOOPBACK
    for candidate in (settings.advertise, settings.listen):
        try:
            if candidate and not ip_address(candidate).is_unspecified:
                return candidate
        except ValueError:
            return _resolved(candidate)
    return _outward_address()


def ray_address(settings: Settings) -> str:
    """host:port of the GCS. Raises FailedPrecondition when no Ray was set up here."""
    if settings.ray:
        return settings.ray
    found = read_json(run_file(settings.state_dir, "ray"))
    if found is None:
        raise FailedPrecondition(f"no Ray was set up in {settings.state_dir}; run `mulligan bootstrap` there")
    return f"{found['host']}:{found['port']}"


def ray_environment(settings: Settings) -> dict[str, str]:
    """What has to be in the environment before Ray is imported, in drivers as in servers."""
    environment = _COMMON | {"RAY_AUTH_TOKEN_PATH": str(Places(settings.state_dir).ray_token)}
    if LOOPBACK in (node_address(settings), ray_address(settings).rpartition(":")[0]):
        # Else Ray replaces 127.0.0.1 by the host's outward address, where nothing listens.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return environment


def node_process(settings: Settings) -> ProcessId | None:
    """The process of this host's Ray node, while it is up. Whoever joined it cannot go over to the next one."""
    return ProcessId.told(read_json(_status_file(settings)) or {})


def _status_file(settings: Settings) -> Path:
    return settings.state_dir / "run" / "ray-node.json"


class RayHead(EmbeddedServer):
    """The head of this system's Ray cluster, or this host's node of it when `settings.ray` names a head."""

    name: ClassVar[str] = "ray"

    def __init__(self, settings: Settings) -> None:
        """Touches nothing yet."""
        places = Places(settings.state_dir)
        super().__init__(settings.state_dir, settings.state_dir / "tls", places.secrets)
        self._settings = settings
        self._places = places

    def prepare(self) -> None:
        """Makes the token and picks the port; the head's memory (RocksDB) is in the data folder."""
        make_private_directory(self.data_dir)
        ensure_token(self._settings)
        if not self._settings.ray:
            self.remember(port=self.keep_port())

    def remember(self, **values: object) -> None:
        """Writes down the address, with the host that others reach it by."""
        super().remember(**values | {"host": node_address(self._settings)})

    def command(self) -> Command:
        """A small process of ours that runs the GCS and the raylet, and the GCS again when it dies."""
        arguments = [
            sys.executable,
            "-P",
            "-m",
            "cluster.ray_node",
            f"--temp-dir={self._places.short_folder() / 'ray'}",
        ]
        arguments += [f"--address={ray_address(self._settings)}", f"--node-ip={node_address(self._settings)}"]
        arguments += [f"--status={_status_file(self._settings)}", f"--storage={self.data_dir}"]
        if self._settings.ray:
            arguments.append("--join")
        environment = ray_environment(self._settings) | _SERVERS
        environment |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.data_dir)}
        return Command(arguments, environment | {"MULLIGAN_LOG_LEVEL": self._settings.log_level})

    async def probe(self) -> None:
        """The node is up, as its process says, and the GCS takes connections."""
        if node_process(self._settings) is None:
            raise Unavailable("the Ray node is starting")
        host, _, port = ray_address(self._settings).rpartition(":")
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()


def ensure_token(settings: Settings) -> None:
    """Makes the token that guards this Ray cluster unless it is there; raises FailedPrecondition for another's."""
    path = Places(settings.state_dir).ray_token
    if path.exists():
        return
    make_private_directory(path.parent)
    if settings.ray:
        raise FailedPrecondition(
            f"copy the token of the Ray cluster at {settings.ray} to {path}; `ray get-auth-token` on its head shows it"
        )
    write_private(path, secrets.token_hex(32).encode())


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise FailedPrecondition(
            f"the host name {host} cannot be resolved ({error.strerror}); give an address, or a name that resolves, "
            "as advertise or listen"
        ) from None


def _outward_address() -> str:
    """The address that packets leave this host from; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])
