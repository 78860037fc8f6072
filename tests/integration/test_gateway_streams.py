"""Streams through a gateway: over actors that are lost, until the token ends, and in chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from gateways import watch
from mulligan.api.control.v1 import control_service_pb2_grpc
from mulligan.api.control.v1 import request_response_pb2 as control_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import resource_service_pb2_grpc
from mulligan.caller import Caller, Grant
from mulligan.dispatch import PageReply, Reply
from mulligan.errors import MulliganError, NotFound, Unavailable, to_status
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from tests.gateway_parts import ADMIN, MEMBER, Shards, bearer
from tests.gateway_world import World, etcd_of_its_own, failure, new_world
from tests.waiting import eventually

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
async def gateway_addresses() -> AsyncIterator[Addresses]:
    async with etcd_of_its_own() as addresses:
        yield addresses


@pytest.fixture
async def world(gateway_addresses: Addresses) -> AsyncIterator[World]:
    async with new_world(gateway_addresses) as made:
        yield made


def page(*states: str, cursor: str, done: bool = False) -> PageReply:
    """A part of a machine's stream."""
    messages = []
    for state in states:
        response = control_pb2.WatchMachineResponse()
        response.machine.id = state
        messages.append(response.SerializeToString())
    return PageReply(messages, cursor, done)


def failed(error: MulliganError) -> PageReply:
    """A poll that the shard refuses."""
    return PageReply([], "", True, error.code, to_status(error).SerializeToString())


def unused(*_: Any) -> Reply:
    """For shards that serve streams only."""
    raise AssertionError("no unary request was sent")


