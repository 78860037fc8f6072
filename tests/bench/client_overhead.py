"""What a call through the smart client costs beside the same call through a bare grpc.aio stub.

    python -m tests.bench.client_overhead

The server is a process of its own. Prints one JSON line: microseconds per call, wall time and client CPU, of both.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop

from mulligan.api.resource.v1.claim_pb2 import Claim
from mulligan.api.resource.v1.request_response_pb2 import CreateClaimRequest, CreateClaimResponse
from mulligan.api.resource.v1.resource_client import CREATE_CLAIM
from mulligan.client import Client, Credentials
from mulligan.ids import new_id
from tests.fake_system import EAST, REGIONS, FakeIam, WallClock
from tests.grpc_gateway import Fleet

ROUNDS = 5
CALLS = 3000


class Echo:
    async def create_claim(self, request: CreateClaimRequest) -> CreateClaimResponse:
        return CreateClaimResponse(claim=Claim(region=request.region))


async def serve(folder: Path) -> None:
    fleet = Fleet(folder)
    fleet.regions = REGIONS
    print(await fleet.serve(iam=FakeIam(WallClock()), resource=Echo()), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await fleet.close()


async def measure(call: Callable[[], Awaitable[Any]], callers: int) -> tuple[float, float]:
    """Microseconds per call: wall time and CPU of this process."""

    async def caller() -> None:
        for _ in range(CALLS // callers):
            await call()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    calls = CALLS // callers * callers
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


async def compare(address: str, ca_file: Path, ca: bytes) -> dict[str, float]:
    credentials = grpc.ssl_channel_credentials(ca)
    figures: dict[str, float] = {}
    async with (
        grpc.aio.secure_channel(address, credentials) as channel,
        Client.connect(address, ca_file=ca_file, credentials=Credentials("ada", "secret")) as client,
    ):
        stub = channel.unary_unary(
            CREATE_CLAIM.path, CreateClaimRequest.SerializeToString, CreateClaimResponse.FromString
        )
        token = (("authorization", "Bearer login-1"),)

        async def bare() -> Any:
            return await stub(CreateClaimRequest(region=EAST, request_id=new_id()), timeout=30, metadata=token)

        async def smart() -> Any:
            return await client.resource.create_claim(region=EAST)

        for callers in (1, 16):
            rounds = [(await measure(bare, callers), await measure(smart, callers)) for _ in range(ROUNDS)]
            for index, name in enumerate(("bare", "smart")):
                wall, cpu = (min(each[index][part] for each in rounds) for part in (0, 1))
                figures |= {f"{name}_{callers}_wall_us": round(wall, 1), f"{name}_{callers}_cpu_us": round(cpu, 1)}
    return figures


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.bench.client_overhead",
            folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        address = (await asyncio.wait_for(server.stdout.readline(), 30)).decode().strip()
        ca_file = Path(folder) / "ca.crt"
        print(json.dumps(await compare(address, ca_file, await asyncio.to_thread(ca_file.read_bytes))))
        server.stdin.close()
        await asyncio.wait_for(server.wait(), 30)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])) if len(sys.argv) > 1 else main())
