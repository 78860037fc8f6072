"""Failures on their way out: as a status with the whole google.rpc.Status in the trailing metadata."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from mulligan.dispatch import Reply
from mulligan.errors import InternalError, MulliganError, to_status

log = logging.getLogger(__name__)

DETAILS_KEY: Final = "grpc-status-details-bin"

# Peers refuse more than 8 KiB of metadata; base64 and percent-encoding make both of these longer on the wire.
MAX_STATUS_BYTES: Final = 4000
MAX_TEXT_BYTES: Final = 500

# Seconds that a refusal is held back at most.
HOLD_S: Final = 0.3

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def as_reply(error: MulliganError) -> Reply:
    """The failure in the form in which a shard answers one."""
    return error.code, to_status(error).SerializeToString()


def unexpected(path: str, error: Exception) -> Reply:
    """What is told of a mistake of ours; the log has the rest."""
    log.error("method=%s failed in the gateway", path, exc_info=error)
    return as_reply(InternalError("the gateway failed on this request; its log says why"))


async def abort(context: grpc.aio.ServicerContext[Any, Any], code: int, payload: bytes) -> NoReturn:
    """Ends the call with a shard's failure; does not return."""
    status = _parsed(payload)
    _shorten(status)
    text = _cut(status.message, MAX_TEXT_BYTES)
    trailing = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(_CODES.get(code, grpc.StatusCode.UNKNOWN), text, trailing)
    raise AssertionError("abort raises")


def _shorten(status: Status) -> None:
    """Makes it fit. The first detail has the reason, which counts for more than the message's end."""
    while len(status.details) > 1 and status.ByteSize() > MAX_STATUS_BYTES:
        del status.details[-1]
    excess = status.ByteSize() - MAX_STATUS_BYTES
    if excess > 0:
        status.message = _cut(status.message, max(MAX_TEXT_BYTES, len(status.message.encode()) - excess))
    if status.ByteSize() > MAX_STATUS_BYTES:
        del status.details[:]


def _cut(text: str, most: int) -> str:
    """Its beginning, in so many bytes at most."""
    return text.encode()[:most].decode(errors="ignore")


def _parsed(payload: bytes) -> Status:
    try:
        return Status.FromString(payload)
    except DecodeError:
        log.error("a service answered a failure without a status")
        return to_status(InternalError("the service failed in a way that it could not tell; its log may say why"))


class Refusal:
    """Answers a call with a failure before its request was read. A handler, as grpc.RpcMethodHandler is one."""

    __slots__ = ("_after", "_reply")

    request_streaming = True
    response_streaming = True
    request_deserializer = None
    response_serializer = None

    def __init__(self, error: MulliganError, after: asyncio.Event | None = None) -> None:
        """With `after` it is answered once that is set, or nearly at once."""
        self._reply = as_reply(error)
        self._after = after

    async def stream_stream(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Aborts."""
        if self._after is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._after.wait()
        await abort(context, *self._reply)