class Control:
    """A control gateway over two shards, whose pages a test lays out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shards = Shards(unused, served=["a", "b"])

    async def start(self) -> None:
        """Serves."""
        self.region_a = (await self.world.add_region(shard="a")).id
        self.region_b = (await self.world.add_region(shard="b")).id
        await self.world.serve("control", self.shards)
        self.stub = control_service_pb2_grpc.ControlServiceStub(self.world.channel())

    def watch(self, region: str, metadata: Any = None, timeout: float | None = 10) -> Any:
        """A stream of machines."""
        request = control_pb2.WatchMachineRequest(region=region, id=new_id())
        return self.stub.WatchMachine(request, metadata=metadata or self.world.token(), timeout=timeout)

    async def told(self, region: str, **call: Any) -> list[str]:
        """All that a stream tells until it ends well."""
        return [each.machine.id async for each in self.watch(region, **call)]


@pytest.fixture
async def control(world: World) -> Control:
    made = Control(world)
    await made.start()
    return made


async def test_a_stream_is_one_long_poll_after_another(control: Control) -> None:
    control.shards.pages["a"] = [
        page("1", "2", cursor="2"),
        page(cursor="2"),
        page("3", cursor="3"),
        page("4", cursor="4", done=True),
    ]
    assert await control.told(control.region_a) == ["1", "2", "3", "4"]
    assert control.shards.polls == [("a", ""), ("a", "2"), ("a", "2"), ("a", "3")]


async def test_a_stream_does_not_notice_that_its_actor_was_lost(control: Control) -> None:
    control.shards.pages["a"] = [
        page("1", cursor="1"),
        Unavailable("nothing serves the shard"),
        failed(Unavailable("draining", reason="DRAINING")),
        page("2", cursor="2", done=True),
    ]
    assert await control.told(control.region_a) == ["1", "2"]
    assert control.shards.polls[-1] == ("a", "1")


async def test_a_stream_whose_shard_stays_away_fails_in_the_end(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "OUTAGE_S", 0.5)
    control.shards.pages["a"] = [page("1", cursor="1"), *[Unavailable("away", retry_after_s=1) for _ in range(50)]]
    stream = control.watch(control.region_a)
    assert (await stream.read()).machine.id == "1"
    refused = await failure(stream.read())
    assert (refused.code, refused.reason, refused.retry_after_s) == (StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE", 1)


async def test_without_a_region_the_shard_that_knows_it_is_found(control: Control) -> None:
    unknown = failed(NotFound("no such machine"))
    control.shards.pages = {"a": [unknown], "b": [page("1", cursor="1"), page("2", cursor="2", done=True)]}
    assert await control.told("") == ["1", "2"]
    control.shards.pages = {"a": [unknown], "b": [unknown]}
    assert (await failure(control.watch("").read())).code == StatusCode.NOT_FOUND


async def test_without_a_region_a_shard_that_is_away_hides_no_other(control: Control) -> None:
    control.shards.pages = {
        "a": [Unavailable("nothing serves the shard")] * 50,
        "b": [page("1", cursor="1"), page("2", cursor="2", done=True)],
    }
    assert await control.told("") == ["1", "2"]
    control.shards.handler = lambda shard, *_: (
        (0, b"") if shard == "b" else (Unavailable.code, to_status(Unavailable("away")).SerializeToString())
    )
    request = control_pb2.GetMachineRequest(id=new_id())
    await control.stub.GetMachine(request, metadata=control.world.token(), timeout=5)


async def test_without_a_region_a_shard_that_comes_back_is_asked_again(control: Control) -> None:
    unknown = failed(NotFound("no such machine"))
    away = Unavailable("nothing serves the shard")
    control.shards.pages = {"a": [away, away, page("1", cursor="1", done=True)], "b": [unknown] * 50}
    assert await control.told("") == ["1"]


async def test_a_machine_that_is_gone_later_ends_the_stream_there(control: Control) -> None:
    gone = failed(NotFound("it was removed"))
    control.shards.pages = {"a": [page("1", cursor="1"), gone], "b": [page("x", cursor="x")]}
    stream = control.watch("")
    first = await stream.read()
    assert (first.machine.id, (await failure(stream.read())).code) == ("1", StatusCode.NOT_FOUND)


async def test_refusals_come_before_the_first_message(control: Control) -> None:
    assert (await failure(control.watch("no-uuid").read())).reason == "INVALID_UUID"
    assert (await failure(control.watch(new_id()).read())).code == StatusCode.NOT_FOUND
    nobody = control.stub.WatchMachine(control_pb2.WatchMachineRequest(), timeout=5)
    assert (await failure(nobody.read())).reason == "TOKEN_MISSING"
    assert control.shards.polls == []


async def test_an_open_stream_ends_when_its_token_is_revoked_or_expires(control: Control) -> None:
    signer = control.world.signer
    caller = signer.caller(MEMBER, project=new_id())
    for metadata, reason in (
        (bearer(signer.token(caller)), "TOKEN_REVOKED"),
        (bearer(signer.token(signer.caller(MEMBER, project=new_id(), lifetime_s=2))), "TOKEN_EXPIRED"),
    ):
        control.shards.pages["a"] = [page("1", cursor="1")]
        stream = control.watch(control.region_a, metadata)
        await stream.read()
        if reason == "TOKEN_REVOKED":
            await control.world.revoke("account", caller.account)
        refused = await failure(stream.read())
        assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, reason)


async def test_a_stream_that_is_hung_up_leaves_nothing_behind(control: Control) -> None:
    (gateway, _) = control.world.gateways[0]
    control.shards.pages["a"] = [page("1", cursor="1")]
    stream = control.watch(control.region_a)
    await stream.read()
    stream.cancel()
    await eventually(lambda: gateway.in_flight == 0)


async def test_streams_do_not_take_the_place_of_requests(control: Control) -> None:
    await control.world.configure("control", max_in_flight=1)
    control.shards.pages["a"] = [page("1", cursor="1")]
    stream = control.watch(control.region_a)
    await stream.read()
    assert (await failure(control.watch(control.region_a).read())).reason == "TOO_MANY_REQUESTS"
    control.shards.handler = lambda *_: (0, b"")
    await control.stub.GetMachine(
        control_pb2.GetMachineRequest(region=control.region_a), metadata=control.world.token(), timeout=5
    )
    stream.cancel()


class Load:
    """A resource gateway over two shards that take providers in chunks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.received: list[str] = []
        self.shards = Shards(self._answer, served=["a", "b"])

    def _answer(self, shard: str, method: str, caller: Caller, request: bytes) -> Reply:
        last = pb.LoadProvidersRequest.FromString(request)
        self.received.append(last.name)
        _, position, count = self.shards.chunks[-1]
        return 0, pb.LoadProvidersResponse(received=position + count).SerializeToString()

    async def start(self) -> None:
        """Serves."""
        self.region_a = (await self.world.add_region(shard="a")).id
        self.region_b = (await self.world.add_region(shard="b")).id
        await self.world.serve("resource", self.shards)
        self.stub = resource_service_pb2_grpc.ResourceServiceStub(self.world.channel())

    def records(self, count: int, region: Callable[[int], str] | None = None) -> list[Any]:
        """Numbered providers."""
        where = region or (lambda _: self.region_a)
        return [pb.LoadProvidersRequest(request_id=new_id(), region=where(at), name=str(at)) for at in range(count)]

    def send(self, records: Any, metadata: Any = None) -> Any:
        """The stream."""
        return self.stub.LoadProviders(records, metadata=metadata or self.world.token(), timeout=20)


