"""What pyghmi's errors mean, and what operators are told."""

from __future__ import annotations

import socket

import pytest
from pyghmi.exceptions import IpmiException

from mulligan.executor.drivers import BmcTarget
from mulligan.executor.ipmi.failures import Failure, FailureKind, classify, explain, unreachable

BMC = BmcTarget("ipmi", "10.1.2.3", 623, "admin", b"hush-hush")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (IpmiException(None), FailureKind.UNREACHABLE),
        (IpmiException("timeout", 0xFFFF), FailureKind.UNREACHABLE),
        (IpmiException("Incorrect password provided"), FailureKind.CREDENTIALS),
        (IpmiException("Unauthorized name in RAKP2"), FailureKind.CREDENTIALS),
        (IpmiException("Session no longer connected"), FailureKind.LOST),
        (
            IpmiException("Insufficient resources to create new session (wait for existing sessions to timeout)"),
            FailureKind.NO_SESSION_FREE,
        ),
        (IpmiException("Insufficient privilege level", 0xD4), FailureKind.PRIVILEGE),
        (IpmiException("Not supported in present state", 0xD5), FailureKind.REFUSED),
        (socket.gaierror(-2, "Name or service not known"), FailureKind.UNKNOWN_HOST),
        (TypeError("'<' not supported between instances of 'NoneType' and 'int'"), FailureKind.GARBLED),
    ],
)
def test_meaning(error: Exception, kind: FailureKind) -> None:
    assert classify(error).kind is kind


@pytest.mark.parametrize(
    ("failure", "reason", "retryable", "part"),
    [
        (
            Failure(FailureKind.CREDENTIALS),
            "BMC_REFUSED_CREDENTIALS",
            False,
            "BMC 10.1.2.3:623 refused the password; register it again with the right credentials",
        ),
        (Failure(FailureKind.PRIVILEGE), "BMC_REFUSED_CREDENTIALS", False, "too little privilege"),
        (Failure(FailureKind.UNREACHABLE), "BMC_UNREACHABLE", True, "does not answer"),
        (Failure(FailureKind.LOST), "BMC_UNREACHABLE", True, "does not answer"),
        (Failure(FailureKind.NO_SESSION_FREE), "BMC_UNREACHABLE", True, "no session free"),
        (Failure(FailureKind.UNKNOWN_HOST), "BMC_UNREACHABLE", True, "does not resolve"),
        (Failure(FailureKind.REFUSED, "Invalid command", 0xC1), "BMC_COMMAND_FAILED", False, "(code 0xc1)"),
        (Failure(FailureKind.REFUSED, "Node busy", 0xC0), "BMC_COMMAND_FAILED", True, "Node busy"),
        (Failure(FailureKind.GARBLED, "TypeError"), "BMC_COMMAND_FAILED", True, "cannot be understood"),
    ],
)
def test_what_the_operator_is_told(failure: Failure, reason: str, retryable: bool, part: str) -> None:
    told = explain(BMC, "take the power command on", failure)
    assert (told.reason, told.retryable) == (reason, retryable)
    assert part in told.message
    assert "hush-hush" not in f"{told!r} {told.message} {BMC!r}"


def test_every_kind_is_explained_and_travels() -> None:
    for kind in FailureKind:
        failure = Failure(kind, "text", 7)
        assert Failure.from_json(failure.as_json()) == failure
        assert explain(BMC, "read the power state", failure).message


def test_addresses_of_either_family() -> None:
    assert (
        "BMC [fd00::1]:623 does not answer within 5 s"
        in unreachable(BmcTarget("ipmi", "fd00::1", 623, "admin", b"x"), 5).message
    )
