"""Names, regions, shards and gateways: where a request goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mulligan.api.meta.v1.request_response_pb2 import ListRegionsResponse
from mulligan.api.resource.v1.request_response_pb2 import (
    GetVocabularyResponse,
    ListProvidersRequest,
    ListProvidersResponse,
)
from mulligan.client import Client, Credentials, InMemoryTransport, Timeouts
from mulligan.client._endpoints import Endpoints
from mulligan.errors import InvalidArgument, NotFound, Unauthenticated
from mulligan.ids import new_id
from tests.fake_system import EARTH, EAST, REGIONS, WEST, FakeIam, FakeMeta, FakeTime, Script
from tests.waiting import eventually


@asynccontextmanager
async def connected(
    transport: InMemoryTransport, time: FakeTime | None = None, credentials: Credentials | None = None
) -> AsyncIterator[Client]:
    client = Client(["a"], transport, time=time or FakeTime(), credentials=credentials, timeouts=Timeouts(connect_s=2))
    async with client:
        yield client


def gateways(transport: InMemoryTransport, method: str) -> Counter[str]:
    return Counter(call.address for call in transport.calls if call.method == method)


async def test_a_region_may_be_named_and_is_resolved_once() -> None:
    meta, resource = FakeMeta(), Script(get_vocabulary=[GetVocabularyResponse()])
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), meta=meta, resource=resource)
    async with connected(transport) as client:
        for _ in range(3):
            await client.resource.get_vocabulary(region="east")
        await client.resource.get_vocabulary(region=WEST)
        await client.resource.get_vocabulary()
    assert [request.region for request in resource.requests] == [EAST, EAST, EAST, WEST, ""]
    assert [(key.kind, key.name) for key in meta.asked] == [("region", "east")]


async def test_a_name_that_is_not_there_is_told_and_asked_for_again() -> None:
    meta = FakeMeta()
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), meta=meta, resource=Script(get_vocabulary=[GetVocabularyResponse()]))
    async with connected(transport) as client:
        with pytest.raises(NotFound, match="no region named 'south'"):
            await client.resource.get_vocabulary(region="south")
        meta.names["region", "", "south"] = WEST
        await client.resource.get_vocabulary(region="south")


async def test_names_are_remembered_for_a_minute_and_not_more_than_ten_thousand() -> None:
    meta, time = FakeMeta(), FakeTime()
    meta.names |= {("provider", EAST, f"n{i}"): new_id() for i in range(10_050)}
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), meta=meta)
    async with connected(transport, time) as client:
        everything = [f"n{i}" for i in range(10_050)]
        assert len(await client.names.resolve_many("provider", everything, [EAST])) == 10_050
        assert len(client.names._cache) == 10_000
        meta.asked.clear()
        await client.names.resolve("provider", "n10000", EAST)
        assert meta.asked == []
        time.turn(61)
        await client.names.resolve("provider", "n10000", EAST)
        assert len(meta.asked) == 1


async def test_what_was_not_found_makes_remembered_names_suspect() -> None:
    meta = FakeMeta()
    resource = Script(get_vocabulary=[GetVocabularyResponse(), NotFound("no such region"), GetVocabularyResponse()])
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), meta=meta, resource=resource)
    async with connected(transport) as client:
        await client.resource.get_vocabulary(region="east")
        meta.names["region", "", "east"] = WEST
        with pytest.raises(NotFound):
            await client.resource.get_vocabulary(region="east")
        await client.resource.get_vocabulary(region="east")
    assert [request.region for request in resource.requests] == [EAST, EAST, WEST]


async def test_id_or_name_and_find() -> None:
    one, two, both = new_id(), new_id(), new_id()
    meta = FakeMeta({("provider", EAST, "n1"): one, ("provider", EAST, "n2"): both, ("provider", WEST, "n2"): two})
    transport = InMemoryTransport(regions=REGIONS)
    transport.serve("a", iam=object(), meta=meta)
    async with connected(transport) as client:
        assert await client.names.id_or_name("provider", one, EAST) == one
        assert await client.names.id_or_name("provider", "", EAST) == ""
        assert await client.names.id_or_name("provider", "n1", EAST) == one
        assert sorted(await client.regions_below(EARTH)) == [EARTH, EAST, WEST]
        scopes = await client.regions_below()
        assert await client.names.find("provider", "n1", scopes) == (one, EAST)
        assert await client.names.find("provider", two, scopes) == (two, "")
        with pytest.raises(InvalidArgument, match="2 regions have a provider named 'n2'"):
            await client.names.find("provider", "n2", scopes)
        with pytest.raises(NotFound, match="no provider named 'n3'"):
            await client.names.find("provider", "n3", scopes)


def test_a_gateway_that_answers_is_back_at_once_and_forgiven() -> None:
    time = FakeTime()
    endpoints = Endpoints(["a"], time)
    endpoints.update({"resource": ["b", "c"]})
    first = endpoints.choose("resource")
    assert first is not None
    for _ in range(6):
        endpoints.failed(first)
        time.turn(20)
    endpoints.failed(first)
    assert endpoints.choose("resource") != first
    endpoints.works(first)
    assert endpoints.choose("resource") == first
    endpoints.failed(first)
    time.turn(0.6)  # no longer than after a first failure
    assert endpoints.choose("resource") == first


def test_a_gateway_that_fails_again_and_again_is_left_alone_for_longer() -> None:
    time = FakeTime()
    endpoints = Endpoints(["a", "b"], time)
    first = endpoints.choose("catalog")
    assert first is not None
    for _ in range(5):
        endpoints.failed(first)
        endpoints.failed(first)  # calls that fail together count once
        time.turn(20)
    endpoints.failed(first)
    time.turn(5)
    assert endpoints.choose("catalog") != first
    time.turn(11)
    assert endpoints.choose("catalog") == first


def test_when_all_are_put_aside_the_first_to_come_back_is_asked() -> None:
    time = FakeTime()
    endpoints = Endpoints(["a", "b"], time)
    endpoints.failed("a")
    time.turn(0.3)  # more than the jitter of the wait
    endpoints.failed("b")
    assert endpoints.choose("catalog") == "a"
    assert not endpoints.has_other("catalog", ["a"])


async def test_what_was_known_outlives_the_login() -> None:
    time, transport = FakeTime(), InMemoryTransport(require_login=True, regions=REGIONS)
    transport.serve("a", iam=FakeIam(time), resource=Script(get_vocabulary=[GetVocabularyResponse()]))
    async with connected(transport, time, Credentials("ada", "secret")) as client:
        await client.resource.get_vocabulary(region=EAST)
        await client.logout()
        await eventually(lambda: not transport.calls[-1].metadata)
        with pytest.raises(Unauthenticated):
            await client.resource.get_vocabulary(region=EAST)
    assert [call.metadata for call in transport.calls if call.method == "GetVocabulary"][-1] == ()


async def test_one_caller_keeps_to_one_gateway_for_a_shard() -> None:
    transport = InMemoryTransport(regions=REGIONS)
    resource = Script(get_vocabulary=[GetVocabularyResponse()])
    for address in ("a", "b", "c"):
        transport.serve(address, iam=object(), resource=resource)
    async with connected(transport) as client:
        for region in (EARTH, EAST) * 10:
            await client.resource.get_vocabulary(region=region)
    assert len(gateways(transport, "GetVocabulary")) == 1


async def test_many_callers_share_the_gateways_out() -> None:
    transport, opened = InMemoryTransport(regions=REGIONS), asyncio.Event()

    class Slow:
        async def get_vocabulary(self, request: object) -> GetVocabularyResponse:
            await opened.wait()
            return GetVocabularyResponse()

    for address in ("a", "b", "c"):
        transport.serve(address, iam=object(), resource=Slow())
    async with connected(transport) as client:
        calls = [asyncio.create_task(client.resource.get_vocabulary(region=EAST)) for _ in range(30)]
        await eventually(lambda: sum(gateways(transport, "GetVocabulary").values()) == 30)
        opened.set()
        await asyncio.gather(*calls)
    assert gateways(transport, "GetVocabulary") == {"a": 10, "b": 10, "c": 10}


async def test_clients_do_not_all_prefer_the_same_gateway() -> None:
    transport = InMemoryTransport(regions=REGIONS)
    resource = Script(get_vocabulary=[GetVocabularyResponse()])
    for address in ("a", "b"):
        transport.serve(address, iam=object(), resource=resource)
    for _ in range(20):
        async with connected(transport) as client:
            await client.resource.get_vocabulary(region=EAST)
    assert set(gateways(transport, "GetVocabulary")) == {"a", "b"}


async def test_a_new_gateway_is_found_and_a_withdrawn_one_left() -> None:
    transport = InMemoryTransport(regions=REGIONS)
    resource = Script(get_vocabulary=[GetVocabularyResponse()])
    transport.serve("a", iam=FakeIam(FakeTime()))
    async with connected(transport, credentials=Credentials("ada", "secret")) as client:
        transport.serve("b", resource=resource)
        await client.resource.get_vocabulary(region=EAST)
        transport.serve("c", resource=resource)
        transport.stop("b")
        await asyncio.sleep(0)
        transport.calls.clear()
        await client.resource.get_vocabulary(region=EAST)
    assert gateways(transport, "GetVocabulary") == {"c": 1}


async def test_the_catalogue_is_followed_at_another_gateway_when_one_dies() -> None:
    transport = InMemoryTransport(regions=REGIONS)
    resource = Script(get_vocabulary=[GetVocabularyResponse()])
    time = FakeTime()
    iam = FakeIam(time)
    transport.serve("a", iam=iam)
    transport.serve("b", iam=iam)
    async with connected(transport, time, Credentials("ada", "secret")) as client:
        await eventually(lambda: any(call.metadata for call in transport.calls if call.method == "WatchCatalog"))
        used = [call.address for call in transport.calls if call.method == "WatchCatalog"][-1]
        transport.calls.clear()
        transport.stop(used)
        transport.serve("c", resource=resource)
        await client.resource.get_vocabulary(region=EAST)
    assert gateways(transport, "WatchCatalog").keys() <= {"a", "b", "c"} - {used}


async def test_a_list_is_its_first_page_and_every_item() -> None:
    ids = [new_id() for _ in range(5)]

    def page(request: ListProvidersRequest) -> ListProvidersResponse:
        start = int(request.page_token or 0)
        response = ListProvidersResponse(next_page_token=str(start + 2) if start + 2 < 5 else "")
        for id in ids[start : start + 2]:
            response.providers.add(id=id)
        return response

    resource = Script(list_providers=[page])
    transport = InMemoryTransport()
    transport.serve("a", iam=object(), resource=resource, meta=Script(list_regions=[ListRegionsResponse()]))
    async with connected(transport) as client:
        first = await client.resource.list_providers(region=EAST, page_size=2)
        assert [provider.id for provider in first.providers] == ids[:2]
        listing = client.resource.list_providers(region=EAST, page_size=2)
        assert [provider.id async for provider in listing] == ids
        assert [len(each.providers) async for each in listing.pages()] == [2, 2, 1]
        assert [region async for region in client.meta.list_regions()] == []
    assert {request.page_size for request in resource.requests} == {2}
