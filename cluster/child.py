"""One process that a supervisor keeps running: started or found again, watched, started anew when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

import psutil

from cluster.backoff import Backoff
from cluster.embedded.server import Command
from cluster.places import Places, read_json, write_json
from cluster.processes import ProcessId, kill_all, marked, session_members, spawn, wait_all

log = logging.getLogger(__name__)

# In the environment of a child and what it starts: which child it is.
CHILD = "MULLIGAN_CHILD"

READY_PAUSE_S = 0.1
MAX_LOG_BYTES = 20_000_000

WAITING, STARTING, READY, RESTARTING, STOPPED = "waiting", "starting", "ready", "restarting", "stopped"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how to tell that it works."""

    name: str
    # Run in a thread before the first start, not when the process is found running.
    prepare: Callable[[], None]
    command: Callable[[], Command]
    # Answers within seconds.
    ready: Callable[[], Awaitable[bool]]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_deadline_s: float = 15.0


@dataclass(slots=True)
class ChildState:
    """What the supervisor last knew of a child, as its file has it."""

    name: str
    state: str = WAITING
    pid: int = 0
    started: str = ""
    # Seconds since the epoch.
    since: float = 0.0
    restarts: int = 0
    # How it ended last, in words.
    last_exit: str = ""

    @classmethod
    def read(cls, places: Places, name: str) -> ChildState:
        """From the file; a fresh state when there is none."""
        found = read_json(places.children / f"{name}.json") or {}
        known = {field: found[field] for field in cls.__slots__ if field in found}
        return cls(**{"name": name, **known})

    @property
    def process(self) -> ProcessId | None:
        """The process, if it runs."""
        return ProcessId.told({"pid": self.pid, "started": self.started})


class Child:
    """Keeps one process running until it is told to stop."""

    def __init__(self, spec: ChildSpec, places: Places, environment: Mapping[str, str], system: str) -> None:
        """Touches nothing yet. `system` marks the processes of one state directory."""
        self.spec = spec
        self.ready = asyncio.Event()
        self._places = places
        self._environment = {**environment, CHILD: spec.name}
        self._system = system
        self._state = ChildState.read(places, spec.name)
        self._popen: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    def keep_running(self, when: Callable[[], Awaitable[object]]) -> None:
        """Adopts it at once if it runs; else starts it when `when` is done."""
        process = self._state.process or self._find()
        if process is not None:
            log.info("%s pid=%d runs already: adopted", self.spec.name, process.pid)
            self._save(pid=process.pid, started=process.started)
        else:
            self._save(state=WAITING, pid=0, started="", restarts=0, last_exit="")
        self._task = asyncio.create_task(self._keep(process, when), name=self.spec.name)

    async def stop(self) -> None:
        """Asks it to stop, waits, kills what is left of its session. Nothing of it runs afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        process = self._state.process or self._find()
        if process is not None:
            log.info("stopping %s pid=%d", self.spec.name, process.pid)
            process.send(self.spec.stop_signal)
            if not await wait_all([process], self.spec.stop_deadline_s):
                log.warning("%s did not stop within %g s", self.spec.name, self.spec.stop_deadline_s)
                await kill_all([process])
        if self._state.pid:
            await kill_all(session_members(self._state.pid))
        self._reap()
        self._save(state=STOPPED, pid=0, started="", restarts=0, last_exit="")

    async def _keep(self, process: ProcessId | None, when: Callable[[], Awaitable[object]]) -> None:
        if process is None:
            await when()
        prepared = process is not None
        while True:
            began = time.monotonic()
            try:
                if not prepared:
                    self._save(state=STARTING)
                    await asyncio.to_thread(self.spec.prepare)
                    prepared = True
                how = await self._run(process)
            except Exception as error:
                log.warning("%s cannot be started: %s", self.spec.name, error)
                how = str(error)
            process = None
            delay_s = self._backoff.after(time.monotonic() - began)
            log.warning("%s ended (%s); next start in %.1f s", self.spec.name, how, delay_s)
            restarts = self._state.restarts + 1
            self._save(state=RESTARTING, pid=0, started="", restarts=restarts, last_exit=how)
            await asyncio.sleep(delay_s)

    async def _run(self, process: ProcessId | None) -> str:
        """Starts it unless it runs, waits for its end, clears its session; says how it ended."""
        process = process or self._start()
        watching = asyncio.create_task(self._until_ready(), name=f"{self.spec.name} ready")
        try:
            await process.wait()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            self.ready.clear()
        await kill_all(session_members(process.pid))
        return self._reap()

    def _start(self) -> ProcessId:
        log_file = self._places.log(self.spec.name)
        if log_file.exists() and log_file.stat().st_size > MAX_LOG_BYTES:
            log_file.replace(log_file.with_suffix(".log.1"))
        command = self.spec.command()
        environment = {**self._environment, **command.environment}
        self._popen = spawn(command.arguments, environment, log_file, self._places.state_dir)
        process = ProcessId.of(self._popen.pid)
        if process is None:
            raise OSError(f"it ended at once; see {log_file}")
        self._save(state=STARTING, pid=process.pid, started=process.started)
        return process

    async def _until_ready(self) -> None:
        while True:
            try:
                if await self.spec.ready():
                    break
            except Exception as error:
                log.debug("%s is not ready: %s", self.spec.name, error)
            await asyncio.sleep(READY_PAUSE_S)
        # What it took to get there no longer counts.
        self._save(state=READY, restarts=0)
        self.ready.set()

    def _reap(self) -> str:
        """How our own child ended; one that was adopted has another parent to tell."""
        if self._popen is None:
            return "it had been started earlier"
        code = self._popen.wait()
        self._popen = None
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _find(self) -> ProcessId | None:
        """One that a supervisor started but could not write down any more before it was killed itself."""
        for process in marked(self._system):
            try:
                found = psutil.Process(process.pid)
                if found.environ().get(CHILD) == self.spec.name and os.getsid(process.pid) == process.pid:
                    return process
            except (psutil.Error, ProcessLookupError):
                continue
        return None

    def _save(self, **changes: str | int) -> None:
        if changes.get("state", self._state.state) != self._state.state:
            self._state.since = time.time()
        for field, value in changes.items():
            setattr(self._state, field, value)
        write_json(self._places.children / f"{self.spec.name}.json", asdict(self._state))
