"""Streams outlive the gateways that serve them, and say nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from mulligan.api.control.v1.operation_pb2 import Operation, OperationState, Step
from mulligan.api.control.v1.request_response_pb2 import WatchOperationResponse
from mulligan.api.meta.v1.meta_pb2 import Object, ObjectEvent
from mulligan.api.meta.v1.request_response_pb2 import WatchObjectsResponse
from mulligan.api.resource.v1.request_response_pb2 import LoadProvidersRequest, LoadProvidersResponse
from mulligan.client import Client, ConnectionLost, Credentials, InMemoryTransport, Timeouts
from mulligan.errors import DeadlineExceeded, NotFound, Unavailable
from mulligan.ids import new_id
from tests.fake_system import EAST, REGIONS, FakeIam, FakeMeta, FakeTime, ScriptedStream
from tests.waiting import eventually


@asynccontextmanager
async def connected(transport: InMemoryTransport, time: FakeTime | None = None) -> AsyncIterator[Client]:
    timeouts = Timeouts(connect_s=2, reconnect_s=30)
    async with Client(["a"], transport, time=time or FakeTime(), timeouts=timeouts) as client:
        yield client


def operation(*steps: str, state: OperationState = OperationState.OPERATION_STATE_RUNNING) -> WatchOperationResponse:
    return WatchOperationResponse(operation=Operation(state=state, steps=[Step(name=name) for name in steps]))


def event(revision: int, name: str, *, synced: bool) -> WatchObjectsResponse:
    return WatchObjectsResponse(revision=revision, events=[ObjectEvent(object=Object(name=name))], synced=synced)


async def test_a_watch_goes_on_and_repeats_nothing() -> None:
    lost = ConnectionLost("the connection broke")
    control = ScriptedStream(
        "watch_operation",
        [
            [operation("power"), operation("power", "boot"), lost],
            [operation("power", "boot"), operation("power", "boot", "phone-home"), Unavailable("starting")],
            [Unavailable("starting")],
            [operation("power", "boot", "phone-home", state=OperationState.OPERATION_STATE_SUCCEEDED)],
        ],
    )
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), control=control)
    async with connected(transport) as client:
        seen = [response.operation async for response in client.control.watch_operation(region=EAST, id=new_id())]
    assert [len(each.steps) for each in seen] == [1, 2, 3, 3]
    assert seen[-1].state == OperationState.OPERATION_STATE_SUCCEEDED
    assert len({request.id for request in control.requests}) == 1


async def test_objects_are_watched_from_the_revision_that_was_complete() -> None:
    lost = ConnectionLost("the connection broke")
    meta = ScriptedStream(
        "watch_objects",
        [
            [event(5, "a", synced=False), lost],
            [event(5, "a", synced=False), event(5, "b", synced=True), event(7, "c", synced=True), lost],
            [event(9, "d", synced=True)],
        ],
    )
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), meta=meta)
    async with connected(transport) as client:
        seen = [response.events[0].object.name async for response in client.meta.watch_objects()]
    assert seen == ["a", "b", "c", "d"]
    assert [request.after_revision for request in meta.requests] == [0, 0, 7]


async def test_a_gateways_own_limit_on_streams_is_no_end() -> None:
    control = ScriptedStream(
        "watch_operation", [[operation("power"), DeadlineExceeded("longer than 3600 s")], [operation("power", "boot")]]
    )
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), control=control)
    async with connected(transport) as client:
        seen = [response async for response in client.control.watch_operation(region=EAST, id=new_id())]
    assert len(seen) == 2


async def test_a_refusal_ends_the_stream() -> None:
    control = ScriptedStream("watch_operation", [[operation("power"), NotFound("gone")]])
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), control=control)
    async with connected(transport) as client:
        with pytest.raises(NotFound):
            async for _ in client.control.watch_operation(region=EAST, id=new_id()):
                pass


async def test_a_stream_without_any_contact_gives_up() -> None:
    time = FakeTime()
    control = ScriptedStream("watch_operation", [[operation("power")], *([Unavailable("down")] for _ in range(200))])
    control._connections[0].append(Unavailable("down"))
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), control=control)
    async with connected(transport, time) as client:
        with pytest.raises(Unavailable, match="down"):
            async for _ in client.control.watch_operation(region=EAST, id=new_id()):
                pass
    assert 20 < time.monotonic() <= 30


async def test_the_callers_deadline_ends_a_stream() -> None:
    time = FakeTime()
    control = ScriptedStream("watch_operation", [[Unavailable("down")] for _ in range(200)])
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), control=control)
    async with connected(transport, time) as client:
        with pytest.raises(Unavailable):
            async for _ in client.control.watch_operation(region=EAST, id=new_id(), timeout_s=5):
                pass
    assert time.monotonic() <= 5


async def test_a_watch_moves_to_the_other_gateway_when_its_own_is_killed() -> None:
    transport, never = InMemoryTransport(), asyncio.Event()
    transport.serve("a", iam=object())
    for address in ("b", "c"):
        served = ScriptedStream("watch_operation", [[operation("power"), never], [operation("power"), never]])
        transport.serve(address, control=served)
    async with connected(transport) as client:
        stream = client.control.watch_operation(region=EAST, id=new_id())
        assert len((await anext(stream)).operation.steps) == 1
        [used] = [call.address for call in transport.calls if call.method == "WatchOperation"]
        other = {"b": "c", "c": "b"}[used]
        transport.serve(other, control=ScriptedStream("watch_operation", [[operation("power", "boot"), never]]))
        transport.stop(used)
        assert len((await anext(stream)).operation.steps) == 2
        assert [call.address for call in transport.calls if call.method == "WatchOperation"] == [used, other]


class Alarm(FakeTime):
    """Does something once so many seconds have been slept."""

    def __init__(self, after_s: float, act: Callable[[], None]) -> None:
        super().__init__()
        self._after_s = after_s
        self._act = act

    async def sleep(self, seconds: float) -> None:
        if self.monotonic() >= self._after_s:
            self._after_s = float("inf")
            self._act()
        await super().sleep(seconds)


async def test_a_watch_outlives_a_time_in_which_no_gateway_of_its_service_is_announced() -> None:
    transport, never = InMemoryTransport(require_login=True), asyncio.Event()
    done = operation("power", "boot", state=OperationState.OPERATION_STATE_SUCCEEDED)
    time = Alarm(12, lambda: transport.serve("b", control=ScriptedStream("watch_operation", [[done]])))
    transport.serve("a", iam=FakeIam(time))
    transport.serve("b", control=ScriptedStream("watch_operation", [[operation("power"), never]]))
    credentials, timeouts = Credentials("ada", "secret"), Timeouts(connect_s=2, reconnect_s=30)
    async with Client(["a"], transport, credentials=credentials, time=time, timeouts=timeouts) as client:
        stream = client.control.watch_operation(region=EAST, id=new_id())
        await anext(stream)
        transport.stop("b")
        transport.set_regions(REGIONS)
        # With them the client was told that there is no gateway.
        await eventually(lambda: client._catalogue.below(""))
        async with asyncio.timeout(10):
            assert (await anext(stream)).operation.state == OperationState.OPERATION_STATE_SUCCEEDED
    assert 12 <= time.monotonic() < 30


class Loader:
    """Answers every two records."""

    def __init__(self) -> None:
        self.records: list[LoadProvidersRequest] = []

    async def load_providers(
        self, requests: AsyncIterator[LoadProvidersRequest]
    ) -> AsyncIterator[LoadProvidersResponse]:
        async for request in requests:
            self.records.append(request)
            if len(self.records) % 2 == 0:
                yield LoadProvidersResponse(received=len(self.records), stored=2)


async def test_records_all_go_to_the_first_ones_region_with_an_id_each() -> None:
    loader = Loader()
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), meta=FakeMeta(), resource=loader)
    records = [LoadProvidersRequest(region=region, name=f"n{i}") for i, region in enumerate(["east", "east", "", EAST])]
    async with connected(transport) as client:
        answers = [answer.received async for answer in client.resource.load_providers(records)]
        assert [answer async for answer in client.resource.load_providers([])] == []
    assert answers == [2, 4]
    assert {record.region for record in loader.records} == {EAST}
    assert len({record.request_id for record in loader.records}) == 4


async def test_what_the_callers_own_records_raise_reaches_the_caller() -> None:
    def records() -> Iterator[LoadProvidersRequest]:
        yield LoadProvidersRequest(region=EAST, name="n1")
        yield LoadProvidersRequest(region=EAST, name="n2")
        raise ValueError("line 3 is no record")

    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=Loader())
    async with connected(transport) as client:
        answers = client.resource.load_providers(records())
        assert (await anext(answers)).received == 2
        with pytest.raises(ValueError, match="line 3"):
            await anext(answers)