@pytest.fixture
async def load(world: World) -> Load:
    made = Load(world)
    await made.start()
    return made


async def test_many_records_travel_in_few_chunks_in_order(load: Load) -> None:
    load.shards.latency_s = 0.02
    answers = [each.received async for each in load.send(iter(load.records(3000)))]
    assert answers == sorted(answers)
    assert answers[-1] == 3000
    positions = [(position, count) for _, position, count in load.shards.chunks]
    assert [position for position, _ in positions] == [0, *answers[:-1]]
    assert max(count for _, count in positions) <= 256
    assert len(positions) < 150


async def test_one_record_at_a_time_is_answered_at_once(load: Load) -> None:
    stream = load.send(None)
    for number, record in enumerate(load.records(3), start=1):
        await stream.write(record)
        assert (await stream.read()).received == number
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() == StatusCode.OK


async def test_each_record_goes_to_the_shard_of_its_region(load: Load) -> None:
    records = load.records(6, lambda at: load.region_a if at < 4 else load.region_b)
    answers = [each.received async for each in load.send(iter(records))]
    assert answers[-1] == 6
    assert {shard for shard, _, _ in load.shards.chunks} == {"a", "b"}
    assert sum(count for shard, _, count in load.shards.chunks if shard == "b") == 2


async def test_no_record_slips_past_the_bounds_of_an_assignment(load: Load) -> None:
    bound = load.world.token(Grant("operator", True, load.region_a))
    stream = load.send(iter(load.records(3, lambda at: load.region_b if at == 2 else load.region_a)), bound)
    received = 0
    while received < 2:  # what came before it is stored and answered
        received = (await stream.read()).received
    assert (await failure(stream.read())).code == StatusCode.PERMISSION_DENIED


async def test_a_record_that_is_too_large_or_broken_ends_the_stream_after_those_before_it(load: Load) -> None:
    await load.world.configure("resource", max_request_bytes=2048)
    records = load.records(2)
    records[1].name = "x" * 4096
    stream = load.send(iter(records))
    assert (await stream.read()).received == 1
    assert (await failure(stream.read())).reason == "MESSAGE_TOO_LARGE"
    raw = load.world.channel().stream_stream("/mulligan.resource.v1.ResourceService/LoadProviders")
    broken = raw(iter([b"\xff\xff"]), metadata=load.world.token(), timeout=5)
    assert (await failure(broken.read())).reason == "MALFORMED_MESSAGE"


async def test_a_failing_shard_ends_the_stream_with_its_failure(load: Load) -> None:
    error = Unavailable("away", retry_after_s=1)
    load.shards.handler = lambda *_: (error.code, to_status(error).SerializeToString())
    refused = await failure(load.send(iter(load.records(5))).read())
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")


async def test_a_slow_shard_slows_the_sender_down_and_memory_stays_bounded(load: Load) -> None:
    load.shards.open.clear()
    sent = 0

    async def endless() -> AsyncIterator[Any]:
        nonlocal sent
        (record,) = load.records(1)
        record.name = "x" * 20_000
        while sent < 5000:
            sent += 1
            yield record

    stream = load.send(endless())
    await eventually(lambda: load.shards.chunks)
    seen: list[int] = []

    def stands_still() -> bool:
        seen.append(sent)
        return seen[-20:] == [sent] * 20

    await eventually(stands_still)
    assert sent < 1500, "the gateway read on although nothing was taken from it"
    load.shards.open.set()
    answers = [each.received async for each in stream]
    assert answers[-1] == 5000


async def test_an_administrator_in_no_project_may_load(load: Load) -> None:
    metadata = bearer(load.world.signer.token(load.world.signer.caller(ADMIN, project="")))
    assert [each.received async for each in load.send(iter(load.records(1)), metadata)] == [1]
    empty = load.send(iter(()), metadata)
    assert await empty.read() is grpc.aio.EOF
    assert await empty.code() == StatusCode.OK
