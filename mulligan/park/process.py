"""Runs a park in a process of its own and talks to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from mulligan.errors import Unavailable
from mulligan.park.server import ParkOptions

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 5.0
CONTROL_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class ParkBmc:
    """How to reach one BMC of a park."""

    number: int
    host: str
    port: int
    mac: str
    username: str
    uuid: str


class Park:
    """`async with Park(ParkOptions(count=3, boot_url=...)) as park:` runs a park; it ends with the block or with us."""

    def __init__(self, options: ParkOptions) -> None:
        """Nothing runs yet."""
        self.options = options
        self.bmcs: list[ParkBmc] = []
        self._control = ""
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Starts it; raises Unavailable when it does not come up."""
        environment = {**os.environ, "MULLIGAN_PARK_PASSWORD": self.options.password}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mulligan.park", *_arguments(self.options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                await self._read_lines(self._process)
        except BaseException as error:
            await self._stop()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the park was not ready within {START_DEADLINE_S:g} s") from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops it."""
        await self._stop()

    async def set_faults(self, number: int, **faults: bool | float) -> dict[str, Any]:
        """Changes faults of one BMC (see Faults), at once; gives what `show` gives."""
        return await self._ask("POST", f"/bmcs/{number}/faults", faults)

    async def show(self, number: int) -> dict[str, Any]:
        """Power, stage (off, firmware, disk, script, home), boot override, faults and counts of one machine."""
        return await self._ask("GET", f"/bmcs/{number}")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        deadline = aiohttp.ClientTimeout(total=CONTROL_DEADLINE_S)
        async with (
            aiohttp.ClientSession(timeout=deadline) as http,
            http.request(method, self._control + path, json=body) as answer,
        ):
            if answer.status != 200:
                raise ValueError(await answer.text())
            found: dict[str, Any] = await answer.json()
            return found

    async def _read_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            found = json.loads(line)
            if found.get("ready"):
                self._control = found["control"]
                return
            self.bmcs.append(ParkBmc(number=len(self.bmcs), **found))
        raise Unavailable("the park ended before it was ready; its standard error says why")

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _arguments(options: ParkOptions) -> list[str]:
    """The password goes by the environment, where other users do not see it."""
    given = {
        "count": options.count,
        "boot-url": options.boot_url,
        "base-port": options.base_port,
        "username": options.username,
        "boot-seconds": options.boot_s,
        "ca": options.ca,
        "site": options.site,
        "faults": json.dumps(asdict(options.faults)),
    }
    return [*(f"--{name}={value}" for name, value in given.items()), "--stop-at-end-of-input"]
