"""One request to several shards."""

from __future__ import annotations

import asyncio

import pytest
from google.rpc.code_pb2 import Code

from gateways.fan_out import find, first, merge
from gateways.gateway import SERVICES
from gateways.methods import methods_of
from mulligan.api.resource.v1 import provider_pb2, request_response_pb2
from mulligan.dispatch import OK, Reply
from mulligan.errors import InvalidArgument

METHODS = {method.name: method for method in methods_of(SERVICES["resource"])}
LIST, USAGE = METHODS["ListProviders"], METHODS["GetUsage"]


class Lists:
    """Shards with named providers, listed by a token that is the position."""

    def __init__(self, **shards: int) -> None:
        self.shards = shards
        self.asked: list[tuple[str, int, str]] = []

    async def send(self, shard: str, request: bytes) -> Reply:
        """One page of a shard."""
        asked = request_response_pb2.ListProvidersRequest.FromString(request)
        self.asked.append((shard, asked.page_size, asked.page_token))
        begin = int(asked.page_token or 0)
        end = min(begin + asked.page_size, self.shards[shard])
        response = request_response_pb2.ListProvidersResponse(
            providers=[provider_pb2.Provider(id=f"{shard}{number}") for number in range(begin, end)],
            next_page_token=str(end) if end < self.shards[shard] else "",
        )
        return OK, response.SerializeToString()

    async def page(self, size: int, token: str = "") -> tuple[list[str], str]:
        """Ids and the next token."""
        request = request_response_pb2.ListProvidersRequest(page_size=size, page_token=token)
        code, payload = await merge(self.send, LIST, tuple(self.shards), request.SerializeToString())
        assert code == OK
        response = request_response_pb2.ListProvidersResponse.FromString(payload)
        return [provider.id for provider in response.providers], response.next_page_token

    async def walk(self, size: int) -> list[list[str]]:
        """All pages."""
        pages, token = [], ""
        while True:
            ids, token = await self.page(size, token)
            pages.append(ids)
            if not token:
                return pages


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 100])
async def test_a_list_goes_over_all_shards_in_full_pages_each_item_once(size: int) -> None:
    lists = Lists(a=3, b=0, c=4)
    pages = await lists.walk(size)
    assert [each for page in pages for each in page] == ["a0", "a1", "a2", "c0", "c1", "c2", "c3"]
    assert all(len(page) == size for page in pages[:-1])


async def test_a_shard_is_asked_for_no_more_than_the_page_lacks() -> None:
    lists = Lists(a=3, b=5)
    await lists.page(4)
    assert lists.asked == [("a", 4, ""), ("b", 1, "")]


async def test_no_size_means_a_hundred_over_all_shards() -> None:
    ids, token = await Lists(a=60, b=60).page(0)
    assert (len(ids), token) == (100, "b.40")


