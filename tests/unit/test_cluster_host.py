"""What a host keeps in files: which process is which, how long to wait, where things are, which settings."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster.backoff import GOOD_RUN_S, MOST_S, Backoff
from cluster.bootstrap import settings_for
from cluster.child import ChildState
from cluster.component_state import ComponentState, component_ready, component_state, report
from cluster.host import certificate_hosts, require_free_ports, with_addresses
from cluster.places import Places, write_json
from cluster.ports import free_ports, is_free
from cluster.processes import MARK, ProcessId, kill_all, last_lines, marked, session_members, spawn, wait_all
from cluster.ray_head import node_address
from cluster.settings_file import write_settings
from mulligan.config import Settings, load_settings, stored_settings, without_settings
from mulligan.errors import FailedPrecondition, InvalidArgument
from tests.waiting import eventually

WAITS = "import signal; print('up', flush=True); signal.pause()"
# Its first thread ends, as that of a killed process may do before the others: the kernel shows a zombie.
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_backoff_grows_to_its_limit_and_forgets_after_a_good_run() -> None:
    backoff = Backoff()
    delays = [backoff.after(ran_s=0.1) for _ in range(10)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == MOST_S
    assert backoff.after(ran_s=GOOD_RUN_S) == 0.2


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path)
    found.make()
    return found


def start(places: Places, **environment: str) -> subprocess.Popen[bytes]:
    return spawn([sys.executable, "-c", WAITS], {**os.environ, **environment}, places.log("x"), places.state_dir)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_a_process_is_known_by_pid_and_start_time(places: Places) -> None:
    process = start(places)
    try:
        found = ProcessId.of(process.pid)
        assert found is not None
        assert found.alive()
        earlier = ProcessId(found.pid, f"{found.started}0")
        assert not earlier.alive()
        earlier.send(signal.SIGKILL)
        assert ProcessId.told(found.tell()) == found
        assert ProcessId.told(earlier.tell()) is None
        assert process.poll() is None
    finally:
        end(process)
    assert not found.alive()
    found.send(signal.SIGTERM)


async def test_the_end_of_a_process_is_seen_at_once_even_as_a_zombie(places: Places) -> None:
    process = start(places)
    found = ProcessId.of(process.pid)
    assert found is not None
    assert not await wait_all([found], timeout_s=0.05)
    found.send(signal.SIGKILL)
    assert await wait_all([found], timeout_s=5)
    process.wait()


async def test_a_process_lives_as_long_as_any_of_its_threads_for_they_hold_its_ports(places: Places) -> None:
    process = spawn([sys.executable, "-c", HEADLESS], os.environ, places.log("x"), places.state_dir)
    try:
        await eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        found = ProcessId.of(process.pid)
        assert found is not None
        assert not await wait_all([found], timeout_s=0.05)
        assert not await kill_all([found])
    finally:
        end(process)


async def test_what_a_supervisor_started_is_found_by_its_mark_and_session(places: Places) -> None:
    system = str(places.state_dir)
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}]); {WAITS}"
    process = spawn([sys.executable, "-c", parent], {**os.environ, MARK: system}, places.log("x"), places.state_dir)
    try:
        await eventually(lambda: places.log("x").read_text().count("up") == 2)
        both = set(marked(system))
        assert len(both) == 2
        assert set(session_members(process.pid)) == both
        assert not await kill_all(both)
        process.wait()
        assert not set(session_members(process.pid))
    finally:
        end(process)


def test_a_childs_state_names_a_process_only_while_that_lives(places: Places) -> None:
    process = start(places)
    found = ProcessId.of(process.pid)
    assert found is not None
    written = {"name": "x", "state": "ready", "pid": found.pid, "started": found.started, "of_a_later_version": 1}
    write_json(places.children / "x.json", written)
    assert ChildState.read(places, "x").process == found
    end(process)
    assert ChildState.read(places, "x").process is None
    assert ChildState.read(places, "never").state == "waiting"


def test_a_component_is_ready_while_the_process_that_says_so_lives(places: Places) -> None:
    assert not component_ready(places, "iam")
    report(places, "iam", ComponentState({"iam/global": "serving"}, ready=True))
    assert component_ready(places, "iam")
    write_json(places.components / "iam.json", {"pid": os.getpid(), "started": "1", "ready": True, "actors": {}})
    assert component_state(places, "iam") is None


def test_the_host_id_stays(places: Places) -> None:
    assert places.host_id() == places.host_id()
    assert "#" not in places.host_id()
    assert "/" not in places.host_id()


def test_the_short_folder_is_short_private_and_different_for_each_system(tmp_path: Path) -> None:
    first, second = Places(tmp_path / ("deep" * 40)).short_folder(), Places(tmp_path / "b").short_folder()
    try:
        assert first != second
        assert len(str(first)) < 40
        assert first.stat().st_mode & 0o777 == 0o700
    finally:
        first.rmdir()
        second.rmdir()


def test_settings_are_written_where_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "mulligan.toml"
    file.write_text('# chosen by hand\nport = 7000\nlisten = "10.0.0.1"\n')
    write_settings(file, {"port": 7400, "advertise": 'odd"name', "etcd": None, "state_dir": tmp_path})
    settings = load_settings({"state_dir": tmp_path}, environment={})
    assert (settings.port, settings.advertise, settings.listen) == (7400, 'odd"name', "10.0.0.1")
    assert file.read_text().startswith("# chosen by hand\n")
    assert "state_dir" not in file.read_text()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("port = 1.9", "port must be a whole number, not 1.9"),
        ("executors = [1]", "executors must be a whole number"),
        ("executors = true", "executors must be a whole number"),
        ("listen = 4", "listen must be text in quotes, not 4"),
        ("colour = 'red'", "unknown setting 'colour'"),
    ],
)
def test_a_wrong_line_of_the_settings_file_is_told(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "mulligan.toml").write_text(f"{line}\n")
    with pytest.raises(InvalidArgument, match=re.escape(told)):
        load_settings({"state_dir": tmp_path}, environment={})


def test_a_folder_of_certificates_means_the_same_to_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mulligan.toml").write_text('tls_dir = "certificates"\n')
    monkeypatch.chdir(tmp_path.parent)
    assert stored_settings(tmp_path).tls_dir == str(tmp_path / "certificates")
    given = load_settings({"state_dir": tmp_path, "tls_dir": "other"}, environment={})
    assert given.tls_dir == str(tmp_path.parent / "other")


def test_the_environment_gives_settings_to_who_reads_them_not_to_what_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULLIGAN_PORT", "8000")
    monkeypatch.setenv("MULLIGAN_ETCD", "10.0.0.1:2379")
    monkeypatch.setenv("MULLIGAN_COLOUR", "red")
    settings = settings_for({"state_dir": tmp_path, "port": 9000})
    assert (settings.port, settings.etcd) == (9000, "10.0.0.1:2379")
    assert settings_for({"state_dir": tmp_path}, environment={}).etcd == ""
    left = without_settings(os.environ)
    assert left["MULLIGAN_COLOUR"] == "red"
    assert load_settings({"state_dir": tmp_path}, left) == stored_settings(tmp_path)


def test_a_running_system_is_told_from_one_with_other_settings(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.make()
    write_json(places.supervisor, ProcessId.own().tell())
    assert settings_for({"state_dir": tmp_path}, environment={}) == stored_settings(tmp_path)
    with pytest.raises(FailedPrecondition, match="runs with another nats, port; run `mulligan down`"):
        settings_for({"state_dir": tmp_path, "port": 7500}, environment={"MULLIGAN_NATS": "nats://10.0.0.1"})


def test_a_host_that_listens_everywhere_is_advertised_by_an_address_that_others_can_use(tmp_path: Path) -> None:
    settings = with_addresses(Settings(state_dir=tmp_path, listen="0.0.0.0"))
    assert settings.advertised_host == node_address(Settings(state_dir=tmp_path, listen="0.0.0.0"))
    assert settings.advertised_host in certificate_hosts(settings)
    named = with_addresses(Settings(state_dir=tmp_path, listen="0.0.0.0", advertise="node1.example"))
    assert named.advertised_host == "node1.example"
    assert with_addresses(Settings(state_dir=tmp_path)).advertised_host == "127.0.0.1"


def test_a_name_that_does_not_resolve_is_told(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, listen="0.0.0.0", advertise="no-such-host.invalid")
    with pytest.raises(FailedPrecondition, match=r"no-such-host\.invalid cannot be resolved"):
        node_address(settings)


async def test_ports_that_a_killed_process_still_holds_are_waited_for(tmp_path: Path) -> None:
    first = free_ports(5)
    holder = socket.create_server(("127.0.0.1", first))
    asyncio.get_running_loop().call_later(0.3, holder.close)
    await require_free_ports(Settings(state_dir=tmp_path, port=first))


def test_the_end_of_a_log(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("".join(f"line {number}\n\n" for number in range(5000)))
    assert last_lines(file, 2) == ["line 4998", "line 4999"]
    assert last_lines(tmp_path / "none.log") == []


def test_free_ports_are_none_that_outgoing_connections_get() -> None:
    first = free_ports(5)
    low, high = (int(each) for each in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not any(low <= first + offset <= high for offset in range(5))
    with socket.create_server(("127.0.0.1", first)):
        assert not is_free(first)
    assert is_free(first)
