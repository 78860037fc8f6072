"""A system inside the process, for tests of what speaks to one: services as plain objects, and a clock to turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from mulligan.api.catalog.v1.catalog_service_pb2 import RegionRoute
from mulligan.api.iam.v1.iam_pb2 import Tokens
from mulligan.api.iam.v1.request_response_pb2 import (
    LoginRequest,
    LoginResponse,
    RefreshRequest,
    RefreshResponse,
    RevokeRequest,
    RevokeResponse,
)
from mulligan.api.meta.v1.meta_pb2 import NameKey, Object, ResolvedName
from mulligan.api.meta.v1.request_response_pb2 import (
    LookupObjectsRequest,
    LookupObjectsResponse,
    ResolveNamesRequest,
    ResolveNamesResponse,
)
from mulligan.clock import SECOND, now_us, to_timestamp
from mulligan.errors import MulliganError, Unauthenticated, Unavailable

EARTH = "00000000-0000-7000-8000-0000000000e0"
EAST = "00000000-0000-7000-8000-0000000000e1"
WEST = "00000000-0000-7000-8000-0000000000e2"

REGIONS = [
    RegionRoute(region=EARTH, shard="default"),
    RegionRoute(region=EAST, parent=EARTH, shard="default"),
    RegionRoute(region=WEST, parent=EARTH, shard="west"),
]


class FakeTime:
    """A clock that moves only when somebody sleeps or turns it."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._elapsed_s = 0.0

    def monotonic(self) -> float:
        return self._elapsed_s

    def now_us(self) -> int:
        return 1_800_000_000 * SECOND + int(self._elapsed_s * SECOND)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.turn(seconds)
        await asyncio.sleep(0)

    def turn(self, seconds: float) -> None:
        self._elapsed_s += seconds


class WallClock(FakeTime):
    """The real time of day, so that tokens live as long as they say."""

    now_us = staticmethod(now_us)


class FakeIam:
    """Lets one account in; counts what it did."""

    def __init__(self, time: FakeTime, *, secret: str = "secret", life_s: int = 600) -> None:
        self._time = time
        self._secret = secret
        self._life_s = life_s
        self.logins = 0
        self.refreshes = 0
        self.revoked: list[str] = []
        self._live_refresh = ""
        self.refresh_fails = False
        # Requests to refresh that come too early.
        self.unready = 0

    async def login(self, request: LoginRequest) -> LoginResponse:
        self.logins += 1
        await asyncio.sleep(0)
        if request.secret != self._secret:
            raise Unauthenticated("account or secret is wrong", reason="LOGIN_REFUSED")
        return LoginResponse(tokens=self._tokens(f"login-{self.logins}", request.project))

    async def refresh(self, request: RefreshRequest) -> RefreshResponse:
        self.refreshes += 1
        await asyncio.sleep(0)
        if self.unready:
            self.unready -= 1
            raise Unavailable("starting")
        if self.refresh_fails:
            raise Unavailable("the connection broke")
        if request.refresh_token != self._live_refresh:
            raise Unauthenticated("this refresh token was used before", reason="TOKEN_REVOKED")
        return RefreshResponse(tokens=self._tokens(f"refresh-{self.refreshes}", ""))

    async def revoke(self, request: RevokeRequest) -> RevokeResponse:
        self.revoked.append(request.token)
        return RevokeResponse()

    def _tokens(self, name: str, project: str) -> Tokens:
        now = self._time.now_us()
        self._live_refresh = f"{name}-refresh"
        return Tokens(
            access_token=name,
            access_expire_time=to_timestamp(now + self._life_s * SECOND),
            refresh_token=self._live_refresh,
            refresh_expire_time=to_timestamp(now + 10 * self._life_s * SECOND),
            account="00000000-0000-7000-8000-00000000000a",
            project=project,
        )


class FakeMeta:
    """Knows names; counts how often it was asked."""

    def __init__(self, names: dict[tuple[str, str, str], str] | None = None) -> None:
        """`names` maps (kind, scope, name) to a UUID."""
        self.names = {("region", "", "earth"): EARTH, ("region", "", "east"): EAST} if names is None else names
        self.asked: list[NameKey] = []

    async def resolve_names(self, request: ResolveNamesRequest) -> ResolveNamesResponse:
        self.asked.extend(request.names)
        found = [
            ResolvedName(key=key, id=self.names[key.kind, key.scope, key.name])
            for key in request.names
            if (key.kind, key.scope, key.name) in self.names
        ]
        return ResolveNamesResponse(resolved=found)

    async def lookup_objects(self, request: LookupObjectsRequest) -> LookupObjectsResponse:
        known = {id: key for key, id in self.names.items()}
        found = [(id, *known[id]) for id in request.ids if id in known]
        return LookupObjectsResponse(
            objects=[Object(id=id, kind=kind, scope=scope, region=scope, name=name) for id, kind, scope, name in found]
        )


class Script:
    """Serves any unary RPC from a list of answers: a message to return, an error to raise, or a function."""

    def __init__(self, **answers: list[Any]) -> None:
        """Method names in snake case; the last answer of each is given again and again."""
        self._answers = answers
        self.requests: list[Any] = []

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        answers = self.__dict__.get("_answers", {}).get(name)
        if answers is None:
            raise AttributeError(name)

        async def handler(request: Any) -> Any:
            self.requests.append(request)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, MulliganError):
                raise answer
            return answer(request) if callable(answer) else answer

        return handler


class ScriptedStream:
    """Serves one streaming RPC: each connection gives its messages, then raises its error or ends."""

    def __init__(self, name: str, connections: list[list[Any]]) -> None:
        """An exception in a connection's list is raised there; an Event is waited for."""
        self._connections = connections
        self.requests: list[Any] = []
        setattr(self, name, self._serve)

    async def _serve(self, request: Any) -> AsyncIterator[Any]:
        copy = type(request)()
        copy.CopyFrom(request)
        self.requests.append(copy)
        for item in self._connections.pop(0):
            if isinstance(item, MulliganError):
                raise item
            if isinstance(item, asyncio.Event):
                await item.wait()
            else:
                yield item
