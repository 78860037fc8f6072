"""Time as the client sees it: injected, so that tests need not wait."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from mulligan.clock import now_us


class Time(Protocol):
    """A clock that can also wait."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        ...

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class SystemTime:
    """The system's own clocks."""

    monotonic = staticmethod(time.monotonic)
    now_us = staticmethod(now_us)
    sleep = staticmethod(asyncio.sleep)


class Deadline:
    """A point in time that a call must not pass; without seconds it never comes."""

    __slots__ = ("_at", "_time")

    def __init__(self, clock: Time, seconds: float | None) -> None:
        self._time = clock
        self._at = None if seconds is None else clock.monotonic() + seconds

    def remaining_s(self) -> float | None:
        """Seconds left, never less than 0; None when there is no limit."""
        return None if self._at is None else max(0.0, self._at - self._time.monotonic())

    def allows(self, seconds: float) -> bool:
        """Whether that many seconds from now is still before it."""
        return self._at is None or self._time.monotonic() + seconds < self._at
