"""The transport over the network: grpc.aio with TLS, one channel for each gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from mulligan.client._transport import ConnectionLost, Metadata, NoAnswer, Unreachable
from mulligan.errors import MulliganError, from_status
from mulligan.methods import Method, RequestT, ResponseT, Streaming

_STATUS_DETAILS = "grpc-status-details-bin"

_OPTIONS = (
    # The client retries by itself: it knows which methods may be repeated.
    ("grpc.enable_retries", 0),
    # A gateway that comes back is tried again within seconds, not after grpc's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A host that vanished without a word is noticed. Gateways allow a ping every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 << 20),
)

# What gRPC says when it has no connection to send a request by.
_UNSENT = ("failed to connect to all addresses", "DNS resolution failed")

_KIND = {
    Streaming.NONE: "unary_unary",
    Streaming.SERVER: "unary_stream",
    Streaming.BOTH: "stream_stream",
}


class GrpcTransport:
    """Calls gateways over TLS."""

    def __init__(self, root_certificates: bytes | None) -> None:
        """`root_certificates` in PEM sign the gateways' certificates; None: those of this system."""
        self._credentials = grpc.ssl_channel_credentials(root_certificates)
        self._channels: dict[str, Any] = {}
        self._stubs: dict[tuple[str, Method[Any, Any]], Any] = {}

    async def unary(
        self, address: str, method: Method[RequestT, ResponseT], request: RequestT, metadata: Metadata, timeout_s: float
    ) -> ResponseT:
        stub = self._stubs.get((address, method)) or self._stub(address, method)
        try:
            response: ResponseT = await stub(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _translated(error, address) from None
        return response

    def stream(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        return self._responses(address, method, request, metadata, timeout_s)

    def exchange(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterator[RequestT],
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        return self._responses(address, method, requests, metadata, timeout_s)

    async def _responses(
        self,
        address: str,
        method: Method[RequestT, ResponseT],
        outgoing: RequestT | AsyncIterator[RequestT],
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncIterator[ResponseT]:
        stub = self._stubs.get((address, method)) or self._stub(address, method)
        call = stub(outgoing, timeout=timeout_s, metadata=metadata)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise _translated(error, address) from None
        finally:
            call.cancel()

    def _stub(self, address: str, method: Method[Any, Any]) -> Any:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = grpc.aio.secure_channel(address, self._credentials, _OPTIONS)
        make = getattr(channel, _KIND[method.streaming])
        stub = make(method.path, method.request.SerializeToString, method.response.FromString)
        self._stubs[address, method] = stub
        return stub

    async def close(self) -> None:
        channels = list(self._channels.values())
        self._channels.clear()
        self._stubs.clear()
        for channel in channels:
            await channel.close()


def _translated(error: grpc.aio.AioRpcError, address: str) -> MulliganError:
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS:
            return from_status(Status.FromString(value))
    code, message = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        kind = Unreachable if any(each in message for each in _UNSENT) else ConnectionLost
        return kind(f"no answer from {address}: {_plain(message)}", metadata={"address": address})
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return NoAnswer(f"{address} did not answer in time; allow more, or see `mulligan status`")
    return from_status(Status(code=code.value[0], message=message))


def _plain(message: str) -> str:
    """What went wrong with a connection, without gRPC's own words around it."""
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "its certificate is not signed by the CA file that this client was given"
    if "SSL" in message or "handshake" in message.lower():
        return "it does not speak TLS, or not with this client's CA file"
    if "Connection refused" in message:
        return "connection refused"
    return message or "the connection broke"
