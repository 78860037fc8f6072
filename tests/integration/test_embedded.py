"""Embedded servers are set up once, hold their data alone, keep secrets private and die with their parent."""

from __future__ import annotations

import asyncio
import os
import pickle
import stat
import sys
from pathlib import Path

import psutil
import pytest

from cluster.embedded.etcd import EmbeddedEtcd
from cluster.embedded.nats import EmbeddedNats
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.server import EmbeddedServer
from tests.stores import embedded, make_keys, running
from tests.waiting import eventually

KINDS: list[type[EmbeddedServer]] = [EmbeddedEtcd, EmbeddedNats, EmbeddedPostgres]

PARENT = """
import asyncio, os, pickle, subprocess, sys
server = pickle.load(sys.stdin.buffer)
command = server.command()
process = subprocess.Popen(command.arguments, env={**os.environ, **command.environment})
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_setting_up_again_changes_nothing(kind: type[EmbeddedServer], state_dir: Path) -> None:
    make_keys(state_dir)
    server = embedded(kind, state_dir)
    server.prepare()
    before = (server.address, server.command(), contents(state_dir / "secrets"))
    again = embedded(kind, state_dir)
    again.prepare()
    assert (again.address, again.command(), contents(state_dir / "secrets")) == before
    assert not await again.ready()


@pytest.mark.parametrize("kind", KINDS)
async def test_setting_up_a_running_server_keeps_its_address(kind: type[EmbeddedServer], state_dir: Path) -> None:
    async with running(kind, state_dir) as server:
        before = server.server.address
        assert server.server.runs()
        again = embedded(kind, state_dir)
        again.prepare()
        assert again.address == before
        assert await again.ready()
    assert not again.runs()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_second_server_on_the_same_data_is_refused(state_dir: Path) -> None:
    async with running(EmbeddedNats, state_dir) as server:
        second = await asyncio.create_subprocess_exec(
            *server.server.command().arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(second.communicate(), 20)
        assert (second.returncode, b"another server runs" in errors) == (os.EX_TEMPFAIL, True)
        assert await server.server.ready()


@pytest.mark.parametrize("kind", KINDS)
async def test_server_dies_with_its_parent(kind: type[EmbeddedServer], state_dir: Path) -> None:
    make_keys(state_dir)
    server = embedded(kind, state_dir)
    server.prepare()
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdin
    assert parent.stdout
    parent.stdin.write(pickle.dumps(server))
    parent.stdin.close()
    child = int(await parent.stdout.readline())
    await eventually(server.ready, within_s=20)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


def test_nothing_private_is_readable_by_others(state_dir: Path) -> None:
    make_keys(state_dir)
    for kind in KINDS:
        embedded(kind, state_dir).prepare()
    shown = [
        path
        for path in state_dir.rglob("*")
        if path.is_file() and path.suffix != ".crt" and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert not shown
    for folder in ("secrets", "tls", "run", "etcd", "nats", "postgres"):
        assert stat.S_IMODE((state_dir / folder).stat().st_mode) == 0o700
    # Root's own folder may be passed through by PostgreSQL's user, but not listed.
    assert stat.S_IMODE(state_dir.stat().st_mode) in (0o700, 0o701)


def test_passwords_are_not_in_the_command_line(state_dir: Path) -> None:
    make_keys(state_dir)
    for kind in KINDS:
        server = embedded(kind, state_dir)
        server.prepare()
        command = server.command()
        for secret in filter(None, contents(state_dir / "secrets").values()):
            assert secret.decode().strip() not in " ".join([*command.arguments, *command.environment.values()])


async def test_postgres_starts_over_the_pid_file_of_a_killed_one(state_dir: Path) -> None:
    async with running(EmbeddedPostgres, state_dir) as server:
        await server.kill()
        pid_file = state_dir / "postgres" / "cluster" / "postmaster.pid"
        # As after a restart of the host: that pid now is some other process of the same user.
        other = await asyncio.create_subprocess_exec("sleep", "60", user=pid_file.stat().st_uid)
        try:
            pid_file.write_text("\n".join([str(other.pid), *pid_file.read_text().splitlines()[1:], ""]))
            await server.start()
            assert await server.server.ready()
        finally:
            other.kill()
            await other.wait()
