"""One request to several shards: until one has it, or joined page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from google.rpc.code_pb2 import Code

from gateways.methods import Method
from gateways.routing import malformed
from mulligan.dispatch import OK, Reply
from mulligan.errors import InvalidArgument
from mulligan.requests import page_size

# Sends a serialized request to a shard.
Send = Callable[[str, bytes], Awaitable[Reply]]

# The shard does not have it; another one may.
TRY_NEXT: Final = frozenset({Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED})

# The shard may have it and cannot tell now.
AWAY: Final = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})

# Between the shard and the shard's own page token; neither shard names nor base64 have it.
_SEPARATOR: Final = "."


async def first(send: Send, shards: tuple[str, ...], request: bytes) -> Reply:
    """The reply of the first shard that has it or fails otherwise; of the last one when none has.

    For changes: after a failure that leaves open what was done, no other shard may do it too.
    """
    for shard in shards[:-1]:
        reply = await send(shard, request)
        if reply[0] not in TRY_NEXT:
            return reply
    return await send(shards[-1], request)


async def find(send: Send, shards: tuple[str, ...], request: bytes) -> Reply:
    """The reply of the shard that has it, whatever the others do; else of one that could not tell, or of the last.

    For reads by id, which one shard at most can answer. All are asked at once: one that hangs costs no time.
    """
    asked = [asyncio.ensure_future(send(shard, request)) for shard in shards]
    try:
        for answered in asyncio.as_completed(asked):
            reply = await answered
            if reply[0] not in TRY_NEXT | AWAY:
                return reply
    finally:
        for each in asked:
            each.cancel()
    replies = [each.result() for each in asked]
    return next((reply for reply in replies if reply[0] != Code.NOT_FOUND), replies[-1])


async def merge(send: Send, method: Method, shards: tuple[str, ...], request: bytes) -> Reply:
    """The repeated fields of every shard's response, joined; a list is joined page by page."""
    if not shards:
        return OK, b""
    if not method.paged:
        return await _all(send, method, shards, request)
    try:
        message = method.request.FromString(request)
    except DecodeError:
        raise malformed(method) from None
    return await _page(send, method, shards, message)


async def _all(send: Send, method: Method, shards: tuple[str, ...], request: bytes) -> Reply:
    """What a shard does not know of does not matter as long as another one does."""
    replies = await asyncio.gather(*[send(shard, request) for shard in shards])
    failed = next((reply for reply in replies if reply[0] not in (OK, Code.NOT_FOUND)), None)
    found = [payload for code, payload in replies if code == OK]
    if failed is not None or not found:
        return failed or replies[-1]
    # Joined messages, written one after the other, are the merged message.
    return OK, b"".join(found)


async def _page(send: Send, method: Method, shards: tuple[str, ...], request: Any) -> Reply:
    """Shards are listed one after another; a page goes on in the next shard when one ends."""
    index, token = _position(request.page_token, shards)
    wanted = page_size(request.page_size)
    joined: Any = method.response()
    missing: Reply | None = None
    answered = False
    while index < len(shards):
        request.page_token, request.page_size = token, wanted - _items(joined)
        code, payload = reply = await send(shards[index], request.SerializeToString())
        if code == Code.NOT_FOUND:
            missing = reply
        elif code != OK:
            return reply
        else:
            answered = True
            joined.MergeFromString(payload)
            if joined.next_page_token:
                joined.next_page_token = f"{shards[index]}{_SEPARATOR}{joined.next_page_token}"
                break
        index, token = index + 1, ""
        if index < len(shards) and _items(joined) >= wanted:
            joined.next_page_token = f"{shards[index]}{_SEPARATOR}"
            break
    return (OK, joined.SerializeToString()) if answered or missing is None else missing


def _position(token: str, shards: tuple[str, ...]) -> tuple[int, str]:
    """Which shard to go on in, and the token that it gave."""
    if not token:
        return 0, ""
    shard, separator, inner = token.partition(_SEPARATOR)
    if not separator or shard not in shards:
        raise InvalidArgument(
            "page_token is not one that this list gave, or the regions changed since; start again without a token",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )
    return shards.index(shard), inner


def _items(message: Message) -> int:
    """How many items a page holds."""
    return sum(len(getattr(message, field.name)) for field in message.DESCRIPTOR.fields if field.is_repeated)
