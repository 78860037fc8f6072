"""The process that holds pyghmi: `python -m mulligan.executor.ipmi.worker`.

pyghmi is threads and module globals, so it lives alone. It reads one JSON request a line from standard input and
writes one JSON reply a line to standard output, in any order; it ends when its input does.

    {"id": 7, "operation": "set-power", "argument": "on", "host": "10.1.2.3", "port": 623,
     "username": "<base64>", "password": "<base64>", "start_by": 86410.5, "expires": 86420.5}
    {"id": 7, "begun": true}
    {"id": 7, "value": null}   or   {"id": 7, "failure": {"kind": "unreachable", "text": "", "code": 0}}

A job whose turn comes after `start_by` (monotonic seconds) is not begun: its BMC would have too little time. Nothing is
sent to the BMC after `expires`, so that no command comes into force when nobody waits for it and others may have its
machine.

What it keeps to, because pyghmi 1.6.19 breaks otherwise:

* credentials are bytes: with text a lost session is never forgotten;
* one job at a time per BMC, many BMCs at once: a BMC's waiting jobs hold no thread;
* connect, operate, log out for each job: sessions are few and idle ones stall;
* waits are cut into pieces of 50 ms, since some wake-ups get lost;
* what is sent again, by itself or after another login, is sent before the job expires or not at all;
* its two locks are one, or a session that times out and one that sends wait for each other for ever;
* a session knows why it broke before it says that it did: any thread may end any thread's login.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from pyghmi.ipmi.command import Command
from pyghmi.ipmi.private import session

from mulligan.executor.ipmi.failures import Failure, FailureKind, classify

# Made as they are needed: one for each of an executor's tasks, unless it is set to very many. With all of them in hung
# BMCs the process takes most of a core; a job that finds none is not blamed on its BMC.
THREADS = 256
LONGEST_WAIT_S = 0.05

BmcKey = tuple[str, int]

# IPMI 2.0, 28.3 Chassis Control and 28.12 Set System Boot Options.
_CHASSIS, _GET_STATUS, _CONTROL, _SET_BOOT_OPTIONS, _GET_BOOT_OPTIONS = 0x00, 0x01, 0x02, 0x08, 0x09
_CONTROL_CODES = {"off": 0x00, "on": 0x01, "soft-off": 0x05}
_BOOT_DEVICES = {"default": 0x0, "network": 0x1, "disk": 0x2, "optical": 0x5, "setup": 0x6}
_VALID_CLEARING, _BOOT_FLAGS = 3, 5


def cap_waits() -> None:
    """Makes pyghmi look for answers every 50 ms: it misses one that comes before its waiter registers."""
    wait = session._io_wait

    def capped(timeout: float, myaddr: Any = None, evq: Any = None) -> Any:
        return wait(min(timeout, LONGEST_WAIT_S), myaddr, evq)

    session._io_wait = capped


def join_locks() -> None:
    """Gives pyghmi one lock for both lists of sessions: it takes the two in either order and stops dead."""
    session.WAITING_SESSIONS = session.KEEPALIVE_SESSIONS


def never_block() -> None:
    """Makes pyghmi's one reading thread read what is there: a sender that makes its socket blocking would stop it."""

    def read(source: socket.socket, size: int) -> tuple[bytes, Any] | None:
        try:
            return source.recvfrom(size, socket.MSG_DONTWAIT)
        except OSError:
            return None

    session._io_recvfrom = read


def keep_reasons() -> None:
    """Makes pyghmi note why a login failed before the thread that waits for it can see that it did."""
    mark_broken = session.Session._mark_broken

    def mark_with_reason(self: Any, error: Any = None) -> None:
        self.errormsg = error
        mark_broken(self, error)

    session.Session.errormsg = None
    session.Session._mark_broken = mark_with_reason


class Deadline(threading.local):
    """When the job of this thread expires (monotonic seconds)."""

    expires = 0.0


def send_before(deadline: Deadline) -> None:
    """Makes each session of pyghmi end, instead of sending something, once the job that logged it in has expired."""
    login, send = session.Session.login, session.Session._xmit_packet

    def login_until(self: Any) -> None:
        self.expires = deadline.expires
        login(self)

    def send_or_end(self: Any, *arguments: Any, **named: Any) -> None:
        if time.monotonic() < self.expires:
            send(self, *arguments, **named)
            return
        # Not raised: any thread may be here for any session. Logged in, it would send a logout.
        self.logged = 0
        self._mark_broken("timeout")

    session.Session.login = login_until
    session.Session._xmit_packet = send_or_end


@dataclass(frozen=True, slots=True)
class Job:
    """One request, and until when it may begin and somebody waits for its reply (monotonic seconds)."""

    id: int
    operation: str
    argument: str
    bmc: BmcKey
    username: bytes
    password: bytes = field(repr=False)
    start_by: float
    expires: float

    @classmethod
    def parse(cls, request: dict[str, Any]) -> Job:
        """Raises KeyError or ValueError when it is not as the module says."""
        return cls(
            id=int(request["id"]),
            operation=str(request["operation"]),
            argument=str(request.get("argument", "")),
            bmc=(str(request["host"]), int(request["port"])),
            username=base64.b64decode(request["username"]),
            password=base64.b64decode(request["password"]),
            start_by=float(request["start_by"]),
            expires=float(request["expires"]),
        )


def read_power(command: Command, _: str) -> str:
    """on or off."""
    return "on" if command.xraw_command(_CHASSIS, _GET_STATUS)["data"][0] & 1 else "off"


