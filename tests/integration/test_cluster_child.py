"""Children of a supervisor, on real processes: small servers that listen on a Unix socket."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.child import READY, RESTARTING, STOPPED, Child, ChildSpec, ChildState
from cluster.embedded.server import Command
from cluster.places import Places
from cluster.processes import MARK, ProcessId, kill_all, marked
from tests.waiting import eventually

# A server with a helper process in its session, as PostgreSQL has; it says when it was asked to stop.
SERVER = """
import os, signal, socket, subprocess, sys
path = sys.argv[1]
if os.path.exists(path):
    os.unlink(path)
helper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
def stop(number, frame):
    print("asked to stop", flush=True)
    helper.kill()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    server.accept()[0].close()
"""


@pytest.fixture
def places(state_dir: Path) -> Places:
    found = Places(state_dir)
    found.make()
    return found


@pytest.fixture
def make(places: Places) -> Callable[..., Child]:
    """Makes a child that serves on a socket, or runs another program."""

    def of(name: str = "server", program: str = SERVER, stop_deadline_s: float = 10.0) -> Child:
        socket = places.state_dir / f"{name}.sock"

        async def ready() -> bool:
            _, writer = await asyncio.open_unix_connection(socket)
            writer.close()
            return True

        def command() -> Command:
            return Command([sys.executable, "-c", program, str(socket)])

        spec = ChildSpec(name, lambda: None, command, ready, stop_deadline_s=stop_deadline_s)
        system = str(places.state_dir)
        return Child(spec, places, {**os.environ, MARK: system}, system)

    return of


@pytest.fixture(autouse=True)
async def nothing_left(places: Places) -> AsyncIterator[None]:
    """Ends what a failed test leaves."""
    yield
    await kill_all(marked(str(places.state_dir)))


async def at_once() -> None:
    """Nothing to wait for."""


def state(places: Places, name: str = "server") -> ChildState:
    return ChildState.read(places, name)


@contextmanager
def forgotten(child: Child) -> Iterator[None]:
    """As if the supervisor was killed: nobody keeps the child any more, and the child lives on."""
    task = child._task
    assert task is not None
    task.cancel()
    yield


async def test_it_runs_serves_and_stops_when_asked(make: Callable[..., Child], places: Places) -> None:
    child = make()
    child.keep_running(at_once)
    await asyncio.wait_for(child.ready.wait(), 10)
    assert state(places).state == READY
    assert state(places).process is not None
    await child.stop()
    assert state(places).state == STOPPED
    assert "asked to stop" in places.log("server").read_text()
    assert not list(marked(str(places.state_dir)))


async def test_killed_it_is_back_within_a_second_and_its_helpers_are_gone(
    make: Callable[..., Child], places: Places
) -> None:
    child = make()
    child.keep_running(at_once)
    await asyncio.wait_for(child.ready.wait(), 10)
    first = state(places)
    helpers = {ProcessId.of(each.pid) for each in psutil.Process(first.pid).children()}
    assert len(helpers) == 1
    os.kill(first.pid, signal.SIGKILL)
    await eventually(lambda: state(places).pid not in (0, first.pid), within_s=1.0)
    assert not any(helper.alive() for helper in helpers if helper)
    await eventually(lambda: state(places).state == READY)
    # Who bootstraps now need not fear that it does not stay up.
    assert state(places).restarts == 0
    assert state(places).last_exit == "signal SIGKILL"
    await child.stop()


async def test_the_next_supervisor_adopts_what_the_killed_one_left(make: Callable[..., Child], places: Places) -> None:
    first = make()
    first.keep_running(at_once)
    await asyncio.wait_for(first.ready.wait(), 10)
    pid = state(places).pid
    with forgotten(first):
        second = make()
        second.keep_running(at_once)
        await asyncio.wait_for(second.ready.wait(), 10)
        assert state(places).pid == pid
        # It sees the end of a process that is not its own child, and starts it again.
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: state(places).pid not in (0, pid), within_s=2.0)
        await second.stop()
    assert not list(marked(str(places.state_dir)))


async def test_one_that_was_never_written_down_is_found_by_its_mark(make: Callable[..., Child], places: Places) -> None:
    first = make()
    first.keep_running(at_once)
    await asyncio.wait_for(first.ready.wait(), 10)
    pid = state(places).pid
    (places.children / "server.json").unlink()
    with forgotten(first):
        second = make()
        second.keep_running(at_once)
        await asyncio.wait_for(second.ready.wait(), 10)
        assert state(places).pid == pid
        await second.stop()


async def test_one_that_will_not_stop_is_killed(make: Callable[..., Child], places: Places) -> None:
    stubborn = SERVER.replace('print("asked to stop", flush=True)', "return")
    child = make(program=stubborn, stop_deadline_s=0.3)
    child.keep_running(at_once)
    await asyncio.wait_for(child.ready.wait(), 10)
    await child.stop()
    assert not list(marked(str(places.state_dir)))


async def test_one_that_cannot_run_is_tried_again_ever_more_slowly(make: Callable[..., Child], places: Places) -> None:
    child = make(program="raise SystemExit('no disk')")
    child.keep_running(at_once)
    await eventually(lambda: state(places).restarts >= 3)
    assert state(places).last_exit == "exit code 1"
    assert "no disk" in places.log("server").read_text()
    await eventually(lambda: state(places).state == RESTARTING)
    await child.stop()


async def test_a_component_waits_for_its_servers(make: Callable[..., Child], places: Places) -> None:
    server, component = make("server"), make("component")
    component.keep_running(server.ready.wait)
    assert state(places, "component").state == "waiting"
    assert state(places, "component").pid == 0
    server.keep_running(at_once)
    await asyncio.wait_for(component.ready.wait(), 10)
    assert state(places, "server").state == READY
    await asyncio.gather(component.stop(), server.stop())
