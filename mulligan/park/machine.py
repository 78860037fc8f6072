"""A simulated machine: powered by its BMC, it boots over HTTP and phones home, for real."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import NAMESPACE_OID, UUID, uuid5

import aiohttp

log = logging.getLogger(__name__)

NETWORK = 1

# The kernel argument that says where to report.
PHONE_HOME = re.compile(r"\bmulligan\.phone_home=(\S+)")

REQUEST_DEADLINE_S = 10.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LONGEST_SCRIPT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class BootOverride:
    """Which device to boot from next, as set through the BMC."""

    valid: bool = False
    persistent: bool = False
    device: int = 0


class Machine:
    """Powered off at first. Without an override it boots from disk, which does nothing that shows outside."""

    def __init__(self, mac: str, http: aiohttp.ClientSession, boot_url: str, boot_s: float) -> None:
        """`boot_s` is how long firmware takes before it fetches the boot script, in seconds."""
        self.mac = mac
        self.uuid: UUID = uuid5(NAMESPACE_OID, mac)
        self.powered = False
        self.boot_override = BootOverride()
        self.silent: Callable[[], bool] = lambda: False
        self.on_power: Callable[[bool], None] = lambda power_on: None
        # What happened so far, for those who want to check.
        self.power_commands = self.boots = self.scripts = self.reports = 0
        # off, firmware, disk, script (fetched), home (reported).
        self.stage = "off"
        self._http = http
        self._boot_url = boot_url.rstrip("/")
        self._boot_s = boot_s
        self._booting: asyncio.Task[None] | None = None

    def set_boot_override(self, *, valid: bool, persistent: bool, device: int) -> None:
        """Holds for the next boot, or for all when persistent."""
        self.boot_override = BootOverride(valid, persistent, device)

    def power_on(self) -> None:
        """Boots, unless it is on already."""
        if not self.powered:
            self.powered = True
            self.on_power(True)
            self._boot()

    def power_off(self) -> None:
        """Whatever it was doing ends."""
        if self.powered:
            self.powered = False
            self.on_power(False)
        self._stop()
        self.stage = "off"

    def reset(self) -> None:
        """Boots anew; has no effect on a machine that is off."""
        if self.powered:
            self._boot()

    def _stop(self) -> None:
        if self._booting is not None:
            self._booting.cancel()
            self._booting = None

    def _boot(self) -> None:
        self._stop()
        self.boots += 1
        override = self.boot_override
        if override.valid and not override.persistent:
            self.boot_override = BootOverride()
        self.stage = "firmware"
        if override.valid and override.device == NETWORK:
            self._booting = asyncio.get_running_loop().create_task(self._boot_from_network(), name=f"boot {self.mac}")
            self._booting.add_done_callback(self._on_end)
        else:
            self.stage = "disk"

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("mac=%s boot failed", self.mac, exc_info=error)

    async def _boot_from_network(self) -> None:
        await asyncio.sleep(self._boot_s)
        script = await self._until_done(self._fetch_script)
        self.scripts += 1
        found = PHONE_HOME.search(script)
        if found is None:
            self.stage = "disk"
            return
        self.stage = "script"
        if not self.silent():
            await self._until_done(lambda: self._report(found.group(1)))
            self.reports += 1
            self.stage = "home"

    async def _fetch_script(self) -> str | None:
        async with self._http.get(f"{self._boot_url}/boot/{self.mac}") as answer:
            if answer.status != 200:
                log.info("mac=%s boot script refused: status=%d", self.mac, answer.status)
                return None
            return (await answer.content.read(LONGEST_SCRIPT_BYTES)).decode(errors="replace")

    async def _report(self, url: str) -> str | None:
        body = {"mac": self.mac, "uuid": str(self.uuid)}
        async with self._http.post(url, json=body) as answer:
            if answer.status >= 300:
                log.info("mac=%s report refused: status=%d", self.mac, answer.status)
                return None
            return "done"

    async def _until_done(self, attempt: Callable[[], Awaitable[str | None]]) -> str:
        """Repeats with growing pauses, as long as the machine is on, until the attempt gives something."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(REQUEST_DEADLINE_S):
                    if result := await attempt():
                        return result
            except (aiohttp.ClientError, OSError) as error:
                log.info("mac=%s no answer: %s", self.mac, error or type(error).__name__)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