def set_power(command: Command, argument: str) -> None:
    """Gives on, off or soft-off."""
    command.xraw_command(_CHASSIS, _CONTROL, data=(_CONTROL_CODES[argument],))


def read_boot_device(command: Command, _: str) -> dict[str, Any]:
    """The device in the boot flags. Some BMCs never set the flags' valid bit, so the device counts without it."""
    data = command.xraw_command(_CHASSIS, _GET_BOOT_OPTIONS, data=(_BOOT_FLAGS, 0, 0))["data"]
    code = data[3] >> 2 & 0xF
    names = {number: name for name, number in _BOOT_DEVICES.items()}
    return {"name": names.get(code, f"device-{code}"), "persistent": bool(data[2] & 0x40)}


def set_boot_device(command: Command, argument: str) -> None:
    """Sets the flags for the next boot, however long that takes to come."""
    flags = _BOOT_DEVICES[argument] << 2
    try:
        command.xraw_command(_CHASSIS, _SET_BOOT_OPTIONS, data=(_VALID_CLEARING, 0x08))
    except Exception as error:
        # Optional in the specification; a BMC without it forgets the flags after a minute.
        if classify(error).kind is not FailureKind.REFUSED:
            raise
    command.xraw_command(_CHASSIS, _SET_BOOT_OPTIONS, data=(_BOOT_FLAGS, 0x80, flags, 0, 0, 0))


OPERATIONS: dict[str, Callable[[Command, str], Any]] = {
    "read-power": read_power,
    "set-power": set_power,
    "read-boot-device": read_boot_device,
    "set-boot-device": set_boot_device,
}


def perform(deadline: Deadline, job: Job) -> Any:
    """Connects, operates and logs out; once more with a new session when the first one was lost on the way."""
    deadline.expires = job.expires
    try:
        return _with_session(job)
    except Exception as error:
        if classify(error).kind is not FailureKind.LOST or time.monotonic() > job.expires:
            raise
        return _with_session(job)


def _with_session(job: Job) -> Any:
    host, port = job.bmc
    command = Command(host, job.username, job.password, port=port)
    try:
        return OPERATIONS[job.operation](command, job.argument)
    finally:
        _log_out(command)


def _log_out(command: Command) -> None:
    try:
        command.ipmi_session.logout()
    except Exception as error:
        # The session dies by itself then; the job's own outcome is what counts.
        print(f"logout failed: {type(error).__name__}", file=sys.stderr, flush=True)


class Worker:
    """Spreads jobs over threads, one job at a time for each BMC."""

    def __init__(self, output: BinaryIO, run: Callable[[Job], Any], threads: int = THREADS) -> None:
        """`run` does one job and returns what to reply; what it raises is classified."""
        self._output = output
        self._run = run
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bmc")
        self._lock = threading.Lock()
        self._waiting: dict[BmcKey, deque[Job]] = {}
        # When the BMC's job began (monotonic seconds); None while it waits for a thread.
        self._running: dict[BmcKey, float | None] = {}

    def accept(self, line: bytes) -> None:
        """Takes one request line; never waits for a BMC."""
        request = json.loads(line)
        if request["operation"] == "ping":
            return self._reply(request["id"], value=self._load())
        job = Job.parse(request)
        with self._lock:
            if job.bmc in self._running:
                self._waiting.setdefault(job.bmc, deque()).append(job)
                return None
            self._running[job.bmc] = None
        self._pool.submit(self._serve, job)
        return None

    def _load(self) -> dict[str, Any]:
        with self._lock:
            oldest = min((began for began in self._running.values() if began is not None), default=None)
            waiting = sum(len(jobs) for jobs in self._waiting.values())
            age = time.monotonic() - oldest if oldest is not None else 0.0
            return {"running": len(self._running), "waiting": waiting, "oldest_s": age}

    def _serve(self, job: Job) -> None:
        """Does a job, then hands the BMC's next one to the pool: a busy BMC does not keep its thread."""
        with self._lock:
            self._running[job.bmc] = time.monotonic()
        self._answer(job)
        with self._lock:
            waiting = self._waiting.get(job.bmc)
            if not waiting:
                self._waiting.pop(job.bmc, None)
                del self._running[job.bmc]
                return
            following = waiting.popleft()
            self._running[job.bmc] = None
        self._pool.submit(self._serve, following)

    def _answer(self, job: Job) -> None:
        if time.monotonic() > min(job.start_by, job.expires):
            return self._reply(job.id, failure=Failure(FailureKind.EXPIRED))
        self._write({"id": job.id, "begun": True})
        try:
            value = self._run(job)
        except Exception as error:
            return self._reply(job.id, failure=classify(error))
        return self._reply(job.id, value=value)

    def _reply(self, job_id: int, value: Any = None, failure: Failure | None = None) -> None:
        self._write({"id": job_id, "failure": failure.as_json()} if failure else {"id": job_id, "value": value})

    def _write(self, content: dict[str, Any]) -> None:
        line = json.dumps(content).encode() + b"\n"
        with self._lock:
            self._output.write(line)
            self._output.flush()


def main() -> None:
    """Serves standard input until it ends."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # pyghmi prints; the replies' channel is ours alone
    cap_waits()
    join_locks()
    never_block()
    keep_reasons()
    deadline = Deadline()
    send_before(deadline)
    worker = Worker(output, partial(perform, deadline))
    for line in sys.stdin.buffer:
        worker.accept(line)
    os._exit(0)  # threads that wait for a dead BMC would hold the process for half a minute


if __name__ == "__main__":
    main()
