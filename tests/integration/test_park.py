"""The simulated park, driven by clients that share no code with it: pyghmi and, where it is installed, ipmitool."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mulligan.park import Faults, Park, ParkOptions
from mulligan.pki import ensure_ca, ensure_server_certificate
from tests.waiting import eventually

CLIENT_DEADLINE_S = 60.0
PASSWORD = "a park password"


class BootServer:
    """Serves boot scripts with a phone-home URL of their own and takes the calls."""

    def __init__(self) -> None:
        self.url = ""
        self.scripts: Counter[str] = Counter()
        self.reports: list[dict[str, str]] = []
        # How many requests of each kind to refuse first.
        self.refuse_scripts = self.refuse_reports = 0
        self.script = "#!ipxe\nkernel {url}/kernel quiet mulligan.phone_home={url}/home/{mac} console=ttyS0\nboot\n"

    async def boot(self, request: web.Request) -> web.Response:
        mac = request.match_info["mac"]
        self.scripts[mac] += 1
        if self.scripts[mac] <= self.refuse_scripts:
            raise web.HTTPNotFound
        return web.Response(text=self.script.format(url=self.url, mac=mac))

    async def home(self, request: web.Request) -> web.Response:
        if self.refuse_reports:
            self.refuse_reports -= 1
            raise web.HTTPServiceUnavailable
        body = await request.json()
        assert body["mac"] == request.match_info["mac"]
        self.reports.append(body)
        return web.Response(status=204)


@asynccontextmanager
async def boot_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[BootServer]:
    server = BootServer()
    application = web.Application()
    application.add_routes([web.get("/boot/{mac}", server.boot), web.post("/home/{mac}", server.home)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def options(server: BootServer, **changes: Any) -> ParkOptions:
    return ParkOptions(**{"count": 1, "boot_url": server.url, "boot_s": 0.05, "password": PASSWORD, **changes})


async def ipmi(park: Park, number: int, *steps: str, password: str = PASSWORD) -> Any:
    """What pyghmi answers, in a process of its own because it works with threads and module globals."""
    bmc = park.bmcs[number]
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.pyghmi_client", str(bmc.port), bmc.username, password, *steps),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        output, _ = await asyncio.wait_for(client.communicate(), CLIENT_DEADLINE_S)
    finally:
        if client.returncode is None:
            client.kill()
    return json.loads(output)


async def test_power_on_netboots_and_phones_home() -> None:
    async with boot_server() as server, Park(options(server, count=2)) as park:
        answers = await ipmi(park, 1, "status", "boot-network", "boot-device", "on", "status", "boot-device")
        assert [answers[0], answers[4]] == [{"powerstate": "off"}, {"powerstate": "on"}]
        # The override holds for one boot.
        assert (answers[2]["bootdev"], answers[5]["bootdev"]) == ("network", "default")
        await eventually(lambda: server.reports)
        bmc = park.bmcs[1]
        assert server.reports == [{"mac": bmc.mac, "uuid": bmc.uuid}]
        assert dict(server.scripts) == {bmc.mac: 1}
        assert (await park.show(1))["stage"] == "home"
        assert (await park.show(0))["power"] == "off"


async def test_boots_from_disk_without_an_override() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        await ipmi(park, 0, "on")
        assert (await park.show(0))["stage"] == "disk"
        await ipmi(park, 0, "boot-network", "reset")
        await eventually(lambda: server.reports)
        await ipmi(park, 0, "cycle")
        assert [(await park.show(0))[key] for key in ("stage", "boots", "reports")] == ["disk", 3, 1]
        assert sum(server.scripts.values()) == 1


async def test_script_without_a_phone_home_falls_through_to_disk() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        server.script = "#!ipxe\nexit\n"
        await ipmi(park, 0, "boot-network", "on")

        async def gave_up() -> bool:
            return bool((await park.show(0))["stage"] == "disk")

        await eventually(gave_up)
        assert not server.reports


async def test_keeps_trying_while_the_boot_server_refuses() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        server.refuse_scripts = server.refuse_reports = 2
        await ipmi(park, 0, "boot-network", "on")
        await eventually(lambda: server.reports)
        assert server.scripts[park.bmcs[0].mac] == 3


async def test_power_off_ends_the_attempts() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        server.refuse_scripts = 1_000_000
        await ipmi(park, 0, "boot-network", "on")
        await eventually(lambda: server.scripts[park.bmcs[0].mac] >= 2)
        await ipmi(park, 0, "off")
        server.refuse_scripts = 0
        assert (await park.show(0))["stage"] == "off"
        await ipmi(park, 0, "boot-network", "on")
        await eventually(lambda: server.reports)
        assert len(server.reports) == 1


async def test_https_with_a_ca(tmp_path: Path) -> None:
    ensure_ca(tmp_path)
    ensure_server_certificate(tmp_path, ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    async with boot_server(context) as server, Park(options(server)) as stranger:
        await ipmi(stranger, 0, "boot-network", "on")
        async with Park(options(server, ca=str(tmp_path / "ca.crt"), site=1)) as park:
            await ipmi(park, 0, "boot-network", "on")
            await eventually(lambda: server.reports)
            # Without the CA a machine does not talk to the server.
            assert [report["mac"] for report in server.reports] == [park.bmcs[0].mac]
            assert (await stranger.show(0))["scripts"] == 0


async def test_bmc_tells_inventory_sensors_and_events() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        inventory, sensors, _, events = await ipmi(park, 0, "inventory", "sensors", "on", "events")
        assert inventory["Serial Number"] == f"PARK-{park.bmcs[0].mac.replace(':', '')}"
        assert inventory["UUID"].lower() == park.bmcs[0].uuid
        assert [(name, value) for name, value, _ in sensors] == [("CPU Temp", 42.0), ("Fan 1", 6000.0)]
        assert events == 1


async def test_wrong_password_and_unknown_user_are_refused() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        assert "Incorrect password" in (await ipmi(park, 0, "status", password="wrong"))["error"]
        await park.set_faults(0, wrong_password=True)
        assert "Incorrect password" in (await ipmi(park, 0, "status"))["error"]
        await park.set_faults(0, wrong_password=False)
        assert await ipmi(park, 0, "status") == [{"powerstate": "off"}]


async def test_lying_power_accepts_and_does_nothing() -> None:
    async with boot_server() as server, Park(options(server, faults=Faults(lying_power=True))) as park:
        answers = await ipmi(park, 0, "on", "status")
        assert answers == [{"pendingpowerstate": "on"}, {"powerstate": "off"}]
        assert (await park.show(0))["power_commands"] == 1


async def test_silent_machine_fetches_its_script_only() -> None:
    async with boot_server() as server, Park(options(server, count=2)) as park:
        await park.set_faults(0, never_phones_home=True)
        await asyncio.gather(*(ipmi(park, number, "boot-network", "on") for number in (0, 1)))
        await eventually(lambda: server.reports)
        await eventually(lambda: len(server.scripts) == 2)
        assert [report["mac"] for report in server.reports] == [park.bmcs[1].mac]
        assert (await park.show(0))["stage"] == "script"


async def test_slow_answers_still_arrive() -> None:
    async with boot_server() as server, Park(options(server, faults=Faults(delay_s=0.3))) as park:
        clock = asyncio.get_running_loop().time
        before = clock()
        assert await ipmi(park, 0, "on") == [{"pendingpowerstate": "on"}]
        assert clock() - before > 5 * 0.3
        assert (await park.show(0))["boots"] == 1


async def test_unreachable_bmc_fails_its_client_and_no_other() -> None:
    async with boot_server() as server, Park(options(server, count=2)) as park:
        await park.set_faults(0, unreachable=True)
        silent = asyncio.create_task(ipmi(park, 0, "status"))
        assert await ipmi(park, 1, "status") == [{"powerstate": "off"}]
        assert not silent.done()
        assert "error" in await silent


async def test_hanging_bmc_keeps_its_client_waiting_until_it_is_mended() -> None:
    async with boot_server() as server, Park(options(server, count=2)) as park:
        await park.set_faults(0, hang_after_login=True)
        hanging = asyncio.create_task(ipmi(park, 0, "status"))
        assert await ipmi(park, 1, "status") == [{"powerstate": "off"}]
        assert not hanging.done()
        await park.set_faults(0, hang_after_login=False)
        assert await hanging == [{"powerstate": "off"}]


async def test_control_refuses_nonsense() -> None:
    async with boot_server() as server, Park(options(server)) as park:
        with pytest.raises(ValueError, match="unknown fault"):
            await park.set_faults(0, nonsense=True)
        with pytest.raises(ValueError, match="count from 0"):
            await park.show(1)


async def test_many_machines_boot_at_once() -> None:
    count = 60
    async with boot_server() as server, Park(options(server, count=count)) as park:
        ports = [str(bmc.port) for bmc in park.bmcs]
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.pyghmi_fleet", "admin", PASSWORD, *ports),
            cwd=Path(__file__).parents[2],
        )
        assert await asyncio.wait_for(client.wait(), CLIENT_DEADLINE_S) == 0
        await eventually(lambda: len(server.reports) == count)
        assert {report["mac"] for report in server.reports} == {bmc.mac for bmc in park.bmcs}


@pytest.mark.skipif(not shutil.which("ipmitool"), reason="ipmitool is not installed")
@pytest.mark.parametrize("suite", ["3", "17"])
async def test_ipmitool_agrees(suite: str) -> None:
    async with boot_server() as server, Park(options(server)) as park:
        base = ["ipmitool", "-I", "lanplus", "-C", suite, "-H", "127.0.0.1", "-p", str(park.bmcs[0].port)]
        told = {}
        for step in ("chassis bootdev pxe", "power on", "power status", "fru print", "sel list", "sensor"):
            client = await asyncio.create_subprocess_exec(
                *(*base, "-U", "admin", "-P", PASSWORD, *step.split()), stdout=asyncio.subprocess.PIPE
            )
            output, _ = await asyncio.wait_for(client.communicate(), CLIENT_DEADLINE_S)
            assert client.returncode == 0
            told[step] = output.decode()
        assert told["power status"] == "Chassis Power is on\n"
        assert "PARK-520000000000" in told["fru print"]
        assert "Power Unit" in told["sel list"]
        assert "42.000" in told["sensor"]
        await eventually(lambda: server.reports)
