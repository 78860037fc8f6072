"""Carries the calls of generated clients: route, token, gateway, and another attempt when that may help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from mulligan.client._attempts import Attempts
from mulligan.client._catalogue import Catalogue
from mulligan.client._config import Backoff, Timeouts
from mulligan.client._endpoints import Endpoints
from mulligan.client._routes import Routes
from mulligan.client._time import Deadline, Time
from mulligan.client._tokens import TokenSource
from mulligan.client._transport import Metadata, Transport
from mulligan.errors import DeadlineExceeded, MulliganError, Unauthenticated, Unavailable
from mulligan.ids import new_id
from mulligan.methods import Method, RequestT, ResponseT, Resume


class RoutedCalls:
    """The calls of one client. Routes and tokens come after it, since they are got by calls themselves."""

    routes: Routes
    tokens: TokenSource

    def __init__(
        self,
        transport: Transport,
        endpoints: Endpoints,
        catalogue: Catalogue,
        time: Time,
        timeouts: Timeouts,
        backoff: Backoff,
    ) -> None:
        self._transport = transport
        self._endpoints = endpoints
        self._catalogue = catalogue
        self._time = time
        self._timeouts = timeouts
        self._backoff = backoff

    async def unary(self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float | None) -> ResponseT:
        """One request, one response; raises `mulligan.errors`. The request's request_id is filled in when empty."""
        deadline = Deadline(self._time, self._timeouts.call_s if timeout_s is None else timeout_s)
        _identify(method, request)
        attempts: Attempts | None = None
        while True:
            metadata, address = await self._prepare(method, request, deadline)
            remaining_s = deadline.remaining_s() or 0.0
            self._endpoints.begin(address)
            try:
                response = await self._transport.unary(address, method, request, metadata, remaining_s)
                self._endpoints.works(address)
                return response
            except MulliganError as failure:
                error = failure
            finally:
                self._endpoints.end(address)
            attempts = attempts or self._attempts(method, deadline)
            await attempts.recover(error, request, address, metadata)

    async def stream(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float | None
    ) -> AsyncGenerator[ResponseT, None]:
        """One request, many responses. A retry-safe stream that breaks goes on at another gateway, where it was;
        what a new gateway says again unchanged is not said twice.
        """
        deadline = Deadline(self._time, timeout_s)
        _identify(method, request)
        attempts = self._attempts(method, deadline)
        last: ResponseT | None = None
        while True:
            error: MulliganError | None = None
            metadata, address = await self._prepare(method, request, deadline)
            again = last
            try:
                responses: Any = self._transport.stream(address, method, request, metadata, deadline.remaining_s())
                async with aclosing(responses):
                    async for response in responses:
                        attempts.succeeded()
                        self._endpoints.works(address)
                        _advance(method.resume, request, response)
                        said_before, again, last = response == again, None, response
                        if not said_before:
                            yield response
            except MulliganError as broken:
                error = broken
            if error is None:
                return
            await attempts.recover(error, request, address, metadata)

    async def exchange(
        self,
        method: Method[RequestT, ResponseT],
        requests: AsyncIterable[RequestT] | Iterable[RequestT],
        timeout_s: float | None,
    ) -> AsyncGenerator[ResponseT, None]:
        """Many requests, many responses. The first request's region decides where it goes. It is not repeated when
        it breaks: who sends knows what was answered.
        """
        deadline = Deadline(self._time, timeout_s)
        outgoing = aiter(_each(requests))
        try:
            first = await anext(outgoing)
        except StopAsyncIteration:
            return
        asked = getattr(first, method.region_field) if method.region_field else ""
        metadata, address = await self._prepare(method, first, deadline)
        broken: list[Exception] = []
        messages = _outgoing(method, first, asked, outgoing, broken)
        try:
            responses: Any = self._transport.exchange(address, method, messages, metadata, deadline.remaining_s())
            async with aclosing(responses):
                async for response in responses:
                    self._endpoints.works(address)
                    yield response
        except MulliganError as error:
            self._attempts(method, deadline).note(error, address, metadata)
            raise
        if broken:
            raise broken[0]

    async def _prepare(self, method: Method[Any, Any], request: Message, deadline: Deadline) -> tuple[Metadata, str]:
        """Who the caller is, and the gateway to call."""
        metadata = self._known_token(method)
        if metadata is None:
            metadata = await self._token(deadline)
        key = await self.routes.find(method, request, deadline.remaining_s()) if method.region_field else ""
        address = self._endpoints.choose(method.service, key)
        if address is None:
            if self.tokens.is_anonymous and not method.anonymous:
                raise Unauthenticated(f"{method.name} needs a token; log in first")
            await self._catalogue.wait_for(method.service, self._announcement_deadline(deadline))
            address = self._endpoints.choose(method.service, key)
            assert address is not None, "the catalogue has just told one"
        return metadata, address

    def _known_token(self, method: Method[Any, Any]) -> Metadata | None:
        """The token to send, () for none; None when one has to be got first."""
        if not method.anonymous:
            return self.tokens.current()
        # The catalogue tells more to who has a token; logging in must not depend on an old one.
        return () if method.service == "iam" else self.tokens.current() or ()

    async def _token(self, deadline: Deadline) -> Metadata:
        """A new token. Whatever the call is, it was not sent yet, so it can wait for a service that is away."""
        failures, patience = 0, deadline
        if deadline.remaining_s() is None:
            patience = Deadline(self._time, self._timeouts.reconnect_s)
        while True:
            try:
                async with asyncio.timeout(deadline.remaining_s()):
                    return await self.tokens.get()
            except TimeoutError:
                raise DeadlineExceeded("logging in took longer than the call may take") from None
            except Unavailable as error:
                failures += 1
                delay_s = max(self._backoff.delay_s(failures), error.retry_after_s or 0.0)
                if not patience.allows(delay_s):
                    raise
            await self._time.sleep(delay_s)

    def _announcement_deadline(self, deadline: Deadline) -> Deadline:
        remaining = deadline.remaining_s()
        longest = self._timeouts.connect_s
        return Deadline(self._time, longest if remaining is None else min(remaining, longest))

    def _attempts(self, method: Method[Any, Any], deadline: Deadline) -> Attempts:
        return Attempts(
            method,
            deadline,
            time=self._time,
            timeouts=self._timeouts,
            backoff=self._backoff,
            endpoints=self._endpoints,
            routes=self.routes,
            tokens=self.tokens,
        )


