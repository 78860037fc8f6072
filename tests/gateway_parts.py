"""What gateway tests stand on: memory in place of etcd, shards in this process, tokens that are really signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.caller import Caller, Grant
from mulligan.clock import SECOND, now_us
from mulligan.dispatch import PageReply, Reply
from mulligan.iam import tokens
from mulligan.ids import new_id
from mulligan.meta.regions import RegionRecord
from mulligan.runtime_settings import default_settings

KEY_ID = "test-key"


class MemoryPrefix:
    """Keys that a test changes, in the manner of a WatchedPrefix."""

    def __init__(self, items: Mapping[str, bytes] | None = None) -> None:
        self.items: dict[str, bytes] = dict(items or {})
        self.revision = 1
        self.on_change: list[Callable[[str, bytes | None], None]] = []

    def put(self, key: str, value: bytes) -> None:
        """Sets a key and tells the listeners."""
        self.items[key] = value
        self._tell(key, value)

    def delete(self, key: str) -> None:
        """Removes a key and tells the listeners."""
        del self.items[key]
        self._tell(key, None)

    def _tell(self, key: str, value: bytes | None) -> None:
        self.revision += 1
        for callback in self.on_change:
            callback(key, value)


class MemorySettings:
    """Settings that a test changes, in the manner of RuntimeSettings."""

    def __init__(self) -> None:
        self.current: ServiceSettings = default_settings(ServiceSettings)
        self.on_change: list[Callable[[ServiceSettings], None]] = []


@dataclass
class MemoryStores:
    """All that a gateway follows."""

    settings: MemorySettings = field(default_factory=MemorySettings)
    keys: MemoryPrefix = field(default_factory=MemoryPrefix)
    revocations: MemoryPrefix = field(default_factory=MemoryPrefix)
    regions: MemoryPrefix = field(default_factory=MemoryPrefix)
    actors: MemoryPrefix = field(default_factory=MemoryPrefix)
    gateways: MemoryPrefix = field(default_factory=MemoryPrefix)


class Signer:
    """Makes tokens that the matching gateway accepts."""

    def __init__(self, key_id: str = KEY_ID) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.key_id = key_id

    @property
    def jwk(self) -> bytes:
        """The public key as IAM publishes it."""
        return json.dumps(tokens.public_jwk(self.key_id, self.key.public_key())).encode()

    def caller(self, *grants: Grant, project: str = "", lifetime_s: float = 600, **fields: Any) -> Caller:
        """An account with these grants and a session of its own."""
        now = now_us()
        made = Caller(
            account=new_id(),
            project=project,
            grants=grants,
            token_id=new_id(),
            session=new_id(),
            issued_us=now,
            expires_us=now + int(lifetime_s * SECOND),
        )
        return replace(made, **fields)

    def token(self, caller: Caller) -> str:
        """Its access token."""
        return tokens.sign(caller, self.key_id, self.key)


ADMIN = Grant("admin", True, "")
MEMBER = Grant("member", False, "")


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)


def region(
    parent: str = "", shard: str = "", visibility: str = "public", projects: tuple[str, ...] = ()
) -> RegionRecord:
    """A region with a new id."""
    return RegionRecord(id=new_id(), parent=parent, shard=shard, visibility=visibility, projects=projects)


Handler = Callable[[str, str, Caller, bytes], Reply]


class Shards:
    """Shards of one service in this process: a function answers each request, a gate can hold the answers back."""

    def __init__(self, handler: Handler, served: Sequence[str] = ("default",), latency_s: float = 0.0) -> None:
        """`handler` gets shard, method, caller and request."""
        self.handler = handler
        self.latency_s = latency_s
        self.served = list(served)
        # Shard and requests of each call, in order.
        self.batches: list[tuple[str, list[str]]] = []
        self.chunks: list[tuple[str, int, int]] = []
        self.polls: list[tuple[str, str]] = []
        self.repeatable: list[bool] = []
        self.timeouts_s: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.calls_in_flight = 0
        self.most_calls_in_flight = 0
        self.pages: dict[str, list[PageReply | Exception]] = {}

    def shards(self, service: str) -> list[str]:
        """Those that are served."""
        return self.served

    async def call(
        self,
        service: str,
        shard: str,
        batch: Sequence[tuple[str, Caller, bytes]],
        timeout_s: float,
        *,
        repeatable: bool = True,
    ) -> list[Reply]:
        """Answers a batch once the gate is open."""
        self.batches.append((shard, [method for method, _, _ in batch]))
        self.repeatable.append(repeatable)
        self.timeouts_s.append(timeout_s)
        self.calls_in_flight += 1
        self.most_calls_in_flight = max(self.most_calls_in_flight, self.calls_in_flight)
        try:
            await self.open.wait()
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return [self.handler(shard, *item) for item in batch]
        finally:
            self.calls_in_flight -= 1

    async def poll(
        self, service: str, shard: str, method: str, caller: Caller, request: bytes, cursor: str, wait_s: float
    ) -> PageReply:
        """The next of the shard's pages; waits when there are no more."""
        self.polls.append((shard, cursor))
        pages = self.pages.get(shard, [])
        if not pages:
            await asyncio.sleep(wait_s)
            return PageReply([], cursor, False)
        page = pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    async def chunk(
        self,
        service: str,
        shard: str,
        method: str,
        caller: Caller,
        requests: Sequence[bytes],
        position: int,
        timeout_s: float,
    ) -> Reply:
        """Answers a chunk as its last request, once the gate is open."""
        self.chunks.append((shard, position, len(requests)))
        await self.open.wait()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        return self.handler(shard, method, caller, requests[-1])
