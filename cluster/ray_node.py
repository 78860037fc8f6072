"""Runs one Ray node in the foreground: GCS and raylet of a head, or the raylet of a node that joins.

`python -m cluster.ray_node --address=HOST:PORT --node-ip=IP --temp-dir=DIR --status=FILE --storage=DIR [--join]`

The environment is as `cluster.ray_head` gives it. This reaches into private parts of Ray, which is pinned to one
minor version: Ray's own command can neither leave its agents out nor keep the raylet when the GCS dies.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ray._raylet
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.core.generated import gcs_pb2

from cluster import stand_in
from cluster.places import write_json
from cluster.processes import ProcessId

log = logging.getLogger("ray_node")

OBJECT_STORE_BYTES = 80_000_000
CHECK_PAUSE_S = 0.1
FOREIGN_CHECK_PAUSE_S = 2.0
GCS_DEADLINE_S = 10.0
OLD_LOG_AGE_S = 7 * 24 * 3600
# Starts that may fail before the head's memory is put aside: all that it holds can be made again.
FAILURES_BEFORE_FRESH = 3
# How a port file says that a service is not in use.
NOT_IN_USE = -1
# The compiled part of Ray has no types.
_native: Any = ray._raylet
_gcs: Any = gcs_pb2
_AGENT_PORTS = (
    _native.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    _native.METRICS_AGENT_PORT_NAME,
    _native.METRICS_EXPORT_PORT_NAME,
    _native.RUNTIME_ENV_AGENT_PORT_NAME,
)
_REPLACED = ("--dashboard_agent_command=", "--runtime_env_agent_command=")


class LeanNode(Node):
    """A Ray node without dashboard and agents, whose GCS can be started again under its raylet."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """None is started."""

    def start_raylet(self, *args: Any, **kwargs: Any) -> None:
        """Says that the agents' ports are not in use before the raylet waits for them."""
        for name in _AGENT_PORTS:
            _native.persist_port(self._session_dir, self._node_id, name, NOT_IN_USE)
        super().start_raylet(*args, **kwargs)

    def restart_gcs(self) -> None:
        """Starts the GCS again on its port; the raylet and its actors live on and come back to it."""
        self.all_processes.pop(ray_constants.PROCESS_TYPE_GCS_SERVER)
        self._gcs_address, self._gcs_client = None, None
        self.start_gcs_server()  # type: ignore[no-untyped-call]
        self.get_gcs_client()  # type: ignore[no-untyped-call]


def main() -> None:
    """Runs until SIGTERM (exit 0) or until the raylet ends (exit 1)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options = _parse()
    leave_agents_out()
    _clean(Path(options.temp_dir))
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if options.join and _joined_already(options):
        log.info("another node of %s runs on %s and is used", options.address, options.node_ip)
        _tell(options)
        while _joined_already(options) and not stopping.wait(FOREIGN_CHECK_PAUSE_S):
            pass
        sys.exit(0)
    node = _start_or_give_up(options)
    _tell(options)
    log.info("node=%s of %s is up", node.unique_id, options.address)
    code = _watch(node, stopping)
    Path(options.status).unlink(missing_ok=True)
    node.kill_all_processes(check_alive=False, allow_graceful=True)
    sys.exit(code)


def _tell(options: argparse.Namespace) -> None:
    write_json(Path(options.status), ProcessId.own().tell())


def _joined_already(options: argparse.Namespace) -> bool:
    """Whether this host is part of the cluster by somebody else's doing, such as `ray up`."""
    client = _native.GcsClient(address=options.address)
    nodes = client.get_all_node_info(timeout=GCS_DEADLINE_S).values()
    return any(each.state == _gcs.GcsNodeInfo.ALIVE and each.node_manager_address == options.node_ip for each in nodes)


def leave_agents_out() -> None:
    """Makes Ray start raylets with stand-ins for their agents, and one worker ahead of need."""
    start: Callable[..., Any] = services.start_ray_process

    def start_lean(command: list[str], *args: Any, **kwargs: Any) -> Any:
        return start([_lean(argument) for argument in command], *args, **kwargs)

    services.start_ray_process = start_lean


def _lean(argument: str) -> str:
    for option in _REPLACED:
        if argument.startswith(option):
            return f"{option}{sys.executable} -I -S {stand_in.__file__}"
    return "--num_prestart_python_workers=1" if argument.startswith("--num_prestart_python_workers=") else argument


def _watch(node: LeanNode, stopping: threading.Event) -> int:
    while not stopping.wait(CHECK_PAUSE_S):
        for kind, process in node.dead_processes():  # type: ignore[no-untyped-call]
            log.warning("%s ended with %s", kind, process.returncode)
            if kind != ray_constants.PROCESS_TYPE_GCS_SERVER:
                return 1
            node.restart_gcs()
            log.info("the GCS runs again")
    log.info("stopping")
    return 0


def _start_or_give_up(options: argparse.Namespace) -> LeanNode:
    failures = Path(options.status).with_suffix(".failures")
    try:
        node = _start(options)
    except Exception:
        log.exception("the node did not start")
        count = len(failures.read_text()) if failures.exists() else 0
        failures.write_text("x" * (count + 1))
        storage = Path(options.storage)
        if count + 1 >= FAILURES_BEFORE_FRESH and storage.is_dir() and not options.join:
            aside = storage.with_name(f"{storage.name}.broken")
            shutil.rmtree(aside, ignore_errors=True)
            storage.rename(aside)
            failures.unlink()
            log.warning("after %d failures the head begins with an empty memory; the old one is %s", count + 1, aside)
        sys.exit(1)
    failures.unlink(missing_ok=True)
    return node


def _start(options: argparse.Namespace) -> LeanNode:
    host, _, port = options.address.rpartition(":")
    given: dict[str, Any] = {
        "node_ip_address": options.node_ip,
        "object_store_memory": OBJECT_STORE_BYTES,
        # Actors take a hundredth each; the rest is for drivers' own tasks.
        "num_cpus": (os.cpu_count() or 1) + 1,
        "temp_dir": options.temp_dir,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        "min_worker_port": 0,
        "max_worker_port": 0,
    }
    if options.join:
        params = RayParams(gcs_address=f"{host}:{port}", **given)
    else:
        params = RayParams(gcs_server_port=int(port), **given)
    began = time.monotonic()
    node = LeanNode(params, head=not options.join, shutdown_at_exit=False, spawn_reaper=True)
    log.info("started in %.1f s", time.monotonic() - began)
    return node


def _clean(temp_dir: Path) -> None:
    """Removes sockets of a node that was killed, which Ray would number around, and logs of long ago."""
    for session in temp_dir.glob("session_*"):
        if session.is_symlink():
            continue
        shutil.rmtree(session / "sockets", ignore_errors=True)
        for port_file in session.glob("*_port_*"):
            port_file.unlink(missing_ok=True)
        for file in session.glob("logs/**/*"):
            if file.is_file() and time.time() - file.stat().st_mtime > OLD_LOG_AGE_S:
                file.unlink(missing_ok=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run one Ray node in the foreground.")
    parser.add_argument("--address", required=True, help="host:port of the GCS, here or on the head")
    parser.add_argument("--node-ip", required=True, help="address of this host for the other nodes")
    parser.add_argument("--temp-dir", required=True, help="folder with a short path for sockets and logs")
    parser.add_argument("--status", required=True, help="file that is there while the node is up")
    parser.add_argument("--storage", required=True, help="folder of the head's memory")
    parser.add_argument("--join", action="store_true", help="join the head at --address instead of being it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
