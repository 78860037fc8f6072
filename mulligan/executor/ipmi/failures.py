"""What went wrong with a BMC, told to operators: pure functions over the errors that pyghmi gives."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mulligan.executor.drivers import BmcFailure, BmcTarget


class FailureKind(StrEnum):
    """What an error of pyghmi means."""

    UNREACHABLE = "unreachable"
    UNKNOWN_HOST = "unknown-host"
    CREDENTIALS = "credentials"
    PRIVILEGE = "privilege"
    NO_SESSION_FREE = "no-session-free"
    # The session broke after it had been opened.
    LOST = "lost"
    # The BMC answered with a completion code that is no success.
    REFUSED = "refused"
    # An answer that makes no sense, or a fault in pyghmi.
    GARBLED = "garbled"
    # The job's turn came too late, so the BMC was not asked.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure as it travels from the worker process to the executor."""

    kind: FailureKind
    text: str = ""
    code: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Failure:
        """What as_json gave."""
        return cls(FailureKind(values["kind"]), str(values["text"]), int(values["code"]))


# Parts of pyghmi's messages (1.6.19) for logins that the BMC refuses.
_CREDENTIALS = (
    "incorrect password",
    "unauthorized name",
    "unauthorized guid",
    "invalid role",
    "unauthorized role",
    "invalid username length",
    "invalid integrity check value",
    "invalid rakp4 integrity code",
    "password is too long",
    "username too long",
)
_SILENCE = ("timeout", "session failed to initialize", "unable to transmit")

# IPMI 2.0 table 5-2: busy, timeout, out of space, initialising, not in present state: another try may do.
_PASSING_CODES = frozenset({0xC0, 0xC3, 0xC4, 0xD0, 0xD1, 0xD2, 0xD3, 0xD5})
_INSUFFICIENT_PRIVILEGE = 0xD4


def classify(error: BaseException) -> Failure:
    """The meaning of an exception that pyghmi raised."""
    text = str(error.args[0]) if error.args and error.args[0] is not None else ""
    code = int(getattr(error, "ipmicode", 0) or 0)
    if isinstance(error, socket.gaierror):
        return Failure(FailureKind.UNKNOWN_HOST)
    if type(error).__name__ not in ("IpmiException", "BmcErrorException"):
        return Failure(FailureKind.GARBLED, type(error).__name__)
    return Failure(_kind_of_message(text.lower(), code), text, code)


def _kind_of_message(text: str, code: int) -> FailureKind:
    if any(part in text for part in _CREDENTIALS):
        return FailureKind.CREDENTIALS
    if code == _INSUFFICIENT_PRIVILEGE or "privelege level" in text:
        return FailureKind.PRIVILEGE
    if "insufficient resources" in text:
        return FailureKind.NO_SESSION_FREE
    if "no longer connected" in text:
        return FailureKind.LOST
    # pyghmi gives no message at all when nobody answered its login.
    if not text or any(part in text for part in _SILENCE):
        return FailureKind.UNREACHABLE
    return FailureKind.REFUSED


def explain(bmc: BmcTarget, doing: str, failure: Failure) -> BmcFailure:
    """The failure for the operator: what happened, at which BMC, and what to do."""
    who = f"BMC {bmc.address}"
    match failure.kind:
        case FailureKind.CREDENTIALS:
            advice = "register it again with the right credentials"
            message = f"{who} refused the password; {advice}"
            return BmcFailure("BMC_REFUSED_CREDENTIALS", message, retryable=False)
        case FailureKind.PRIVILEGE:
            advice = f"give it the operator privilege on the BMC, so that it may {doing}"
            message = f"{who} gives its user too little privilege; {advice}"
            return BmcFailure("BMC_REFUSED_CREDENTIALS", message, retryable=False)
        case FailureKind.UNKNOWN_HOST:
            message = f"the host name {bmc.host} of a BMC does not resolve; mend DNS or register the BMC by its address"
            return BmcFailure("BMC_UNREACHABLE", message, retryable=True)
        case FailureKind.NO_SESSION_FREE:
            message = f"{who} has no session free; close other programs' sessions or reset the BMC if it stays so"
            return BmcFailure("BMC_UNREACHABLE", message, retryable=True)
        case FailureKind.REFUSED:
            advice = "look into the BMC's own event log"
            message = f"{who} refused to {doing}: {failure.text or 'no text'} (code 0x{failure.code:02x}); {advice}"
            return BmcFailure("BMC_COMMAND_FAILED", message, retryable=failure.code in _PASSING_CODES)
        case FailureKind.GARBLED:
            message = f"{who} gave an answer to {doing} that cannot be understood; update or reset the BMC"
            return BmcFailure("BMC_COMMAND_FAILED", message, retryable=True)
        case _:
            return unreachable(bmc)


def unreachable(bmc: BmcTarget, waited_s: float | None = None) -> BmcFailure:
    """No answer, in time or at all."""
    waited = f" within {waited_s:g} s" if waited_s is not None else ""
    advice = "check its power, its network and the address that it is registered with"
    message = f"BMC {bmc.address} does not answer{waited}; {advice}"
    return BmcFailure("BMC_UNREACHABLE", message, retryable=True)
