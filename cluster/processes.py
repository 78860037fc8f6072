"""Processes of ours, known by pid and start time, so that a pid that was used again is never taken for one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

# In the environment of everything that a supervisor starts, descendants included: which system it belongs to.
MARK = "MULLIGAN_SYSTEM"

KILL_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for good: pids come back, a pid with its start time does not."""

    pid: int
    # Which boot of the machine, and clock ticks since then, as the kernel tells them.
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has the pid now; None when there is none or it is a zombie.

        A process whose first thread has ended looks like one while the others hold its files and ports.
        """
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        state, threads, started = fields[0], int(fields[17]), fields[19]
        return None if state in "ZX" and threads <= 1 else cls(pid, f"{_boot()}-{started}")

    @classmethod
    def own(cls) -> ProcessId:
        """This process."""
        found = cls.of(os.getpid())
        assert found is not None
        return found

    @classmethod
    def told(cls, fields: Mapping[str, Any]) -> ProcessId | None:
        """The process that a file's `pid` and `started` name, if it runs."""
        found = cls(int(fields.get("pid", 0)), str(fields.get("started", "")))
        return found if found.pid and found.alive() else None

    def tell(self) -> dict[str, Any]:
        """The fields that `told` reads."""
        return {"pid": self.pid, "started": self.started}

    def alive(self) -> bool:
        """Whether this very process runs."""
        return ProcessId.of(self.pid) == self

    def send(self, signal_number: int) -> None:
        """Signals this very process; nothing happens when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, signal_number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    async def wait(self) -> None:
        """Returns when it has ended, whoever's child it is."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            if self.alive():
                await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def spawn(
    arguments: list[str], environment: Mapping[str, str], log_file: Path, folder: Path
) -> subprocess.Popen[bytes]:
    """Starts a process at the head of a session of its own, its output appended to the log file."""
    with log_file.open("ab") as log:
        return subprocess.Popen(
            arguments,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )


def session_members(leader: int) -> Iterator[ProcessId]:
    """What is left of the session that a process headed; a session's id is not used again while it has members."""
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and (found := ProcessId.of(pid)):
                yield found
        except ProcessLookupError:
            continue


def marked(system: str) -> Iterator[ProcessId]:
    """Every process that a supervisor of that system started, directly or not."""
    own = os.getpid()
    for process in psutil.process_iter():
        try:
            if process.pid != own and process.environ().get(MARK) == system and (found := ProcessId.of(process.pid)):
                yield found
        except psutil.Error:
            continue


async def kill_all(processes: Iterable[ProcessId]) -> list[ProcessId]:
    """kill -9 of each; returns those that outlived it by KILL_DEADLINE_S."""
    processes = list(processes)
    for process in processes:
        process.send(signal.SIGKILL)
    await wait_all(processes, KILL_DEADLINE_S)
    return [process for process in processes if process.alive()]


async def wait_all(processes: Iterable[ProcessId], timeout_s: float) -> bool:
    """Whether all of them ended in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(process.wait() for process in processes))
    except TimeoutError:
        return False
    return True


def last_lines(log_file: Path, count: int = 8) -> list[str]:
    """The end of a log, without empty lines."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in lines if line.strip()][-count:]
