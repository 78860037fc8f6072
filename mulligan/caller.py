"""Who makes a request: what a gateway read from a verified token, handed to services with every request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """One role that the caller holds."""

    role: str
    # It counts in every project and for the system itself.
    system: bool
    # UUID of the region whose tree it is bound to; empty: every region.
    region: str


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated account, or nobody when `account` is empty."""

    account: str
    # UUID of the project that the token acts in; empty: the system.
    project: str
    grants: tuple[Grant, ...]
    # The token's id (jti) and end of life in microseconds, for its own revocation.
    token_id: str = ""
    expires_us: int = 0
    # The permission that this request was allowed for, and whether a system grant allowed it.
    permission: str = ""
    system: bool = False
    # The session (sid) whose refresh made the token, and when it was issued: revocations are judged by these.
    session: str = ""
    issued_us: int = 0


ANONYMOUS = Caller(account="", project="", grants=())
