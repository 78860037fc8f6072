"""What request handlers of every service share: request ids, page sizes and tokens, field masks. Pure functions."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mulligan.errors import InvalidArgument
from mulligan.ids import parse_id

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

# A token holds one position; longer text is not one of ours.
_MAX_PAGE_TOKEN_CHARACTERS = 4096


def require_request_id(request_id: str) -> str:
    """The canonical form of a mutating request's `request_id`; raises InvalidArgument when it is no UUID."""
    if not request_id:
        raise InvalidArgument(
            "request_id is missing; send a new UUID, and the same one again when you retry",
            reason="INVALID_UUID",
            field="request_id",
        )
    return parse_id(request_id, "request_id")


def request_digest(request: Message) -> bytes:
    """SHA-256 of the request, which tells a retry from another request that reuses its `request_id`."""
    return hashlib.sha256(
        request.DESCRIPTOR.full_name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    ).digest()


def derived_id(account: str, project: str, request_id: str, index: int = 0) -> str:
    """The id of the object that a request creates, the same on each retry.

    A service that writes to two stores in turn can so repeat the first write harmlessly. The id is of version 7 and
    takes its time from the request's id when that is of version 7 itself; else it is of version 8 (RFC 9562).
    `index` counts the objects of one request. Accounts and projects never share ids, whatever they send.
    """
    source = UUID(request_id)
    digest = hashlib.sha256(f"{account}\0{project}\0{source}\0{index}".encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    if source.version == 7:
        value = value & ~(((1 << 48) - 1) << 80) | source.int >> 80 << 80
    version = 7 if source.version == 7 else 8
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(3 << 62) | 2 << 62
    return str(UUID(int=value))


def page_size(requested: int) -> int:
    """How many items a page holds: 100 when 0 is asked for, never more than 1000; raises InvalidArgument below 0."""
    if requested < 0:
        raise InvalidArgument("page_size must not be negative; 0 means 100", field="page_size")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def encode_page_token(position: Mapping[str, str | int]) -> str:
    """An opaque token for a position in a list. It is not secret and not signed: check what it yields as input."""
    text = json.dumps(dict(position), separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_page_token(token: str, shape: Mapping[str, type]) -> dict[str, Any]:
    """The position that `encode_page_token` packed; {} for the empty token.

    `shape` gives the keys and types (str, int) that the position must have; raises InvalidArgument
    (INVALID_PAGE_TOKEN) for anything else.
    """
    if not token:
        return {}
    position = _unpack(token)
    if not isinstance(position, dict) or position.keys() != shape.keys():
        raise _bad_page_token()
    if any(type(position[key]) is not kind for key, kind in shape.items()):
        raise _bad_page_token()
    return position


def _unpack(token: str) -> Any:
    if len(token) > _MAX_PAGE_TOKEN_CHARACTERS:
        raise _bad_page_token()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_page_token() from None


def _bad_page_token() -> InvalidArgument:
    return InvalidArgument(
        "page_token is not one that this list gave; start again without a token",
        reason="INVALID_PAGE_TOKEN",
        field="page_token",
    )


def masked_fields(
    mask: FieldMask, kind: type[Message], *, changeable: Collection[str] | None = None, field: str = "update_mask"
) -> list[str]:
    """The top-level fields of `kind` that the mask names, each once; `*` stands for all that can change.

    Raises InvalidArgument for a path that is no changeable field. By default every field is.
    """
    known = [each.name for each in kind.DESCRIPTOR.fields if changeable is None or each.name in changeable]
    if list(mask.paths) == ["*"]:
        return known
    for path in mask.paths:
        if path not in known:
            raise InvalidArgument(f"{field} names {path[:64]!r}; what can change is {', '.join(known)}", field=field)
    return list(dict.fromkeys(mask.paths))


def copy_fields(source: Message, target: Message, names: Collection[str]) -> None:
    """Makes the named fields of `target` what they are in `source`, absent ones included."""
    for name in names:
        field = source.DESCRIPTOR.fields_by_name[name]
        target.ClearField(name)
        if field.is_repeated:
            getattr(target, name).MergeFrom(getattr(source, name))
        elif field.has_presence and not source.HasField(name):
            continue
        elif field.message_type:
            getattr(target, name).CopyFrom(getattr(source, name))
            getattr(target, name).SetInParent()
        else:
            setattr(target, name, getattr(source, name))
