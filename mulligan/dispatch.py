"""Binds the RPCs of a service's descriptor to the methods of a Python object, by name.

An RPC `CreateClaim` is served by `create_claim`:

* unary:           `async def create_claim(self, request, caller) -> response`
* server stream:   `async def watch_machine(self, request, caller, cursor, wait_s) -> Page`, a long poll: it answers
  what changed since `cursor` ("" at first), or an empty page after `wait_s` seconds. A stream resumes anywhere
  from its cursor, so it outlives the actor that serves it.
* client stream:   `async def load_providers(self, requests, caller, position) -> response`, a chunk at a time;
  `position` counts the messages of the stream before this chunk.

Nothing raises through here: a failure becomes a reply with its status.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from mulligan.caller import Caller
from mulligan.casing import snake_case
from mulligan.errors import InternalError, InvalidArgument, MulliganError, Unimplemented, to_status

log = logging.getLogger(__name__)

OK = 0

# gRPC code and payload: a response message when it is OK, else a google.rpc.Status.
Reply = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a server stream: messages, where to go on, and whether the stream ends here."""

    messages: Sequence[Message]
    cursor: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class PageReply:
    """A page ready for the wire: `error` is a serialized google.rpc.Status, or empty."""

    messages: list[bytes]
    cursor: str
    done: bool
    code: int = OK
    error: bytes = b""


@dataclass(frozen=True, slots=True)
class _Method:
    request: type[Message]
    handler: Any


class MethodTable:
    """The methods of one service object, callable with serialized requests."""

    def __init__(self, descriptor: ServiceDescriptor, service: object) -> None:
        """Raises TypeError when the object lacks a method for one of the RPCs."""
        missing = [m.name for m in descriptor.methods if not callable(getattr(service, snake_case(m.name), None))]
        if missing:
            raise TypeError(f"{type(service).__name__} lacks methods for {', '.join(missing)}")
        self._methods = {method.name: self._bind(method, service) for method in descriptor.methods}

    @staticmethod
    def _bind(method: MethodDescriptor, service: object) -> _Method:
        return _Method(GetMessageClass(method.input_type), getattr(service, snake_case(method.name)))

    async def call(self, method: str, caller: Caller, request: bytes) -> Reply:
        """Serves a unary RPC."""
        try:
            bound = self._find(method)
            response = await bound.handler(_parse(bound.request, request), caller)
            return OK, response.SerializeToString()
        except Exception as error:
            return failure(method, error)

    async def poll(self, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float) -> PageReply:
        """Serves the next part of a server stream."""
        try:
            bound = self._find(method)
            page = await bound.handler(_parse(bound.request, request), caller, cursor, wait_s)
            return PageReply([message.SerializeToString() for message in page.messages], page.cursor, page.done)
        except Exception as error:
            code, status = failure(method, error)
            return PageReply([], cursor, True, code, status)

    async def chunk(self, method: str, caller: Caller, requests: Sequence[bytes], position: int) -> Reply:
        """Serves some messages of a client stream."""
        try:
            bound = self._find(method)
            messages = [_parse(bound.request, request) for request in requests]
            response = await bound.handler(messages, caller, position)
            return OK, response.SerializeToString()
        except Exception as error:
            return failure(method, error)

    def _find(self, method: str) -> _Method:
        found = self._methods.get(method)
        if found is None:
            raise Unimplemented(f"this version has no method {method}; update the component that serves it")
        return found


def _parse(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidArgument(
            f"the request is not a valid {kind.DESCRIPTOR.full_name}", reason="MALFORMED_MESSAGE"
        ) from None


def failure(method: str, error: Exception) -> Reply:
    """The reply that tells of a failure; one that is not ours goes to the log and out as INTERNAL."""
    if not isinstance(error, MulliganError):
        log.error("method=%s failed", method, exc_info=error)
        error = InternalError(f"{method} failed inside the service; its log says why")
    return error.code, to_status(error).SerializeToString()
