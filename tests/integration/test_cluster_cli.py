"""The host's commands, as a person runs them: what they say, and that they say it in a sentence."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.child import ChildState
from cluster.places import Places, write_json
from cluster.ports import free_port
from cluster.processes import ProcessId
from cluster.status import host_status
from mulligan.client.contexts import Context, set_context
from mulligan.config import Settings
from mulligan.pki import ensure_ca

DEADLINE_S = 30.0


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Runs `mulligan` with a home and state folder of its own."""

    folder: Path

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    async def run(self, *arguments: str) -> Ran:
        environment = {
            **os.environ,
            "MULLIGAN_STATE_DIR": str(self.state_dir),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cluster.cli", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def shell(state_dir: Path) -> Shell:
    return Shell(state_dir)


async def test_down_where_nothing_runs(shell: Shell) -> None:
    ran = await shell.run("down")
    assert ran.code == 0
    assert "nothing runs here" in ran.out


async def test_the_results_of_a_host_command_are_for_programs_too(shell: Shell) -> None:
    ran = await shell.run("down", "--output", "json")
    assert json.loads(ran.out)["stopped"] is False


async def test_a_component_of_a_host_that_was_not_set_up_says_what_to_do(shell: Shell) -> None:
    program = Path(sys.executable).with_name("mulligan-iam")
    process = await asyncio.create_subprocess_exec(
        program, f"--state-dir={shell.state_dir}", stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_S):
        _, told = await process.communicate()
    assert process.returncode == 1
    assert "run `mulligan bootstrap` there" in told.decode()
    assert "Traceback" not in told.decode()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("bootstrap", "--port", "70000"), "port must lie between"),
        (("bootstrap", "--log-level", "loud"), "log_level must be one of"),
        (("bootstrap", "--executors", "0"), "executors must lie between"),
    ],
)
async def test_a_wrong_setting_is_told_in_a_sentence(shell: Shell, arguments: tuple[str, ...], told: str) -> None:
    ran = await shell.run(*arguments)
    assert ran.code == 2
    assert told in ran.err
    assert "Traceback" not in ran.err
    assert not (shell.state_dir / "mulligan.toml").exists()


async def test_a_port_that_is_taken_is_told_before_anything_starts(shell: Shell) -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ran = await shell.run("bootstrap", "--port", str(port))
    assert ran.code == 6
    assert f"port {port} of 127.0.0.1 cannot be used" in ran.err
    # The next bootstrap is not to stumble over it again.
    assert not Places(shell.state_dir).settings.exists()
    assert not host_status(Settings(state_dir=shell.state_dir)).running


async def test_status_tells_what_the_host_knows_when_no_gateway_answers(shell: Shell) -> None:
    places = Places(shell.state_dir)
    places.make()
    context = Context((f"127.0.0.1:{free_port()}",), ca_file=str(_some_ca(shell.state_dir)), account="admin")
    set_context("local", context, make_current=True, path=shell.folder / "config" / "mulligan" / "client.yaml")
    ran = await shell.run("status")
    assert ran.code == 8
    assert "nothing runs; `mulligan bootstrap` starts it" in ran.err
    own = ProcessId.own()
    state = ChildState("etcd", "restarting", restarts=3, last_exit="exit code 1", since=1.0)
    write_json(places.children / "etcd.json", {field: getattr(state, field) for field in ChildState.__slots__})
    write_json(places.supervisor, own.tell())
    ran = await shell.run("status")
    assert ran.code == 8
    assert "etcd       restarting  exit code 1" in ran.err
    assert "Traceback" not in ran.err


async def test_a_supervisor_that_stops_is_not_ready(shell: Shell) -> None:
    places = Places(shell.state_dir)
    places.make()
    write_json(places.supervisor, {**ProcessId.own().tell(), "stopping": True})
    status = host_status(Settings(state_dir=shell.state_dir))
    assert status.supervised
    assert status.stopping
    assert not status.ready


def _some_ca(state_dir: Path) -> Path:
    ensure_ca(state_dir / "tls")
    return state_dir / "tls" / "ca.crt"
