"""The gRPC server: TLS, HTTP/2 settings, and one door that every call comes in by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc

from gateways.authentication import Metadata
from gateways.failures import Refusal
from gateways.limits import draining
from gateways.tls import ServerCertificate
from mulligan.errors import InternalError, MulliganError, Unavailable, Unimplemented
from mulligan.iam.tokens import MAX_TOKEN_CHARACTERS
from mulligan.runtime_settings import MAX_REQUEST_BYTES

log = logging.getLogger(__name__)

# Makes the handler of one call from its metadata; raises what the caller is to be told instead.
Admit = Callable[[Metadata], Any]

# With room for what a gateway refuses with a reason of its own.
MAX_MESSAGE_BYTES: Final = MAX_REQUEST_BYTES + 1024 * 1024

# The largest token that is looked at, with room for what else comes along.
MAX_METADATA_BYTES: Final = MAX_TOKEN_CHARACTERS + 8 * 1024

# Seconds in which callers who try again gather at the closed door, that peers then get to learn that the server
# goes, and that calls which do not count may take after that.
GATHER_S: Final = 0.1
GOODBYE_S: Final = 0.05
STOP_GRACE_S: Final = 0.5

OPTIONS: Final = (
    # Two generations of a gateway share the port while one takes over from the other.
    ("grpc.so_reuseport", 1),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Of the ways to compress none: what a request takes in memory came over the network.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # From the first on calls are refused at random, from the second on always.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES + MAX_METADATA_BYTES // 4),
    # A peer that is gone is noticed in 40 seconds; one that pings more often than every ten is shut out.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 900_000),
)


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the method of a call and lets it in, before its request is read: a refused caller cannot fill memory."""

    def __init__(self, entries: Mapping[str, Admit], standard: Mapping[str, Admit]) -> None:
        """By path; the `standard` ones are open while the gateway drains, too."""
        self._entries: dict[str, Admit] = {**entries, **standard}
        self._standard = dict(standard)
        self._left = asyncio.Event()

    def close(self) -> None:
        """Refuses every new call, but not at once: see `leave`."""
        self._entries = dict.fromkeys(self._entries, self._refuse_late) | self._standard

    def leave(self) -> None:
        """Refuses those that were held back, now that peers know that this server goes: they come back elsewhere.

        Refused any sooner they would try again here, and a call that comes in while gRPC shuts down is cancelled.
        """
        self._left.set()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler of this call, or one that refuses it."""
        admit = self._entries.get(details.method)
        try:
            if admit is None:
                raise Unimplemented(
                    f"this gateway serves no method {details.method[:200]}; the catalogue tells who does"
                )
            return admit(details.invocation_metadata)
        except MulliganError as error:
            return Refusal(error)
        except Exception:
            log.exception("method=%s failed in the gateway", details.method)
            return Refusal(InternalError("the gateway failed on this request; its log says why"))

    def _refuse_late(self, _metadata: Metadata) -> Any:
        return Refusal(draining(), after=self._left)


class GatewayServer:
    """One listening address."""

    def __init__(self, host: str, port: int, certificate: ServerCertificate, door: Door) -> None:
        """Port 0 takes a free one; `start` tells which."""
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._certificate = certificate
        self._door = door
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Serves; returns the port. Raises Unavailable when the address cannot be bound."""
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((self._door,))
        address = f"{self._host}:{self._port}"
        try:
            port: int = server.add_secure_port(address, self._certificate.credentials())
        except RuntimeError as error:
            raise Unavailable(
                f"{address} cannot be listened on ({error}); stop what holds it, or choose another port"
            ) from None
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Takes no more connections, tells peers to go, and cancels what is not done soon after."""
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.sleep(GATHER_S)
            stopped = asyncio.create_task(server.stop(STOP_GRACE_S))
            await asyncio.sleep(GOODBYE_S)
            self._door.leave()
            await stopped
