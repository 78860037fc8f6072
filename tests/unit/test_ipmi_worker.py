"""How the worker spreads jobs: one at a time for each BMC, many BMCs at once, none behind its asker's back."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.private import session

from mulligan.executor.ipmi.worker import LONGEST_WAIT_S, Job, Worker, cap_waits

DEADLINE_S = 5.0


class Replies(io.RawIOBase):
    """Collects reply lines, and which jobs were begun."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.begun: list[int] = []
        self._more = threading.Condition()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        line = json.loads(bytes(data))
        with self._more:
            if "begun" in line:
                self.begun.append(line["id"])
            else:
                self.lines.append(line)
            self._more.notify_all()
        return len(data)

    def wait(self, count: int) -> list[dict[str, Any]]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.lines) >= count, DEADLINE_S)
            return sorted(self.lines, key=lambda line: line["id"])


def request(job_id: int, host: str = "10.0.0.1", timeout_s: float = 10, start_s: float = 10) -> bytes:
    secret = base64.b64encode(b"secret").decode()
    job = {"id": job_id, "operation": "read-power", "host": host, "port": 623, "username": secret, "password": secret}
    now = time.monotonic()
    return json.dumps({**job, "start_by": now + start_s, "expires": now + timeout_s}).encode()


def worker(run: Callable[[Job], Any], threads: int = 4) -> tuple[Worker, Replies]:
    replies = Replies()
    return Worker(replies, run, threads), replies  # type: ignore[arg-type]


def test_jobs_of_one_bmc_run_one_after_another_in_order() -> None:
    running, worst, order = 0, 0, []
    lock = threading.Lock()

    def run(job: Job) -> str:
        nonlocal running, worst
        with lock:
            running += 1
            worst = max(worst, running)
            order.append(job.id)
        threading.Event().wait(0.01)
        with lock:
            running -= 1
        return "on"

    served, replies = worker(run)
    for job_id in range(5):
        served.accept(request(job_id))
    assert [line["value"] for line in replies.wait(5)] == ["on"] * 5
    assert (worst, order) == (1, [0, 1, 2, 3, 4])


def test_a_bmc_that_hangs_holds_up_no_other_one() -> None:
    release = threading.Event()

    def run(job: Job) -> str:
        if job.bmc[0] == "hangs":
            release.wait(DEADLINE_S)
        return "on"

    served, replies = worker(run, threads=2)
    for job_id in range(10):
        served.accept(request(job_id, "hangs"))
    served.accept(request(10, "answers"))
    assert [line["id"] for line in replies.wait(1)] == [10]
    served.accept(b'{"id": 11, "operation": "ping"}')
    load = replies.wait(2)[1]["value"]
    assert (load["running"], load["waiting"]) == (1, 9)
    release.set()
    assert len(replies.wait(12)) == 12


@pytest.mark.parametrize("late", [{"start_s": 0.0}, {"start_s": 0.0, "timeout_s": 0.0}])
@pytest.mark.parametrize("host", ["10.0.0.1", "10.0.0.2"])
def test_a_job_that_came_too_late_to_its_turn_is_not_done(late: dict[str, float], host: str) -> None:
    release, done = threading.Event(), []

    def run(job: Job) -> None:
        done.append(job.id)
        release.wait(DEADLINE_S)

    served, replies = worker(run, threads=1)
    served.accept(request(1))
    served.accept(request(2, host, **late))
    release.set()
    assert replies.wait(2)[1]["failure"]["kind"] == "expired"
    assert done == replies.begun == [1]


def test_what_a_job_raises_is_classified_and_frees_the_bmc() -> None:
    def run(job: Job) -> str:
        if job.id == 1:
            raise IpmiException("Incorrect password provided")
        return "off"

    served, replies = worker(run)
    served.accept(request(1))
    assert replies.wait(1)[0]["failure"]["kind"] == "credentials"
    served.accept(request(2))
    assert replies.wait(2)[1]["value"] == "off"


def test_a_job_shows_no_password() -> None:
    assert "secret" not in repr(Job.parse(json.loads(request(1)))).replace("username=b'secret'", "")


def test_waits_inside_pyghmi_are_short() -> None:
    original, waited = session._io_wait, []
    session._io_wait = lambda timeout, myaddr=None, evq=None: waited.append(timeout)
    try:
        cap_waits()
        session._io_wait(300)
        session._io_wait(0.01)
    finally:
        session._io_wait = original
    assert waited == [LONGEST_WAIT_S, 0.01]
