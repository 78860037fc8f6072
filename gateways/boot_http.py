"""The boot endpoint's HTTP side: what firmware and freshly booted machines ask. Not an API, and not authenticated:
a machine is known by its MAC address until it has a one-time token.

    GET  /boot/<mac>          the machine's iPXE script, while it is being provisioned
    GET  /boot/files/<name>   a file from <state_dir>/boot: the default kernel and initrd
    POST /phone-home/<token>  204 once, 410 from then on
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from mulligan.api.internal.v1.boot_pb2 import (
    BootScriptRequest,
    BootScriptResponse,
    PhoneHomeRequest,
    PhoneHomeResponse,
)
from mulligan.errors import FailedPrecondition, InvalidArgument, MulliganError, NotFound

log = logging.getLogger(__name__)

# What a machine tells is short; more is not read.
MAX_BODY_BYTES: Final = 64 * 1024
MAX_REPORT_BYTES: Final = 4096
BODY_DEADLINE_S: Final = 10.0
MAX_LINE_BYTES: Final = 4096

# What requests under way get when the endpoint closes.
SHUTDOWN_S: Final = 5.0

# One address asks no more than this. Many machines may share one, behind a router.
REQUESTS_PER_SECOND: Final = 100.0
BURST: Final = 500
MAX_ADDRESSES: Final = 10_000

# Beyond this, machines are asked to come again.
MAX_IN_FLIGHT: Final = 256

_NO_SCRIPT = "#!ipxe\n# no machine with this MAC address is being provisioned\nexit\n"
_RETRY = {"Retry-After": "1"}


class BootCalls(Protocol):
    """What is asked of the control service; both raise MulliganError."""

    async def boot_script(self, request: BootScriptRequest) -> BootScriptResponse:
        """The script of a machine."""

    async def phone_home(self, request: PhoneHomeRequest) -> PhoneHomeResponse:
        """Takes a token."""


class RateLimit:
    """A token bucket for each address; the longest unseen is forgotten first."""

    def __init__(
        self,
        per_second: float = REQUESTS_PER_SECOND,
        burst: int = BURST,
        most: int = MAX_ADDRESSES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is in seconds."""
        self._per_second = per_second
        self._burst = float(burst)
        self._most = most
        self._now = now
        # Address to (tokens left, when).
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Takes a token of the address; False when it has none."""
        now = self._now()
        left, seen = self._buckets.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - seen) * self._per_second)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return allowed


class BootSite:
    """Answers machines."""

    def __init__(self, calls: BootCalls, files: Path, base_url: Callable[[], str], limit: RateLimit) -> None:
        """`base_url` tells where machines reach this endpoint; `files` is the folder of the default kernel."""
        self._calls = calls
        self._files = files
        self._base_url = base_url
        self._limit = limit
        self.in_flight = 0

    def application(self) -> web.Application:
        """The routes behind their limits."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._limited])
        application.add_routes(
            [
                web.get(r"/boot/files/{name:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}}", self._file),
                # Asking for a script voids the one before, so HEAD is no harmless question.
                web.get(r"/boot/{mac:[0-9A-Fa-f:-]{17}}", self._script, allow_head=False),
                web.post(r"/phone-home/{token:[A-Za-z0-9_-]{16,128}}", self._phone_home),
            ]
        )
        return application

    @web.middleware
    async def _limited(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not self._limit.allows(request.remote or ""):
            return web.Response(status=429, text="too many requests from this address; come again\n", headers=_RETRY)
        if self.in_flight >= MAX_IN_FLIGHT:
            return web.Response(status=503, text="busy; come again\n", headers=_RETRY)
        self.in_flight += 1
        try:
            return await handler(request)
        except MulliganError as error:
            # The path may hold a token and stays out of the log.
            log.warning("route=%s refused: %s", _route(request), error)
            return web.Response(status=503, text="not now; come again\n", headers=_RETRY)
        except TimeoutError:
            return web.Response(status=408, text="the request took too long; send it again\n")
        finally:
            self.in_flight -= 1

    async def _script(self, request: web.Request) -> web.Response:
        mac = request.match_info["mac"]
        try:
            answer = await self._calls.boot_script(BootScriptRequest(mac=mac, base_url=self._base_url()))
        except (NotFound, InvalidArgument):
            return web.Response(status=404, text=_NO_SCRIPT)
        log.info("mac=%s address=%s fetched its boot script", mac, request.remote)
        return web.Response(text=answer.script, headers={"Cache-Control": "no-store"})

    async def _phone_home(self, request: web.Request) -> web.Response:
        async with asyncio.timeout(BODY_DEADLINE_S):
            body = await request.content.read(MAX_REPORT_BYTES)
        call = PhoneHomeRequest(
            token=request.match_info["token"],
            address=request.remote or "",
            report=body.decode(errors="replace"),
        )
        try:
            answer = await self._calls.phone_home(call)
        except NotFound:
            return web.Response(status=404, text="this token is not known\n")
        except FailedPrecondition as error:
            return web.Response(status=410, text=f"{error.message}\n")
        log.info("machine=%s address=%s phoned home", answer.machine, request.remote)
        return web.Response(status=204)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self._files / request.match_info["name"]
        if not await asyncio.to_thread(path.is_file):
            return web.Response(status=404, text="there is no such file in the boot folder of this endpoint\n")
        return web.FileResponse(path)


class BootServer:
    """The site on a listening address."""

    def __init__(self, site: BootSite) -> None:
        """Nothing listens yet."""
        self._site = site
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; port 0 takes a free one. Returns the port. Two generations may share it."""
        runner = web.AppRunner(
            self._site.application(),
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, host, port, reuse_port=True).start()
        return int(runner.addresses[0][1])

    async def close(self, deadline_s: float) -> None:
        """Stops listening and finishes what is in flight."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            async with asyncio.timeout(deadline_s):
                await runner.cleanup()


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
