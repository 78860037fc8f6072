"""What a component tells its host about its actors: a small file, written after each pass of its loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.places import Places, read_json, write_json
from cluster.processes import ProcessId


@dataclass(frozen=True, slots=True)
class ComponentState:
    """Actors of one component and what each is doing."""

    # By actor, as service/shard: serving, or why not.
    actors: Mapping[str, str]
    # Every actor that should serve does.
    ready: bool


def _file(places: Places, name: str) -> Path:
    return places.components / f"{name}.json"


def report(places: Places, name: str, state: ComponentState) -> None:
    """Writes the state down, with the process that says so."""
    told = {**ProcessId.own().tell(), "ready": state.ready, "actors": dict(state.actors)}
    if read_json(_file(places, name)) != told:
        write_json(_file(places, name), told)


def component_state(places: Places, name: str) -> ComponentState | None:
    """What it told last; None when the process that told it is gone."""
    found = read_json(_file(places, name))
    if found is None or ProcessId.told(found) is None:
        return None
    return ComponentState(dict(found["actors"]), bool(found["ready"]))


def component_ready(places: Places, name: str) -> bool:
    """Whether it runs and all its actors serve."""
    state = component_state(places, name)
    return state is not None and state.ready
