"""Processes to kill, found by what the system writes down about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from cluster.bootstrap import bring_up
from cluster.child import ChildState
from cluster.processes import ProcessId
from cluster.status import supervisor_of
from mulligan.stores.addresses import run_file
from tests.system import System
from tests.waiting import eventually

BACK_S = 120.0

Find = Callable[[System], ProcessId | None]


@dataclass(frozen=True)
class Victim:
    """A process that is one of the system's parts."""

    # Finds the one that works now; None while there is none.
    find: Find
    # Nothing in the system starts it again.
    by_hand: bool = False

    async def kill(self, system: System) -> ProcessId:
        """kill -9, and it is gone."""
        process = self.find(system)
        assert process is not None, "there is nobody to kill"
        process.send(9)
        await eventually(lambda: not process.alive())
        return process

    async def back(self, system: System, killed: ProcessId) -> None:
        """Returns when another works in its place."""
        if self.by_hand:
            await bring_up(system.settings)
        await eventually(lambda: self.find(system) not in (None, killed), BACK_S)


def actor(log: str) -> Victim:
    """An actor, by the log that all its lives write to; `{host}` stands for this host."""
    return Victim(_last_pid(log, r" serving version=\S+ pid=(\d+)"))


def worker(log: str) -> Victim:
    """The process in which an executor runs pyghmi."""
    return Victim(_last_pid(log, r" ipmi-worker started pid=(\d+)"))


def child(name: str) -> Victim:
    """A child of the supervisor."""
    return Victim(lambda system: ChildState.read(system.places, name).process)


def _last_pid(log: str, line: str) -> Find:
    def find(system: System) -> ProcessId | None:
        found: list[str] = re.findall(line, system.log(log.format(host=system.places.host_id())))
        return ProcessId.of(int(found[-1])) if found else None

    return find


def _of_ray(system: System, is_it: Callable[[psutil.Process], bool]) -> ProcessId | None:
    """The child of the Ray node that it is."""
    node = child("ray").find(system)
    try:
        children = psutil.Process(node.pid).children() if node else []
        return next((ProcessId.of(each.pid) for each in children if is_it(each)), None)
    except psutil.Error:
        return None


def _gcs(system: System) -> ProcessId | None:
    """It has the port that the head is reached by."""
    port = json.loads(run_file(system.settings.state_dir, "ray").read_text())["port"]

    def listens(process: psutil.Process) -> bool:
        return any(at.laddr and at.laddr.port == port for at in process.net_connections("tcp") if not at.raddr)

    return _of_ray(system, listens)


def _raylet(system: System) -> ProcessId | None:
    """The parent of every actor."""
    served = actor("control-default").find(system)
    return _of_ray(system, lambda each: served is not None and served.pid in {child.pid for child in each.children()})


VICTIMS = {
    "resource actor": actor("resource-default"),
    "control actor": actor("control-default"),
    "results actor": actor("results-default"),
    "executor": actor("executor-{host}-1"),
    "ipmi worker": worker("executor-{host}-1"),
    "control gateway": actor("gateway-control-{host}"),
    "boot gateway": actor("boot-{host}"),
    "nats": child("nats"),
    "postgres": child("postgres"),
    "etcd": child("etcd"),
    "supervisor": Victim(lambda system: supervisor_of(system.places), by_hand=True),
    "mulligan-resource": child("resource"),
    "mulligan-control": child("control"),
    "mulligan-executor": child("executor"),
    "gcs": Victim(_gcs),
    "raylet": Victim(_raylet),
}
