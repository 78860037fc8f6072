"""The IPMI driver against ipmi_sim (Debian: openipmi), a BMC that shares no code with us or with pyghmi."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mulligan.executor.drivers import BmcFailure, BmcTarget, Power, PowerCommand
from mulligan.executor.ipmi.driver import IpmiDriver
from mulligan.executor.ipmi.process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("ipmi_sim") is None, reason="ipmi_sim (package openipmi) is not installed")

ANSWER_S = 20.0

LAN = """name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid {port:032x}
  endlan
  chassis_control "{chassis} x"
  user 2 true "admin" "secret" admin 64 none md2 md5 straight
"""
EMULATED = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""
# Keeps power and boot device in files; a soft shutdown is ignored, as by an operating system without ACPI.
CHASSIS = """#!/bin/sh
cd {folder}; shift
echo "$@" >> calls
case "$1 $2" in
  "get power") echo "power:$(cat power 2>/dev/null || echo 0)";;
  "set power") echo "$3" > power;;
  "get boot") echo "boot:$(cat boot 2>/dev/null || echo default)";;
  "set boot") echo "$3" > boot;;
esac
"""


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[BmcTarget]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "state").mkdir()
    (folder / "lan.conf").write_text(LAN.format(port=port, chassis=folder / "chassis"))
    (folder / "bmc.emu").write_text(EMULATED)
    (folder / "chassis").write_text(CHASSIS.format(folder=folder))
    (folder / "chassis").chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("ipmi_sim", "-n", "-c", "lan.conf", "-f", "bmc.emu", "-s", "state"),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield BmcTarget("ipmi", "127.0.0.1", port, "admin", b"secret")
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def worker() -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess()
    await process.start()
    yield process
    await process.close()


async def test_every_verb_and_every_refusal(tmp_path: Path, worker: WorkerProcess) -> None:
    driver = IpmiDriver(worker)
    async with simulated(tmp_path) as bmc:
        assert await eventually(lambda: _answers(driver, bmc), 30)
        await driver.set_boot_device(bmc, "network", ANSWER_S)
        assert (await driver.read_boot_device(bmc, ANSWER_S)).name == "network"
        await driver.set_power(bmc, PowerCommand.ON, ANSWER_S)
        assert await driver.read_power(bmc, ANSWER_S) is Power.ON
        await driver.set_power(bmc, PowerCommand.SOFT_OFF, ANSWER_S)
        assert await driver.read_power(bmc, ANSWER_S) is Power.ON
        await driver.set_power(bmc, PowerCommand.OFF, ANSWER_S)
        assert await driver.read_power(bmc, ANSWER_S) is Power.OFF
        calls = (tmp_path / "calls").read_text().splitlines()
        assert [call for call in calls if call.startswith("set")] == [
            "set boot pxe",
            "set power 1",
            "set shutdown 1",
            "set power 0",
        ]
        for other in (replace(bmc, password=b"another"), replace(bmc, username="nobody")):
            with pytest.raises(BmcFailure) as refused:
                await driver.set_power(other, PowerCommand.ON, ANSWER_S)
            assert (refused.value.reason, refused.value.retryable) == ("BMC_REFUSED_CREDENTIALS", False)
        assert await driver.read_power(bmc, ANSWER_S) is Power.OFF


async def _answers(driver: IpmiDriver, bmc: BmcTarget) -> bool:
    try:
        return await driver.read_power(bmc, 5) is Power.OFF
    except BmcFailure:
        return False
