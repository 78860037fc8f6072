"""Windows of reads: stretches of time, half-open, that may lie in the past."""

from __future__ import annotations

from mulligan.api.common.v1.common_pb2 import Window
from mulligan.clock import from_timestamp
from mulligan.errors import InvalidArgument
from mulligan.resource.timeline import FOREVER


def parse_window(window: Window, now: int) -> tuple[int, int]:
    """[begin, end) in microseconds; without an acquire time it begins now. Raises InvalidArgument (INVALID_WINDOW)."""
    begin = from_timestamp(window.acquire, "window.acquire") if window.HasField("acquire") else now
    end = from_timestamp(window.release, "window.release") if window.HasField("release") else FOREVER
    if end <= begin:
        raise InvalidArgument(
            "window.release must be later than window.acquire", reason="INVALID_WINDOW", field="window.release"
        )
    return begin, end
