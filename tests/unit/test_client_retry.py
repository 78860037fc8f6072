"""What is tried again, where, when, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mulligan.api.iam.v1.request_response_pb2 import RefreshResponse
from mulligan.api.resource.v1.claim_pb2 import Claim
from mulligan.api.resource.v1.request_response_pb2 import CreateClaimResponse, GetClaimResponse
from mulligan.client import Client, Credentials, InMemoryTransport, Timeouts
from mulligan.client._config import Backoff
from mulligan.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    MulliganError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from mulligan.ids import new_id
from tests.fake_system import EARTH, EAST, REGIONS, WEST, FakeIam, FakeTime, Script

DONE = CreateClaimResponse(claim=Claim(id=new_id()))


@asynccontextmanager
async def connected(
    transport: InMemoryTransport, time: FakeTime | None = None, address: str = "a"
) -> AsyncIterator[Client]:
    client = Client([address], transport, time=time or FakeTime(), timeouts=Timeouts(connect_s=2.0))
    async with client:
        yield client


async def test_an_unavailable_shard_is_asked_again_with_the_same_request_id() -> None:
    resource, time = Script(create_claim=[Unavailable("starting"), Unavailable("starting"), DONE]), FakeTime()
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport, time) as client:
        assert await client.resource.create_claim(region=EAST) == DONE
    assert len({request.request_id for request in resource.requests}) == 1
    assert len(resource.requests[0].request_id) == 36
    assert len(time.slept) == 2
    assert 0.025 <= time.slept[0] <= 0.05 < time.slept[1] <= 0.1


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("no"),
        ResourceExhausted("no capacity"),
        Aborted("somebody else was first"),
        FailedPrecondition("not now"),
        InternalError("broken"),
        DeadlineExceeded("too slow"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_other_failures_are_the_callers_to_judge(error: MulliganError) -> None:
    resource = Script(create_claim=[error, DONE])
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport) as client:
        with pytest.raises(type(error), match=error.message):
            await client.resource.create_claim(region=EAST)
    assert len(resource.requests) == 1


@pytest.mark.parametrize("kind", [ResourceExhausted, Aborted])
async def test_a_service_that_says_when_is_asked_again_then(kind: type[MulliganError]) -> None:
    resource, time = Script(create_claim=[kind("wait", retry_after_s=1.5), DONE]), FakeTime()
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport, time) as client:
        assert await client.resource.create_claim(region=EAST) == DONE
    assert time.slept == [1.5]


async def test_a_method_that_is_not_retry_safe_is_called_once() -> None:
    iam = Script(refresh=[Unavailable("starting"), RefreshResponse()])
    transport = InMemoryTransport()
    transport.serve("a", iam=iam)
    async with connected(transport) as client:
        with pytest.raises(Unavailable):
            await client.iam.refresh(refresh_token="once")
    assert len(iam.requests) == 1


@pytest.mark.parametrize("how", ["draining", "refused"])
async def test_what_was_not_begun_is_sent_to_another_gateway_whatever_it_is(how: str) -> None:
    transport, iam = InMemoryTransport(), Script(refresh=[RefreshResponse()])
    for address in ("a", "b"):
        transport.serve(address, iam=iam)
    async with connected(transport) as client:
        await client.iam.refresh(refresh_token="once")
        [used] = {call.address for call in transport.calls if call.method == "Refresh"}
        if how == "draining":
            transport.serve(used, iam=Script(refresh=[Unavailable("bye", reason="DRAINING")]))
        else:
            transport.stop(used, announced=False)
        await client.iam.refresh(refresh_token="twice")
    assert [request.refresh_token for request in iam.requests] == ["once", "twice"]


class Silent:
    """Takes requests and says nothing."""

    async def create_claim(self, _request: object) -> CreateClaimResponse:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def test_a_gateway_that_says_nothing_is_left_alone() -> None:
    transport = InMemoryTransport()
    for address in ("a", "b"):
        transport.serve(address, iam=object(), resource=Script(create_claim=[DONE]))
    async with connected(transport) as client:
        await client.resource.create_claim(region=EAST)
        [used] = {call.address for call in transport.calls if call.method == "CreateClaim"}
        transport.serve(used, iam=object(), resource=Silent())
        with pytest.raises(DeadlineExceeded):
            await client.resource.create_claim(region=EAST, timeout_s=0.05)
        assert await client.resource.create_claim(region=EAST, timeout_s=0.05) == DONE


async def test_retries_stay_inside_the_callers_deadline_and_the_last_failure_is_told() -> None:
    resource, time = Script(create_claim=[Unavailable("still starting")]), FakeTime()
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport, time) as client:
        with pytest.raises(Unavailable, match="still starting"):
            await client.resource.create_claim(region=EAST, timeout_s=5)
    assert 2 < sum(time.slept) < 5
    assert max(time.slept) <= 2.0


async def test_a_gateway_that_is_gone_is_passed_over_at_once() -> None:
    resource, time = Script(create_claim=[DONE]), FakeTime()
    transport = InMemoryTransport()
    for address in ("a", "b", "c"):
        transport.serve(address, iam=object(), resource=resource)
    async with connected(transport, time) as client:
        for _ in range(3):
            await client.resource.create_claim(region=EAST)
        [used] = {call.address for call in transport.calls if call.method == "CreateClaim"}
        transport.stop(used, announced=False)
        time.slept.clear()
        transport.calls.clear()
        for _ in range(3):
            await client.resource.create_claim(region=EAST)
        assert [delay for delay in time.slept if delay > 0.05] == []
        [instead] = {call.address for call in transport.calls if call.method == "CreateClaim"}
        assert instead != used


async def test_a_gateway_that_was_put_aside_is_used_again_later() -> None:
    resource, time = Script(create_claim=[DONE]), FakeTime()
    transport = InMemoryTransport()
    transport.serve("a", iam=object())
    for address in ("b", "c"):
        transport.serve(address, resource=resource)
    async with connected(transport, time) as client:
        await client.resource.create_claim(region=EAST)
        [used] = {call.address for call in transport.calls if call.method == "CreateClaim"}
        transport.stop(used, announced=False)
        await client.resource.create_claim(region=EAST)
        transport.serve(used, resource=resource)
        time.turn(60)
        transport.calls.clear()
        await client.resource.create_claim(region=EAST)
        assert {call.address for call in transport.calls if call.method == "CreateClaim"} == {used}


async def test_a_draining_gateway_is_left_for_another_one() -> None:
    time, transport = FakeTime(), InMemoryTransport()
    draining = Script(create_claim=[Unavailable("bye", reason="DRAINING")])
    transport.serve("a", iam=object())
    for address in ("b", "c"):
        transport.serve(address, resource=Script(create_claim=[DONE]))
    async with connected(transport, time) as client:
        await client.resource.create_claim(region=EAST)
        [used] = {call.address for call in transport.calls if call.method == "CreateClaim"}
        transport.serve(used, resource=draining)
        for _ in range(20):
            assert await client.resource.create_claim(region=EAST) == DONE
    assert len(draining.requests) == 1
    assert time.slept == []


async def test_with_no_gateway_at_all_the_caller_is_told_which_was_asked() -> None:
    transport = InMemoryTransport()
    transport.serve("a", iam=object())
    transport.stop("a")
    client = Client(["a"], transport, timeouts=Timeouts(connect_s=0.2))
    with pytest.raises(Unavailable, match="no answer from a: connection refused"):
        await client.open()


async def test_a_service_without_gateways_is_named() -> None:
    time, transport = FakeTime(), InMemoryTransport(require_login=True)
    transport.serve("a", iam=FakeIam(time))
    credentials = Credentials("ada", "secret")
    async with Client(["a"], transport, credentials=credentials, time=time, timeouts=Timeouts(connect_s=0.2)) as client:
        with pytest.raises(Unavailable, match="no gateway of the resource service is announced"):
            await client.resource.get_claim(region=EAST, id=new_id())


async def test_who_is_not_logged_in_is_told_so() -> None:
    time, transport = FakeTime(), InMemoryTransport(require_login=True)
    transport.serve("a", iam=FakeIam(time), resource=Script(get_claim=[GetClaimResponse()]))
    async with connected(transport, time) as client:
        with pytest.raises(Unauthenticated, match="log in first"):
            await client.resource.get_claim(region=EAST, id=new_id())


async def test_a_request_in_the_wrong_region_is_sent_to_the_right_one_and_that_is_remembered() -> None:
    wrong = FailedPrecondition("it is elsewhere", reason="WRONG_REGION", metadata={"region": WEST})
    found = GetClaimResponse(claim=Claim(region=WEST))
    resource = Script(get_claim=[wrong, found])
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), resource=resource)
    claim, other = new_id(), new_id()
    async with connected(transport) as client:
        assert await client.resource.get_claim(region=EAST, id=claim) == found
        assert await client.resource.get_claim(region=EAST, id=claim) == found
        assert await client.resource.get_claim(region=EAST, id=other) == found
    assert [request.region for request in resource.requests] == [EAST, WEST, WEST, EAST]


async def test_a_request_is_sent_on_once_and_not_in_circles() -> None:
    resource = Script(
        get_claim=[
            FailedPrecondition("not here", reason="WRONG_REGION", metadata={"region": WEST}),
            FailedPrecondition("not here", reason="WRONG_REGION", metadata={"region": EAST}),
        ]
    )
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport) as client:
        with pytest.raises(FailedPrecondition):
            await client.resource.get_claim(region=EAST, id=new_id())
    assert len(resource.requests) == 2


async def test_a_region_whose_shard_moved_is_asked_once_more() -> None:
    moved = FailedPrecondition("moved", reason="WRONG_REGION", metadata={"region": EARTH, "shard": "new"})
    resource = Script(get_claim=[moved, GetClaimResponse()])
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), resource=resource)
    async with connected(transport) as client:
        await client.resource.get_claim(region=EARTH, id=new_id())
    assert [request.region for request in resource.requests] == [EARTH, EARTH]


def test_backoff_grows_with_jitter_and_is_bounded() -> None:
    backoff = Backoff(first_s=1.0, factor=2.0, longest_s=8.0)
    for failures, step in ((1, 1.0), (2, 2.0), (4, 8.0), (50, 8.0), (10_000, 8.0)):
        delays = [backoff.delay_s(failures) for _ in range(200)]
        assert step / 2 <= min(delays) < max(delays) <= step
