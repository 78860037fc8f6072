"""The park's process: N BMCs on UDP, their machines, and a small HTTP control to break them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from mulligan.errors import InvalidArgument
from mulligan.park.bmc import Bmc
from mulligan.park.faults import Faults
from mulligan.park.machine import Machine

HOST = "127.0.0.1"
MOST_BMCS = 4096
DEFAULT_PASSWORD = "park-password"


@dataclass(frozen=True, slots=True)
class ParkOptions:
    """What a park consists of."""

    count: int
    # Where machines fetch `<boot_url>/boot/<mac>`.
    boot_url: str
    # UDP port of the first BMC, the others follow; 0: free ones.
    base_port: int = 0
    username: str = "admin"
    password: str = field(default=DEFAULT_PASSWORD, repr=False)
    # How long firmware takes before it fetches the boot script.
    boot_s: float = 1.0
    # CA certificate that the boot endpoint's is checked with, when the URL is https.
    ca: str = ""
    # Second byte of every MAC address, so that several parks differ.
    site: int = 0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Raises InvalidArgument for what cannot be."""
        if not 1 <= self.count <= MOST_BMCS:
            raise InvalidArgument(f"count must lie between 1 and {MOST_BMCS}", field="count")
        if not 0 <= self.base_port <= 65_536 - self.count:
            raise InvalidArgument("base_port and the ports that follow must lie below 65536", field="base_port")
        if not 0 <= self.site <= 255:
            raise InvalidArgument("site must lie between 0 and 255", field="site")
        if not self.boot_url.startswith(("http://", "https://")):
            raise InvalidArgument("boot_url must start with http:// or https://", field="boot_url")


class _Endpoint(asyncio.DatagramProtocol):
    """One BMC's UDP socket."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
        if self._bmc.faults.delay_s:
            asyncio.get_running_loop().call_later(self._bmc.faults.delay_s, self._answer, data, peer)
        else:
            self._answer(data, peer)

    def _answer(self, data: bytes, peer: tuple[Any, ...]) -> None:
        answer = self._bmc.handle(data)
        if answer is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, peer)


def run_park(options: ParkOptions, stop_at_end_of_input: bool = False) -> None:
    """Runs a park until SIGTERM or SIGINT. Prints a JSON line for each BMC, then one with `ready` and `control`."""
    asyncio.run(_run(options, stop_at_end_of_input))


async def _run(options: ParkOptions, stop_at_end_of_input: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(options) as (bmcs, control):
        for line in bmcs:
            print(json.dumps(line))
        print(json.dumps({"ready": True, "count": len(bmcs), "control": control}), flush=True)
        if stop_at_end_of_input:
            loop.add_reader(sys.stdin, _stop_at_end, stopped.set)
        await stopped.wait()


def _stop_at_end(stop: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin)
        stop()


@asynccontextmanager
async def serving(options: ParkOptions) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
    """Serves a park; gives what is known of each BMC and the URL of the control."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(_http_client(options))
        bmcs = [_make_bmc(options, number, http) for number in range(options.count)]
        for bmc in bmcs:
            stack.callback(bmc.machine.power_off)
        lines = [await _listen(stack, options, number, bmc) for number, bmc in enumerate(bmcs)]
        yield lines, await _serve_control(stack, bmcs)


def _http_client(options: ParkOptions) -> aiohttp.ClientSession:
    context: ssl.SSLContext | bool = True
    if options.ca:
        context = ssl.create_default_context(cafile=options.ca)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100, ssl=context))


def _make_bmc(options: ParkOptions, number: int, http: aiohttp.ClientSession) -> Bmc:
    mac = f"52:{options.site:02x}:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))
    machine = Machine(mac, http, options.boot_url, options.boot_s)
    bmc = Bmc(machine, options.username, options.password, options.faults)
    machine.silent = lambda: bmc.faults.never_phones_home
    return bmc


async def _listen(stack: AsyncExitStack, options: ParkOptions, number: int, bmc: Bmc) -> dict[str, Any]:
    port = options.base_port + number if options.base_port else 0
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Endpoint(bmc), local_addr=(HOST, port)
    )
    stack.callback(transport.close)
    machine = bmc.machine
    return {
        "host": HOST,
        "port": transport.get_extra_info("sockname")[1],
        "mac": machine.mac,
        "username": options.username,
        "uuid": str(machine.uuid),
    }


async def _serve_control(stack: AsyncExitStack, bmcs: list[Bmc]) -> str:
    """`GET /bmcs/<n>` and `POST /bmcs/<n>/faults`, on loopback."""

    async def show(request: web.Request) -> web.Response:
        return web.json_response(_view(_bmc_of(request, bmcs)))

    async def set_faults(request: web.Request) -> web.Response:
        bmc = _bmc_of(request, bmcs)
        try:
            bmc.faults = bmc.faults.changed(await request.json())
        except (InvalidArgument, ValueError, AttributeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response(_view(bmc))

    application = web.Application()
    application.add_routes([web.get("/bmcs/{number}", show), web.post("/bmcs/{number}/faults", set_faults)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, HOST, 0).start()
    return f"http://{HOST}:{runner.addresses[0][1]}"


def _bmc_of(request: web.Request, bmcs: list[Bmc]) -> Bmc:
    number = request.match_info["number"]
    if not number.isdecimal() or int(number) >= len(bmcs):
        raise web.HTTPNotFound(text=f"BMCs count from 0 to {len(bmcs) - 1}")
    return bmcs[int(number)]


def _view(bmc: Bmc) -> dict[str, Any]:
    machine = bmc.machine
    return {
        "mac": machine.mac,
        "power": "on" if machine.powered else "off",
        "stage": machine.stage,
        "boot_override": asdict(machine.boot_override),
        "power_commands": machine.power_commands,
        "boots": machine.boots,
        "scripts": machine.scripts,
        "reports": machine.reports,
        "faults": asdict(bmc.faults),
    }


def log_to_stderr() -> None:
    """Standard output belongs to the JSON lines."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
