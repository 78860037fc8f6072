"""How much comes in at once, how large, and for how long; and nothing any more once the gateway drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.errors import DeadlineExceeded, MulliganError, ResourceExhausted, Unavailable

# Requests that callers without a token may be sending at the same time, each as large as the transport takes.
ANONYMOUS_READS: Final = 8

# Seconds after which a refused caller may try again.
RETRY_AFTER_S: Final = 0.2


class Lane:
    """Counts one kind of calls, so that those of another kind cannot crowd it out."""

    __slots__ = ("in_flight",)

    def __init__(self) -> None:
        self.in_flight = 0


class Limits:
    """What the service's settings allow, as they are at this moment."""

    def __init__(self, settings: Callable[[], ServiceSettings]) -> None:
        """`settings` tells those in force now."""
        self._settings = settings
        self._lanes: dict[tuple[bool, bool], Lane] = {}
        self._draining = False
        self.anonymous_reads = asyncio.Semaphore(ANONYMOUS_READS)
        self._changed = asyncio.Event()
        # Told when the gateway drains: the open streams.
        self.leaving: set[Callable[[MulliganError], None]] = set()

    @property
    def in_flight(self) -> int:
        """Calls that are worked on."""
        return sum(lane.in_flight for lane in self._lanes.values())

    def lane(self, anonymous: bool, streaming: bool) -> Lane:
        """Where calls of this kind are counted; each kind may fill the whole limit."""
        return self._lanes.setdefault((anonymous, streaming), Lane())

    def enter(self, lane: Lane) -> None:
        """Counts a call; raises what `count` does, and Unavailable (DRAINING) once the gateway drains."""
        if self._draining:
            raise draining()
        self.count(lane)

    def count(self, lane: Lane) -> None:
        """Counts a call; raises ResourceExhausted (TOO_MANY_REQUESTS) when there are as many as may be."""
        if lane.in_flight >= self._settings().max_in_flight:
            raise ResourceExhausted(
                "this gateway works on as many requests as it may; try again in a moment, or raise max_in_flight",
                reason="TOO_MANY_REQUESTS",
                retry_after_s=RETRY_AFTER_S,
            )
        lane.in_flight += 1

    def leave(self, lane: Lane) -> None:
        """Counts it as answered."""
        lane.in_flight -= 1
        if self._draining:
            self._changed.set()

    def check_size(self, request: bytes) -> None:
        """Raises ResourceExhausted (MESSAGE_TOO_LARGE)."""
        most = self._settings().max_request_bytes
        if len(request) > most:
            raise ResourceExhausted(
                f"a request may have {most} bytes and this one has {len(request)}; send less at a time",
                reason="MESSAGE_TOO_LARGE",
            )

    def deadline_s(self, remaining_s: float | None) -> float:
        """Seconds that a request may take: what its caller gives it, and never more than the setting."""
        most = float(self._settings().max_deadline_seconds)
        if remaining_s is None:
            return most
        if remaining_s <= 0:
            raise DeadlineExceeded("the deadline was over when the request came in; give it more time")
        return min(remaining_s, most)

    def drain(self) -> None:
        """Lets nothing in from now on, and ends the streams."""
        self._draining = True
        for listener in list(self.leaving):
            listener(draining())

    async def wait_idle(self, deadline_s: float) -> bool:
        """Whether every call was answered within the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                while self.in_flight:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


def draining() -> MulliganError:
    """What a caller of a draining gateway is told."""
    return Unavailable(
        "this gateway is about to stop; call another one of the catalogue",
        reason="DRAINING",
        retry_after_s=RETRY_AFTER_S,
    )
