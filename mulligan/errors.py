"""Every failure that Mulligan tells a caller about.

    MulliganError
    ├── InvalidArgument      the request is wrong; sending it again does not help
    ├── Unauthenticated      no token, or one that is not accepted
    ├── PermissionDenied     the caller may know of it but not do it
    ├── NotFound             it is not there, or the caller may not know of it
    ├── AlreadyExists        a name or object is taken
    ├── FailedPrecondition   the system is not in the state that this needs
    ├── Aborted              somebody else was first; read again, then retry
    ├── ResourceExhausted    no capacity, no quota, too many requests
    ├── Unavailable          a part is down or draining; retrying helps
    ├── DeadlineExceeded     it took longer than the caller or the service allows
    ├── Unimplemented        no such method
    └── InternalError        our fault; the log has the cause

Each carries a stable reason (`mulligan.common.v1.ErrorReason`) and a message that says what to do next.
On the wire it is a `google.rpc.Status` whose first detail is an `ErrorInfo`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mulligan.api.common.v1.error_reason_pb2 import ErrorReason

DOMAIN = "mulligan"

# Trailers are capped at 8 KiB by default; a status has to fit with room for other metadata.
MAX_MESSAGE_CHARACTERS = 1500


class MulliganError(Exception):
    """A failure with a reason that programs can rely on and a message for people."""

    code: ClassVar[int] = Code.UNKNOWN
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        details: Sequence[Message] = (),
    ) -> None:
        """`field` names the request's field at fault; `metadata` holds ids, never secrets."""
        super().__init__(message)
        self.message = message[:MAX_MESSAGE_CHARACTERS]
        self.reason = reason or self.default_reason
        ErrorReason.Value(f"ERROR_REASON_{self.reason}")  # an unlisted reason is a mistake in our code
        self.field = field
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.details = tuple(details)


class InvalidArgument(MulliganError):
    """The request is wrong; sending it again does not help."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_FIELD"


class Unauthenticated(MulliganError):
    """There is no token, or one that is not accepted."""

    code = Code.UNAUTHENTICATED
    default_reason = "TOKEN_MISSING"


class PermissionDenied(MulliganError):
    """The caller may know of it but not do it."""

    code = Code.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class NotFound(MulliganError):
    """It is not there, or the caller may not know of it."""

    code = Code.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(MulliganError):
    """A name or object is taken."""

    code = Code.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(MulliganError):
    """The system is not in the state that this needs."""

    code = Code.FAILED_PRECONDITION
    default_reason = "WRONG_STATE"


class Aborted(MulliganError):
    """Somebody else was first; read again, then retry."""

    code = Code.ABORTED
    default_reason = "GENERATION_CONFLICT"


class ResourceExhausted(MulliganError):
    """No capacity, no quota, or too many requests."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "NO_CAPACITY"


class Unavailable(MulliganError):
    """A part is down or draining; retrying helps."""

    code = Code.UNAVAILABLE
    default_reason = "SHARD_UNAVAILABLE"


class DeadlineExceeded(MulliganError):
    """It took longer than the caller or the service allows."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(MulliganError):
    """There is no such method."""

    code = Code.UNIMPLEMENTED
    default_reason = "UNKNOWN_METHOD"


class InternalError(MulliganError):
    """Our fault; the log has the cause."""

    code = Code.INTERNAL
    default_reason = "INTERNAL"


_BY_CODE: dict[int, type[MulliganError]] = {kind.code: kind for kind in MulliganError.__subclasses__()}


def to_status(error: MulliganError) -> Status:
    """The error as it goes over the wire."""
    status = Status(code=error.code, message=error.message)
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message, reason=error.reason)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration(nanos=0)
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    for detail in error.details:
        status.details.add().Pack(detail)
    return status


def from_status(status: Status) -> MulliganError:
    """The error that came over the wire; details of types that this program has not loaded are dropped."""
    info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
    others = []
    for detail in filter(None, map(_unpacked, status.details)):
        for known in (info, retry, bad):
            if type(detail) is type(known) and not known.ByteSize():
                known.CopyFrom(detail)
                break
        else:
            others.append(detail)
    kind = _BY_CODE.get(status.code, InternalError)
    known_reason = info.domain == DOMAIN and f"ERROR_REASON_{info.reason}" in list(ErrorReason.keys())
    return kind(
        status.message,
        reason=info.reason if known_reason else None,
        field=bad.field_violations[0].field if bad.field_violations else None,
        metadata=dict(info.metadata),
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
        details=others,
    )


def _unpacked(detail: Any) -> Message | None:
    """Whoever can ask about a detail has loaded its type, so the types need not be listed, nor loaded, here."""
    try:
        message = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(detail.TypeName()))()
        return message if detail.Unpack(message) else None
    except (KeyError, DecodeError):
        return None
