"""Time inside Mulligan: whole microseconds since the Unix epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from mulligan.errors import InvalidArgument

# A clock tells now, in microseconds. Tests pass their own.
Clock = Callable[[], int]

SECOND = 1_000_000

# 9999-12-31T23:59:59Z, the last second that a Timestamp can hold.
LAST_INSTANT = 253_402_300_799 * SECOND


def now_us() -> int:
    """The system's clock."""
    return time.time_ns() // 1000


def to_timestamp(microseconds: int) -> Timestamp:
    """The same instant on the wire."""
    return Timestamp(seconds=microseconds // SECOND, nanos=microseconds % SECOND * 1000)


def from_timestamp(timestamp: Timestamp, field: str) -> int:
    """The same instant inside; raises InvalidArgument (INVALID_WINDOW) when it is out of protobuf's range."""
    microseconds = timestamp.seconds * SECOND + timestamp.nanos // 1000
    if not 0 <= timestamp.nanos < 1_000_000_000 or not 0 <= microseconds <= LAST_INSTANT:
        raise InvalidArgument(f"{field} must lie between the years 1970 and 9999", reason="INVALID_WINDOW", field=field)
    return microseconds
