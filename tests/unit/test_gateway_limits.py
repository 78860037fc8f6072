"""How much a gateway takes."""

from __future__ import annotations

import asyncio

import pytest

from gateways.limits import Limits
from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.errors import DeadlineExceeded, MulliganError, ResourceExhausted, Unavailable


class World:
    """Limits whose settings a test changes."""

    def __init__(self) -> None:
        self.settings = ServiceSettings(max_in_flight=2, max_request_bytes=1024, max_deadline_seconds=10)
        self.limits = Limits(lambda: self.settings)


def test_requests_over_the_limit_are_refused_until_one_is_answered() -> None:
    world = World()
    lane = world.limits.lane(anonymous=False, streaming=False)
    world.limits.enter(lane)
    world.limits.enter(lane)
    with pytest.raises(ResourceExhausted) as refused:
        world.limits.enter(lane)
    assert (refused.value.reason, refused.value.retry_after_s) == ("TOO_MANY_REQUESTS", 0.2)
    world.limits.leave(lane)
    world.limits.enter(lane)
    assert world.limits.in_flight == 2


def test_a_change_of_the_settings_counts_at_once() -> None:
    world = World()
    lane = world.limits.lane(anonymous=False, streaming=False)
    for _ in range(2):
        world.limits.enter(lane)
    world.settings = ServiceSettings(max_in_flight=3, max_request_bytes=2048, max_deadline_seconds=1)
    world.limits.enter(lane)
    world.limits.check_size(b"x" * 2048)
    assert world.limits.deadline_s(None) == 1


def test_callers_without_a_token_and_streams_cannot_crowd_out_requests() -> None:
    world = World()
    for kind in ((True, False), (True, True), (False, True)):
        lane = world.limits.lane(*kind)
        world.limits.enter(lane)
        world.limits.enter(lane)
    world.limits.enter(world.limits.lane(anonymous=False, streaming=False))


def test_a_request_that_is_too_large_is_refused() -> None:
    limits = World().limits
    limits.check_size(b"x" * 1024)
    with pytest.raises(ResourceExhausted) as refused:
        limits.check_size(b"x" * 1025)
    assert refused.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize(("given", "expected"), [(None, 10), (3.5, 3.5), (3600.0, 10)])
def test_the_smaller_deadline_counts(given: float | None, expected: float) -> None:
    assert World().limits.deadline_s(given) == expected


def test_a_deadline_that_is_over_is_refused() -> None:
    with pytest.raises(DeadlineExceeded):
        World().limits.deadline_s(0.0)


async def test_draining_lets_nothing_in_ends_streams_and_waits_for_the_rest() -> None:
    limits = World().limits
    lane = limits.lane(anonymous=False, streaming=False)
    limits.enter(lane)
    told: list[MulliganError] = []
    limits.leaving.add(told.append)
    limits.drain()
    assert [error.reason for error in told] == ["DRAINING"]
    with pytest.raises(Unavailable) as refused:
        limits.enter(lane)
    assert refused.value.reason == "DRAINING"
    assert not await limits.wait_idle(0.01)
    asyncio.get_running_loop().call_soon(limits.leave, lane)
    assert await limits.wait_idle(1)
