"""What this host knows of its system without asking any gateway: the supervisor and its children."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cluster.child import READY, STOPPED, ChildState
from cluster.component_state import component_state
from cluster.places import Places, read_json
from cluster.processes import ProcessId
from cluster.supervisor import COMPONENTS, server_specs
from mulligan.config import Settings


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One server or component of this host."""

    name: str
    # waiting, starting, ready, restarting or stopped.
    state: str
    # What holds it up, or what it consists of.
    detail: str
    pid: int
    restarts: int
    log: Path

    @property
    def ready(self) -> bool:
        """It does its work."""
        return self.state == READY


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Everything that this host runs for one system."""

    supervised: bool
    children: tuple[ChildStatus, ...]
    # The supervisor is taking everything down.
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """All of it works."""
        return self.supervised and not self.stopping and all(child.ready for child in self.children)

    @property
    def running(self) -> bool:
        """Anything of it runs."""
        return self.supervised or any(child.pid for child in self.children)


def host_status(settings: Settings) -> HostStatus:
    """What runs here now."""
    places = Places(settings.state_dir)
    names = [spec.name for spec in server_specs(settings)] + list(COMPONENTS)
    supervised = supervisor_of(places) is not None
    stopping = supervised and bool((read_json(places.supervisor) or {}).get("stopping"))
    return HostStatus(supervised, tuple(_child_status(places, name, supervised) for name in names), stopping)


def supervisor_of(places: Places) -> ProcessId | None:
    """The supervisor, if it runs."""
    found = read_json(places.supervisor)
    return ProcessId.told(found) if found is not None else None


def _child_status(places: Places, name: str, supervised: bool) -> ChildStatus:
    told = ChildState.read(places, name)
    process = told.process
    state = told.state if process or (supervised and told.state != READY) else STOPPED
    detail = _actors(places, name) if process else ""
    if not process and told.last_exit:
        detail = f"{told.last_exit}, {time.time() - told.since:.0f} s ago"
    return ChildStatus(name, state, detail, process.pid if process else 0, told.restarts, places.log(name))


def _actors(places: Places, name: str) -> str:
    component = component_state(places, name)
    if component is None:
        return ""
    late = [f"{actor}: {state}" for actor, state in component.actors.items() if state != "serving"]
    return "; ".join(late) if late else f"{len(component.actors)} actors serve"
