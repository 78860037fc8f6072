"""What a generated client is made of: the constant facts of each RPC, and the ways to call one.

Generated modules import this one alone, so that they can be used without the runtime of `mulligan.client`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
ItemT = TypeVar("ItemT")


class Streaming(Enum):
    """Which side of a method sends more than one message."""

    NONE = "none"
    SERVER = "server"
    CLIENT = "client"
    BOTH = "both"


class FanOut(Enum):
    """What a gateway does when the request's region covers several shards."""

    NONE = "none"
    MERGE = "merge"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Resume:
    """How a broken stream goes on where it was."""

    # Field of the request that takes the position, and field of the response that tells it.
    request_field: str
    response_field: str
    # Field of the response that says whether its position may be used; empty: always.
    complete_field: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Method(Generic[RequestT, ResponseT]):
    """The constant facts of one RPC, as its proto declares them."""

    service: str
    # "/package.Service/Method", as gRPC names it.
    path: str
    request: type[RequestT]
    response: type[ResponseT]
    streaming: Streaming = Streaming.NONE
    # The permission it needs; empty: none.
    permission: str = ""
    # True: it is called without a token.
    anonymous: bool = False
    # Field of the request that holds the region; empty: the service is not partitioned.
    region_field: str = ""
    fan_out: FanOut = FanOut.NONE
    retry_safe: bool = False
    solo: bool = False
    # True: the request has a request_id that makes its repetition the same request.
    request_id: bool = False
    resume: Resume | None = None

    @property
    def name(self) -> str:
        """Name of the RPC, as in its proto."""
        return self.path.rpartition("/")[2]


class Calls(Protocol):
    """Carries the calls of generated clients: `mulligan.client.Client` brings one."""

    async def unary(self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float | None) -> ResponseT:
        """One request, one response."""
        ...

    def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> AsyncGenerator[ResponseT, None]:
        """One request, many responses."""
        ...

    def exchange(
        self,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterable[RequestT] | Iterable[RequestT],
        timeout_s: float | None,
    ) -> AsyncGenerator[ResponseT, None]:
        """Many requests, many responses."""
        ...


class Pager(Generic[RequestT, ResponseT, ItemT]):
    """A list in pages: awaited it is the first page's response, iterated it is every item of every page."""

    def __init__(
        self,
        calls: Calls,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        timeout_s: float | None,
        items: Callable[[ResponseT], Iterable[ItemT]],
    ) -> None:
        """`items` takes the repeated field out of a response; `timeout_s` is for each page."""
        self._calls = calls
        self._method = method
        self._request = request
        self._timeout_s = timeout_s
        self._items = items

    def __await__(self) -> Generator[Any, None, ResponseT]:
        return self._calls.unary(self._method, self._request, self._timeout_s).__await__()

    async def pages(self) -> AsyncIterator[ResponseT]:
        """The response of every page, in order."""
        request = self._method.request()
        request.CopyFrom(self._request)
        while True:
            page: Any = await self._calls.unary(self._method, request, self._timeout_s)
            yield page
            if not page.next_page_token:
                return
            _set(request, "page_token", page.next_page_token)

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async for page in self.pages():
            for item in self._items(page):
                yield item


def _set(message: Message, field: str, value: object) -> None:
    setattr(message, field, value)
