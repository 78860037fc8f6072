"""A bare unary gRPC echo and its load: what the same library and the same callers reach with nothing behind it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import grpc
import uvloop

METHOD = "/mulligan.bench.Echo/Say"


async def _say(request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return request


async def serve() -> None:
    """Serves echoes on a free port of 127.0.0.1, prints the port, and ends when standard input does."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(_say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mulligan.bench.Echo", {"Say": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(grace=1)


async def run_callers(callers: int, seconds: float, call: Callable[[], Awaitable[None]]) -> list[float]:
    """Runs `callers` loops of `call` for `seconds`; answers the duration of each call in seconds, sorted."""
    durations: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while (begun := time.perf_counter()) < end:
            await call()
            durations.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return sorted(durations)


async def load(port: int, callers: int, seconds: float, payload: bytes) -> float:
    """Echoes per second that `callers` reach together."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        say = channel.unary_unary(METHOD)

        async def call() -> None:
            await say(payload, timeout=30)

        return len(await run_callers(callers, seconds, call)) / seconds


if __name__ == "__main__":
    uvloop.run(serve())