def _identify(method: Method[Any, Any], request: Any) -> None:
    """Retries are the same request, because they carry the same id."""
    if method.request_id and not request.request_id:
        request.request_id = new_id()


def _advance(resume: Resume | None, request: Message, response: Message) -> None:
    """Lets the request ask for what comes after this response."""
    if resume is None or (resume.complete_field and not getattr(response, resume.complete_field)):
        return
    setattr(request, resume.request_field, getattr(response, resume.response_field))


async def _each(requests: AsyncIterable[RequestT] | Iterable[RequestT]) -> AsyncIterator[RequestT]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


async def _outgoing(
    method: Method[RequestT, Any],
    first: RequestT,
    asked: str,
    rest: AsyncIterator[RequestT],
    broken: list[Exception],
) -> AsyncIterator[RequestT]:
    """The messages as they go out. All go where the first goes, whose region was `asked` for by name perhaps.

    What the caller's own iterator raises ends the stream in order and is kept in `broken`: gRPC would drop it.
    """
    _identify(method, first)
    yield first
    region = getattr(first, method.region_field) if method.region_field else ""
    try:
        async for request in rest:
            if region and getattr(request, method.region_field) in ("", asked):
                setattr(request, method.region_field, region)
            _identify(method, request)
            yield request
    except Exception as error:
        broken.append(error)