@pytest.mark.parametrize("token", ["40", "z.3", "nonsense", ".3"])
async def test_a_token_that_this_list_did_not_give(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await Lists(a=3, b=3).page(2, token)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_a_negative_size_and_a_broken_message_are_refused() -> None:
    lists = Lists(a=1, b=1)
    with pytest.raises(InvalidArgument):
        await lists.page(-1)
    with pytest.raises(InvalidArgument) as refused:
        await merge(lists.send, LIST, ("a", "b"), b"\xff")
    assert refused.value.reason == "MALFORMED_MESSAGE"


async def test_no_shards_list_nothing() -> None:
    assert await merge(Lists().send, LIST, (), b"") == (OK, b"")


class Answers:
    """Shards that answer as told."""

    def __init__(self, **replies: Reply) -> None:
        self.replies = replies
        self.asked: list[str] = []
        self.together = 0
        self._open = 0

    async def send(self, shard: str, _request: bytes) -> Reply:
        """The shard's reply."""
        self.asked.append(shard)
        self._open += 1
        self.together = max(self.together, self._open)
        await asyncio.sleep(0)
        self._open -= 1
        return self.replies[shard]


def usage(name: str) -> Reply:
    """A response with one row."""
    response = request_response_pb2.GetUsageResponse()
    response.usages.add(resource_type=name)
    return OK, response.SerializeToString()


MISSING, FULL, AWAY = (Code.NOT_FOUND, b"m"), (Code.RESOURCE_EXHAUSTED, b"f"), (Code.UNAVAILABLE, b"u")
INVALID = (Code.INVALID_ARGUMENT, b"i")


@pytest.mark.parametrize(
    ("replies", "answer", "asked"),
    [
        ([(OK, b"1"), (OK, b"2")], (OK, b"1"), 1),
        ([MISSING, (OK, b"2")], (OK, b"2"), 2),
        ([FULL, MISSING, (OK, b"3")], (OK, b"3"), 3),
        ([MISSING, FULL], FULL, 2),
        ([FULL, MISSING], MISSING, 2),
        ([AWAY, (OK, b"2")], AWAY, 1),
        ([MISSING, INVALID, (OK, b"3")], INVALID, 2),
    ],
)
async def test_first_goes_on_only_where_a_shard_does_not_have_it(
    replies: list[Reply], answer: Reply, asked: int
) -> None:
    answers = Answers(**{f"s{number}": reply for number, reply in enumerate(replies)})
    assert await first(answers.send, tuple(answers.replies), b"") == answer
    assert len(answers.asked) == asked


async def test_what_is_not_paged_is_asked_of_all_shards_at_once() -> None:
    answers = Answers(a=usage("cpu"), b=MISSING, c=usage("memory"))
    code, payload = await merge(answers.send, USAGE, ("a", "b", "c"), b"")
    joined = request_response_pb2.GetUsageResponse.FromString(payload)
    assert (code, [each.resource_type for each in joined.usages]) == (OK, ["cpu", "memory"])
    assert answers.together == 3


async def test_half_an_answer_is_none() -> None:
    assert await merge(Answers(a=usage("cpu"), b=AWAY).send, USAGE, ("a", "b"), b"") == AWAY
    assert await merge(Answers(a=MISSING, b=MISSING).send, USAGE, ("a", "b"), b"") == MISSING
    assert await merge(Answers(a=AWAY, b=MISSING).send, LIST, ("a", "b"), b"") == AWAY
    assert await merge(Answers(a=MISSING, b=MISSING).send, LIST, ("a", "b"), b"") == MISSING


class Shards:
    """Each answers with its code, or does not answer at all."""

    def __init__(self, **codes: int | None) -> None:
        self.codes = codes

    async def send(self, shard: str, _request: bytes) -> Reply:
        """The shard's own reply."""
        code = self.codes[shard]
        if code is None:
            await asyncio.Event().wait()
        return code or OK, shard.encode()

    async def find(self) -> Reply:
        """What is told of an object that one of them may have."""
        async with asyncio.timeout(5):
            return await find(self.send, tuple(self.codes), b"")


@pytest.mark.parametrize("away", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, None])
async def test_what_one_shard_has_is_found_while_another_is_away(away: int | None) -> None:
    assert await Shards(a=away, b=Code.NOT_FOUND, c=OK).find() == (OK, b"c")


async def test_what_may_be_in_a_shard_that_is_away_is_not_called_missing() -> None:
    assert await Shards(a=Code.NOT_FOUND, b=Code.UNAVAILABLE, c=Code.NOT_FOUND).find() == (Code.UNAVAILABLE, b"b")
    assert await Shards(a=Code.NOT_FOUND, b=Code.NOT_FOUND).find() == (Code.NOT_FOUND, b"b")


async def test_a_refusal_is_told_without_the_others() -> None:
    assert await Shards(a=None, b=Code.INVALID_ARGUMENT).find() == (Code.INVALID_ARGUMENT, b"b")
