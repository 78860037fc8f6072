"""What the reconciler decides, and what one pass does to a world of actors that is all in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.names import ActorName, Pointer
from cluster.reconcile import (
    RETURN_LIMIT_S,
    SILENT_LIMIT_S,
    Action,
    Observation,
    Reconciler,
    decide,
    is_newer,
)
from cluster.shards import Target
from tests.waiting import eventually

TARGET = Target("resource", "default")


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (Observation(Pointer(), exists=False), Action.CREATE),
        (Observation(Pointer(3, "1.0"), exists=False), Action.CREATE),
        (Observation(Pointer(3, "1.0"), True, "serving", "1.0"), Action.KEEP),
        (Observation(Pointer(3, "1.0"), True, "prepared", "1.0"), Action.START),
        (Observation(Pointer(3, "1.0"), True, "starting", "1.0"), Action.START),
        (Observation(Pointer(3, "0.9"), True, "serving", "0.9"), Action.SWAP),
        (Observation(Pointer(3, "1.1"), True, "serving", "1.1"), Action.KEEP),
        (Observation(Pointer(3, "1.0"), True, silent_s=SILENT_LIMIT_S / 2), Action.WAIT),
        (Observation(Pointer(3, "1.0"), True, silent_s=SILENT_LIMIT_S + 1), Action.REPLACE),
        (Observation(Pointer(3, "1.0"), True, silent_s=SILENT_LIMIT_S + 1, returning=True), Action.WAIT),
        (Observation(Pointer(3, "1.0"), True, silent_s=RETURN_LIMIT_S + 1, returning=True), Action.REPLACE),
        (Observation(Pointer(3, "1.0"), True, "draining", "1.0", silent_s=1), Action.WAIT),
        (Observation(Pointer(3, "1.0"), True, "draining", "1.0", silent_s=SILENT_LIMIT_S + 1), Action.REPLACE),
    ],
)
def test_decision(seen: Observation, action: Action) -> None:
    assert decide(seen, "1.0") is action


@pytest.mark.parametrize(
    ("newer", "older"),
    [("0.2.0", "0.1.9"), ("0.10.0", "0.9.0"), ("1.0.0", "1.0.0rc1"), ("1.0.1", "1.0"), ("1.0.0rc2", "1.0.0rc1")],
)
def test_versions_are_compared_by_their_numbers(newer: str, older: str) -> None:
    assert is_newer(newer, older)
    assert not is_newer(older, newer)
    assert not is_newer(newer, newer)


@dataclass
class Fake:
    """An actor in memory, with the life of a real one."""

    version: str
    state: str = "starting"


@dataclass
class World:
    """Ray and etcd in memory; `journal` has what was done, in order."""

    version: str = "1.0"
    pointers: dict[Target, Pointer] = field(default_factory=dict)
    actors: dict[str, Fake] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    async def pointer(self, target: Target) -> Pointer:
        return self.pointers.get(target, Pointer())

    async def move(self, target: Target, expected: Pointer, new: Pointer) -> bool:
        if self.pointers.get(target, Pointer()) != expected:
            return False
        self.pointers[target] = new
        self.journal.append(f"point at {new.generation}")
        return True

    async def find(self, name: ActorName) -> Any | None:
        return self.actors.get(str(name)) and str(name)

    async def create(self, target: Target, name: ActorName) -> Any:
        self.actors.setdefault(str(name), Fake(self.version))
        self.journal.append(f"create {name.generation}")
        return str(name)

    async def ask(self, handle: Any, method: str, *arguments: Any, timeout_s: float) -> Any:
        if handle in self.silent:
            raise TimeoutError
        if handle in self.lost:
            raise ConnectionError
        actor = self.actors[handle]
        if method == "ping":
            return actor.state, actor.version
        if method == "prepare":
            actor.state = "prepared"
        if method == "start":
            name = ActorName.parse(handle)
            assert name is not None
            assert self.pointers[Target(name.service, name.shard)].generation == name.generation
            actor.state = "serving"
            self.journal.append(f"start {name.generation}")
        return actor.state

    async def end(self, name: ActorName, handle: Any, *, drain_s: float) -> None:
        del self.actors[handle]
        self.journal.append(f"{'drain' if drain_s else 'kill'} {name.generation}")


def reconciler(world: World, host: str = "a", version: str = "1.0", clock: Any = None) -> Reconciler:
    return Reconciler(TARGET, world, version, host, drain_s=10, **({"clock": clock} if clock else {}))


async def test_the_first_generation_is_prepared_before_it_is_pointed_at() -> None:
    world = World()
    one = reconciler(world)
    await one.run_once()
    assert world.journal == ["create 1", "point at 1", "start 1"]
    assert one.serving
    await one.run_once()
    assert len(world.journal) == 3


async def test_a_healthy_actor_of_the_same_version_is_adopted() -> None:
    world = World()
    await reconciler(world, "a").run_once()
    other = reconciler(world, "b")
    await other.run_once()
    assert other.serving
    assert world.pointers[TARGET].host == "a"
    assert len(world.actors) == 1


async def test_a_dead_actor_gets_a_successor_from_whichever_host_sees_it_first() -> None:
    world = World()
    first, second = reconciler(world, "a"), reconciler(world, "b")
    await asyncio.gather(first.run_once(), second.run_once())
    world.actors.clear()
    await second.run_once()
    await first.run_once()
    assert world.pointers[TARGET] == Pointer(2, "1.0", "b")
    assert list(world.actors) == ["resource/default#2"]
    assert first.serving


async def test_a_new_version_starts_beside_the_old_one_which_then_drains() -> None:
    world = World()
    await reconciler(world).run_once()
    world.version, world.journal[:] = "1.1", []
    await reconciler(world, version="1.1").run_once()
    assert world.journal == ["create 2", "point at 2", "start 2", "drain 1"]
    old = reconciler(world, version="1.0")
    await old.run_once()
    assert len(world.journal) == 4
    assert old.serving


async def test_the_loser_of_a_race_leaves_the_pointer_alone() -> None:
    world = World()

    async def other_host_was_first(target: Target, expected: Pointer, new: Pointer) -> bool:
        world.pointers[target] = Pointer(new.generation, new.version, "b")
        return False

    world.move = other_host_was_first  # type: ignore[method-assign]
    one = reconciler(world, "a")
    await one.run_once()
    assert world.pointers[TARGET].host == "b"
    assert "start 1" not in world.journal
    await one.run_once()
    assert one.serving


async def test_silence_is_borne_for_a_while_and_then_ended() -> None:
    world, now = World(), [0.0]
    one = reconciler(world, clock=lambda: now[0])
    await one.run_once()
    world.silent.add("resource/default#1")
    for now[0] in (1.0, SILENT_LIMIT_S - 1):
        await one.run_once()
        assert not one.serving
        assert list(world.actors) == ["resource/default#1"]
    now[0] = SILENT_LIMIT_S + 2
    await one.run_once()
    assert list(world.actors) == ["resource/default#2"]
    assert world.journal[3:] == ["kill 1", "create 2", "point at 2", "start 2"]


@pytest.mark.parametrize("known", [True, False])
async def test_an_actor_that_ray_makes_anew_is_given_as_long_as_a_new_one(known: bool) -> None:
    world, now = World(), [0.0]
    await reconciler(world).run_once()
    one = reconciler(world, clock=lambda: now[0])
    if known:
        await one.run_once()
        world.lost.add("resource/default#1")
    else:
        world.silent.add("resource/default#1")
    for now[0] in (1.0, SILENT_LIMIT_S + 1, RETURN_LIMIT_S - 1):
        await one.run_once()
        assert list(world.actors) == ["resource/default#1"]
    now[0] = RETURN_LIMIT_S + 2
    await one.run_once()
    assert list(world.actors) == ["resource/default#2"]


async def test_only_the_host_that_made_an_actor_drains_it() -> None:
    world = World()
    await reconciler(world, "a").run_once()
    await reconciler(world, "b").drain()
    assert list(world.actors) == ["resource/default#1"]
    await reconciler(world, "a", version="0.9").drain()
    assert list(world.actors) == ["resource/default#1"]
    await reconciler(world, "a").drain()
    assert not world.actors


async def test_a_failed_pass_is_told_and_the_next_one_does_better() -> None:
    broken = World()

    async def fail(target: Target) -> Pointer:
        raise OSError("etcd is away\nand more")

    whole, broken.pointer = broken.pointer, fail  # type: ignore[method-assign]
    one = reconciler(broken)
    await one.try_once()
    assert one.told == "OSError: etcd is away"
    broken.pointer = whole  # type: ignore[method-assign]
    keeping = asyncio.create_task(one.keep())
    await eventually(lambda: one.serving)
    keeping.cancel()
