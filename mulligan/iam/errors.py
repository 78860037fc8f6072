"""The failures that the IAM service tells its callers about, each worded once."""

from __future__ import annotations

from mulligan.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)


def login_refused() -> Unauthenticated:
    """Never says which part was wrong."""
    return Unauthenticated(
        "account, secret or project is not accepted; check all three, or ask an administrator whether the account is "
        "enabled and has a role there",
        reason="LOGIN_REFUSED",
    )


def too_many_failures(wait_us: int) -> ResourceExhausted:
    """For accounts that exist and that do not alike."""
    seconds = max(1, -(-wait_us // 1_000_000))
    return ResourceExhausted(
        f"too many logins to this account failed; try again in {seconds} s",
        reason="TOO_MANY_REQUESTS",
        retry_after_s=seconds,
    )


def too_many_grants(count: int, most: int) -> ResourceExhausted:
    """A token would not fit into the headers of a request."""
    return ResourceExhausted(
        f"the application credential has {count} roles, counted in each region of its maker; a token holds {most}. "
        "Make one with fewer roles, or for one region",
        reason="QUOTA_EXCEEDED",
    )


def refresh_refused(reason: str) -> Unauthenticated:
    """For a refresh token; `reason` is TOKEN_MALFORMED, TOKEN_FORGED, TOKEN_EXPIRED or TOKEN_REVOKED."""
    return Unauthenticated("the refresh token is not accepted; log in again", reason=reason)


def not_found(noun: str, identifier: str) -> NotFound:
    """It is not there, or not for this caller."""
    return NotFound(f"there is no {noun} {identifier} that you may see", metadata={noun: identifier})


def made_before(noun: str, identifier: str) -> AlreadyExists:
    """The request_id is that of a request which made it, and whose outcome is not kept any more."""
    return AlreadyExists(
        f"this request_id made the {noun} {identifier} long ago; send a new UUID with each new request",
        metadata={noun: identifier},
    )


def denied(action: str, permission: str) -> PermissionDenied:
    """The caller may know of it but lacks a permission in the system."""
    return PermissionDenied(
        f"to {action} you need {permission} in the system; ask an administrator", metadata={"permission": permission}
    )


def in_use(message: str, **ids: str) -> FailedPrecondition:
    """Something still hangs on it."""
    return FailedPrecondition(message, reason="IN_USE", metadata=ids)


def last_administrator() -> FailedPrecondition:
    """Nobody could ever let anybody in again."""
    return FailedPrecondition(
        "this would leave no enabled user with the role admin in the system; give it to another user first"
    )


def invalid(field: str, message: str) -> InvalidArgument:
    """One field of the request is wrong."""
    return InvalidArgument(f"{field} {message}", field=field)


def request_id_reused() -> Aborted:
    """The same request_id came with another request."""
    return Aborted(
        "this request_id was used for another request; send a new UUID with each new request",
        reason="REQUEST_ID_REUSED",
    )
