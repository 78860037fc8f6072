"""Keeps one worker process alive and gives it jobs: the only one that knows that there is a process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mulligan

log = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "mulligan.executor.ipmi.worker")

# A job that nobody can end, inside pyghmi: its BMC's slot and a thread are lost until the process goes.
STUCK_JOB_S = 90.0
PING_EVERY_S = 5.0
PING_DEADLINE_S = 10.0
RESTART_DELAYS_S = (0.1, 0.5, 1.0, 2.0, 5.0)
# A worker that lived this long had no trouble with its start.
SETTLED_S = 30.0
LONGEST_LINE_BYTES = 1 << 20


class WorkerLost(Exception):
    """The worker process ended, or was ended, before it answered."""


class NotBegun(TimeoutError):
    """The job's turn did not come in time: its BMC was not asked and is not to blame."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What the executor tells about its worker."""

    pid: int | None
    restarts: int
    in_flight: int


class WorkerProcess:
    """One worker: started again whenever it ends, hangs or holds a job that cannot end."""

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        /,
        *,
        ping_every_s: float = PING_EVERY_S,
        ping_deadline_s: float = PING_DEADLINE_S,
        stuck_job_s: float = STUCK_JOB_S,
    ) -> None:
        """`command` is what to run; it speaks as mulligan.executor.ipmi.worker does."""
        self._command = tuple(command)
        self._ping_every_s = ping_every_s
        self._ping_deadline_s = ping_deadline_s
        self._stuck_job_s = stuck_job_s
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        # Those of them that the worker has begun.
        self._begun: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._running = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = 0

    async def start(self) -> None:
        """Begins to keep a worker; idempotent. Requests wait until it runs."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="ipmi-worker")

    async def close(self) -> None:
        """Ends the worker; requests in flight fail with WorkerLost."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None

    @property
    def status(self) -> WorkerStatus:
        """How it is now."""
        alive = self._process is not None and self._process.returncode is None
        return WorkerStatus(self._process.pid if alive and self._process else None, self._restarts, len(self._pending))

    async def ping(self, timeout_s: float) -> dict[str, Any]:
        """The worker's load; raises TimeoutError."""
        reply = await self.request({"operation": "ping"}, timeout_s)
        return dict(reply["value"])

    async def request(self, job: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The worker's reply; raises TimeoutError after `timeout_s`, and WorkerLost when the worker goes first.

        Raises NotBegun for either when the worker has not begun with it.
        """
        job_id = next(self._ids)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._running.wait()
                self._pending[job_id] = reply
                await self._send({**job, "id": job_id})
                return await reply
        except (TimeoutError, WorkerLost) as error:
            if job_id not in self._begun:
                raise NotBegun(str(error) or "it waited for its turn") from error
            raise
        finally:
            self._pending.pop(job_id, None)
            self._begun.discard(job_id)

    async def _send(self, message: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise WorkerLost("the worker is not running")
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerLost("the worker ended") from error

    async def _supervise(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._run_once()
            except Exception as error:
                log.warning("ipmi-worker failed error=%s", error)
            failures = 0 if loop.time() - began > SETTLED_S else failures + 1
            self._restarts += 1
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)]
            log.warning("ipmi-worker ended restarts=%d next_start_s=%g", self._restarts, delay)
            await asyncio.sleep(delay)

    async def _run_once(self) -> None:
        """Runs one process from start to end."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE_BYTES,
            env=_environment(),
        )
        self._process = process
        log.info("ipmi-worker started pid=%d", process.pid)
        self._running.set()
        tasks = [
            asyncio.create_task(self._read(process), name="ipmi-worker-replies"),
            asyncio.create_task(self._forward_errors(process), name="ipmi-worker-stderr"),
            asyncio.create_task(self._watch(), name="ipmi-worker-pings"),
        ]
        try:
            done, _ = await asyncio.wait([tasks[0], tasks[2]], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._running.clear()
            try:
                await _end(process, tasks)
            finally:
                # Only now: who hears that the worker is lost may rely on it that it does nothing any more.
                self._fail_pending()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            reply = json.loads(line)
            job_id = int(reply["id"])
            waiter = self._pending.get(job_id)
            if waiter is None or waiter.done():
                continue
            if "begun" in reply:
                self._begun.add(job_id)
            else:
                waiter.set_result(reply)

    async def _forward_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            log.warning("ipmi-worker says: %s", line.decode(errors="replace").rstrip()[:500])

    async def _watch(self) -> None:
        """Returns when the worker should be replaced."""
        while True:
            await asyncio.sleep(self._ping_every_s)
            try:
                load = await self.ping(self._ping_deadline_s)
            except TimeoutError:
                log.error("ipmi-worker does not answer; it is replaced")
                return
            if load["oldest_s"] > self._stuck_job_s:
                log.error("ipmi-worker holds a job for %.0f s; it is replaced", load["oldest_s"])
                return

    def _fail_pending(self) -> None:
        for waiter in self._pending.values():
            if not waiter.done():
                waiter.set_exception(WorkerLost("the worker was replaced"))


async def _end(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[None]]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.shield(process.wait())


def _environment() -> dict[str, str]:
    """This process's own, such that the worker imports the same `mulligan`."""
    root = str(Path(mulligan.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, inherited])), "PYTHONUNBUFFERED": "1"}
