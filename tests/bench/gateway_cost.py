"""CPU that a gateway spends on one unary request, beside a bare grpc.aio echo. Both speak TLS on uvloop.

    python -m tests.bench.gateway_cost [callers] [seconds]

The gateway is measured twice: before a shard that answers at once, so that hardly anything travels together, and
before one that takes 3 ms, as an actor that commits to a database does. Its shards are in its own process.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import grpc
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from actors.health import ComponentHealth
from gateways.assembly import Address, Gateway, Stores
from gateways.gateway import SERVICES
from gateways.server import OPTIONS
from gateways.tls import ServerCertificate
from mulligan.api.resource.v1 import claim_pb2, request_response_pb2
from mulligan.clock import now_us
from mulligan.ids import new_id
from mulligan.pki import ensure_ca, ensure_server_certificate
from tests.gateway_parts import KEY_ID, MEMBER, MemoryStores, Shards, Signer, bearer, region

METHOD = "/mulligan.resource.v1.ResourceService/CreateClaim"
ROUNDS = 3


def request_bytes(region_id: str) -> bytes:
    """A claim for three resources."""
    constraints = [claim_pb2.ResourceConstraint(resource_type=name, min=1) for name in ("cpu", "memory", "disk")]
    spec = claim_pb2.ClaimSpec(consumer=new_id(), groups=[claim_pb2.RequestGroup(name="a", resources=constraints)])
    request = request_response_pb2.CreateClaimRequest(request_id=new_id(), region=region_id, spec=spec)
    return request.SerializeToString()


async def _no_health(_actor: str, _timeout_s: float) -> list[ComponentHealth]:
    return []


async def _start_gateway(folder: Path, latency_s: float) -> tuple[object, int]:
    signer = Signer()
    signer.key = cast(Any, load_pem_private_key((folder / "signer.pem").read_bytes(), None))
    stores = MemoryStores()
    stores.keys.put(KEY_ID, signer.jwk)
    stores.regions.put((folder / "region").read_text(), (folder / "region.json").read_bytes())
    shards = Shards(lambda _shard, _method, _caller, request: (0, request), latency_s=latency_s)
    at = Address("127.0.0.1", 0, folder)
    gateway = Gateway(SERVICES["resource"], cast(Stores, stores), shards, _no_health, at, now_us)
    return gateway, await gateway.start()


async def _start_echo(folder: Path) -> tuple[object, int]:
    async def say(request: bytes, _context: Any) -> bytes:
        return request

    server = grpc.aio.server(options=OPTIONS)
    service, _, name = METHOD[1:].rpartition("/")
    handlers = {name: grpc.unary_unary_rpc_method_handler(say)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_secure_port("127.0.0.1:0", ServerCertificate(folder).credentials())
    await server.start()
    return server, port


async def _serve(kind: str, folder: Path) -> None:
    """Tells the port, then on each line of standard input the CPU seconds used so far."""
    if kind == "echo":
        server, port = await _start_echo(folder)
    else:
        server, port = await _start_gateway(folder, 0.003 if kind == "gateway, 3 ms" else 0.0)
    print(port, flush=True)
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime + usage.ru_stime, flush=True)
    del server


async def _measure(kind: str, folder: Path, token: str, callers: int, seconds: float) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.gateway_cost", "serve", kind, str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    request = request_bytes((folder / "region").read_text())
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        call = channel.unary_unary(METHOD)

        async def caller(end: float) -> int:
            done = 0
            while time.perf_counter() < end:
                await call(request, metadata=bearer(token), timeout=30)
                done += 1
            return done

        await caller(time.perf_counter() + 0.5)
        for _ in range(ROUNDS):
            server.stdin.write(b"\n")
            before, began = float(await server.stdout.readline()), time.perf_counter()
            done = sum(await asyncio.gather(*[caller(began + seconds) for _ in range(callers)]))
            took = time.perf_counter() - began
            server.stdin.write(b"\n")
            spent = float(await server.stdout.readline()) - before
            print(f"{kind:14} {callers} callers {done / took:6.0f}/s  server CPU {spent / done * 1e6:4.0f} us/request")
    server.stdin.close()
    await server.wait()


async def _compare(callers: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ensure_ca(folder)
        ensure_server_certificate(folder, ["127.0.0.1"])
        signer, record = Signer(), region()
        (folder / "region").write_text(record.id)
        (folder / "region.json").write_bytes(record.to_json())
        (folder / "signer.pem").write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        token = signer.token(signer.caller(MEMBER, project=new_id()))
        for kind in ("echo", "gateway, 0 ms", "gateway, 3 ms"):
            await _measure(kind, folder, token, callers, seconds)


def main() -> None:
    """Compares, or serves as a child of the comparison."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        uvloop.run(_serve(arguments[1], Path(arguments[2])))
    else:
        uvloop.run(_compare(int(arguments[0]) if arguments else 64, float(arguments[1]) if arguments[1:] else 3.0))


if __name__ == "__main__":
    main()
