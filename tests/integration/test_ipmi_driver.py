"""The IPMI driver and its worker process, on simulated BMCs that speak IPMI over UDP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mulligan.errors import Unavailable
from mulligan.executor.drivers import BmcFailure, BmcTarget, BootDevice, Power, PowerCommand
from mulligan.executor.ipmi.driver import IpmiDriver
from mulligan.executor.ipmi.process import WorkerLost, WorkerProcess
from mulligan.park import Park, ParkOptions
from tests.waiting import eventually

PASSWORD = "park-secret"
ANSWER_S = 10.0


@pytest.fixture(scope="module")
async def park() -> AsyncIterator[Park]:
    # Nothing listens there: these machines need not boot.
    async with Park(ParkOptions(count=6, boot_url="http://127.0.0.1:1", password=PASSWORD)) as running:
        yield running


@pytest.fixture(scope="module")
async def worker() -> AsyncIterator[WorkerProcess]:
    async with working() as process:
        yield process


@asynccontextmanager
async def working(**options: float) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(**options)
    await process.start()
    try:
        yield process
    finally:
        await process.close()


def target(park: Park, number: int) -> BmcTarget:
    bmc = park.bmcs[number]
    return BmcTarget("ipmi", bmc.host, bmc.port, bmc.username, PASSWORD.encode())


async def failure(driver: IpmiDriver, bmc: BmcTarget, timeout_s: float = ANSWER_S) -> BmcFailure:
    with pytest.raises(BmcFailure) as failed:
        await driver.read_power(bmc, timeout_s)
    assert PASSWORD not in failed.value.message
    return failed.value


async def test_power_and_boot_device_are_set_and_read_back(park: Park, worker: WorkerProcess) -> None:
    driver, bmc = IpmiDriver(worker), target(park, 0)
    assert await driver.read_power(bmc, ANSWER_S) is Power.OFF
    assert (await driver.read_boot_device(bmc, ANSWER_S)).name == "default"
    await driver.set_boot_device(bmc, "network", ANSWER_S)
    assert await driver.read_boot_device(bmc, ANSWER_S) == BootDevice("network", persistent=False)
    assert (await park.show(0))["boot_override"] == {"valid": True, "persistent": False, "device": 1}
    for command, power in [(PowerCommand.ON, Power.ON), (PowerCommand.OFF, Power.OFF)]:
        await driver.set_power(bmc, command, ANSWER_S)
        assert await driver.read_power(bmc, ANSWER_S) is power
    await driver.set_power(bmc, PowerCommand.ON, ANSWER_S)
    await driver.set_power(bmc, PowerCommand.SOFT_OFF, ANSWER_S)
    assert await driver.read_power(bmc, ANSWER_S) is Power.OFF
    # The override was for one boot only.
    assert (await driver.read_boot_device(bmc, ANSWER_S)).name == "default"


async def test_a_wrong_password_is_told_apart_while_others_work(park: Park, worker: WorkerProcess) -> None:
    driver, refusing = IpmiDriver(worker), replace(target(park, 1), password=b"another")
    finished = asyncio.Event()

    async def work(number: int) -> None:
        while not finished.is_set():
            assert await driver.read_power(target(park, number), ANSWER_S) is Power.OFF

    async with asyncio.TaskGroup() as group:
        for number in (0, 2, 3):
            group.create_task(work(number))
        reasons = {(await failure(driver, refusing)).reason for _ in range(60)}
        finished.set()
    assert reasons == {"BMC_REFUSED_CREDENTIALS"}


async def test_a_wrong_password_is_told_apart(park: Park, worker: WorkerProcess) -> None:
    driver, bmc = IpmiDriver(worker), target(park, 1)
    refused = await failure(driver, replace(bmc, password=b"another"))
    assert (refused.reason, refused.retryable) == ("BMC_REFUSED_CREDENTIALS", False)
    assert refused.message == (
        f"BMC 127.0.0.1:{bmc.port} refused the password; register it again with the right credentials"
    )
    assert (await failure(driver, replace(bmc, username="nobody"))).reason == "BMC_REFUSED_CREDENTIALS"
    # The same BMC with the right password, and when it was changed behind our back.
    assert await driver.read_power(bmc, ANSWER_S) is Power.OFF
    await park.set_faults(1, wrong_password=True)
    assert (await failure(driver, bmc)).reason == "BMC_REFUSED_CREDENTIALS"
    await park.set_faults(1, wrong_password=False)
    assert await driver.read_power(bmc, ANSWER_S) is Power.OFF


async def test_a_bmc_that_is_away_and_comes_back(park: Park, worker: WorkerProcess) -> None:
    driver, bmc = IpmiDriver(worker), target(park, 2)
    await park.set_faults(2, unreachable=True)
    away = await failure(driver, bmc)
    assert (away.reason, away.retryable) == ("BMC_UNREACHABLE", True)
    await park.set_faults(2, unreachable=False)
    assert await driver.read_power(bmc, ANSWER_S) is Power.OFF


async def test_a_host_name_that_does_not_resolve(worker: WorkerProcess) -> None:
    bmc = BmcTarget("ipmi", "no-such-host.invalid", 623, "admin", b"x")
    assert "does not resolve" in (await failure(IpmiDriver(worker), bmc)).message


async def test_a_bmc_that_hangs_after_login_costs_its_asker_the_deadline_and_others_nothing(
    park: Park, worker: WorkerProcess
) -> None:
    driver = IpmiDriver(worker)
    await park.set_faults(3, hang_after_login=True)
    began = time.monotonic()
    hanging = asyncio.create_task(failure(driver, target(park, 3), 2.0))
    for _ in range(5):
        assert await driver.read_power(target(park, 4), ANSWER_S) is Power.OFF
    assert time.monotonic() - began < 2
    hung = await hanging
    assert (hung.reason, hung.retryable) == ("BMC_UNREACHABLE", True)
    assert "within 2 s" in hung.message
    assert time.monotonic() - began < 4
    # A command that waited behind it and was given up never comes into force.
    with pytest.raises((BmcFailure, Unavailable)):
        await driver.set_power(target(park, 3), PowerCommand.ON, 0.5)
    await park.set_faults(3, hang_after_login=False)
    assert await eventually(lambda: _answers(driver, target(park, 3)), 60)
    assert (await park.show(3))["power_commands"] == 0


async def test_a_command_that_was_given_up_is_not_sent_again(park: Park, worker: WorkerProcess) -> None:
    driver, bmc = IpmiDriver(worker), target(park, 3)
    await park.set_faults(3, hang_after_login=True)
    with pytest.raises(BmcFailure):
        await driver.set_power(bmc, PowerCommand.ON, 2.0)
    await park.set_faults(3, hang_after_login=False)
    # A BMC's questions are put one after another, so this one is answered when nothing of the command is left.
    assert await driver.read_power(bmc, 40) is Power.OFF
    assert (await park.show(3))["power_commands"] == 0


# Fewer than the worker has threads, and more than pyghmi puts on one socket.
@pytest.mark.parametrize("hanging", [20, 100])
async def test_many_bmcs_that_hang_hold_up_no_other_one(worker: WorkerProcess, hanging: int) -> None:
    driver = IpmiDriver(worker)
    async with Park(ParkOptions(count=hanging + 1, boot_url="http://127.0.0.1:1", password=PASSWORD)) as park:
        for number in range(hanging):
            await park.set_faults(number, hang_after_login=True)
        async with asyncio.TaskGroup() as group:
            hung = [group.create_task(failure(driver, target(park, number), 8)) for number in range(hanging)]
            await eventually(lambda: worker.status.in_flight == hanging)
            while not all(each.done() for each in hung):
                assert await driver.read_power(target(park, hanging), 5) is Power.OFF
    assert {each.result().reason for each in hung} == {"BMC_UNREACHABLE"}


async def _answers(driver: IpmiDriver, bmc: BmcTarget) -> bool:
    try:
        return await driver.read_power(bmc, 5.0) is Power.OFF
    except (BmcFailure, Unavailable):
        return False


async def test_many_questions_at_once(park: Park, worker: WorkerProcess) -> None:
    driver = IpmiDriver(worker)
    others = [target(park, number) for number in (0, 1, 4, 5)]
    seen = await asyncio.gather(*[driver.read_power(bmc, 30) for bmc in others * 25])
    assert set(seen) == {Power.OFF}


async def test_a_worker_that_is_killed_is_replaced(park: Park) -> None:
    async with working() as process:
        driver, bmc = IpmiDriver(process), target(park, 5)
        await driver.read_power(bmc, ANSWER_S)
        first = process.status.pid
        assert first is not None
        await park.set_faults(5, delay_s=2.0)
        asking = asyncio.create_task(failure(driver, bmc, 30))
        await eventually(lambda: process.status.in_flight)
        os.kill(first, signal.SIGKILL)
        lost = await asking
        assert (lost.reason, lost.retryable) == ("BMC_COMMAND_FAILED", True)
        await park.set_faults(5, delay_s=0.0)
        assert await driver.read_power(bmc, ANSWER_S) is Power.OFF
        assert process.status.pid not in (None, first)
        assert process.status.restarts == 1


async def test_a_worker_that_stops_answering_is_replaced(park: Park) -> None:
    async with working(ping_every_s=0.2, ping_deadline_s=0.5) as process:
        driver, bmc = IpmiDriver(process), target(park, 5)
        await driver.read_power(bmc, ANSWER_S)
        first = process.status.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await eventually(lambda: process.status.pid not in (None, first))
        assert await driver.read_power(bmc, ANSWER_S) is Power.OFF


async def test_a_worker_with_a_job_that_cannot_end_is_replaced(park: Park) -> None:
    await park.set_faults(3, hang_after_login=True)
    async with working(ping_every_s=0.1, stuck_job_s=0.5) as process:
        hung = await failure(IpmiDriver(process), target(park, 3), 20)
        assert hung.reason == "BMC_COMMAND_FAILED"
        await eventually(lambda: process.status.restarts == 1)
    await park.set_faults(3, hang_after_login=False)


async def test_the_worker_ends_with_its_parent(park: Park) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mulligan.executor.ipmi.worker", stdin=asyncio.subprocess.PIPE
    )
    assert worker.stdin is not None
    worker.stdin.close()
    assert await asyncio.wait_for(worker.wait(), 10) == 0


@pytest.mark.parametrize("worker", ["import sys; sys.stdin.read()", "raise SystemExit(3)"])
async def test_a_bmc_that_the_worker_did_not_ask_is_not_to_blame(worker: str) -> None:
    process = WorkerProcess((sys.executable, "-c", worker))
    await process.start()
    try:
        with pytest.raises(Unavailable):
            await IpmiDriver(process).read_power(BmcTarget("ipmi", "192.0.2.1", 623, "admin", b"x"), 1)
    finally:
        await process.close()


async def test_a_worker_that_never_starts_costs_only_the_deadline() -> None:
    process = WorkerProcess((sys.executable, "-c", "raise SystemExit(3)"))
    await process.start()
    try:
        with pytest.raises((TimeoutError, WorkerLost)):
            await process.ping(0.5)
    finally:
        await process.close()
