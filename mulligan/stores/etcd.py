"""etcd: a client whose calls all have a deadline, prefixes kept in memory, and announcements under a lease."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import grpc
from etcd3aio import Etcd3Client, EtcdConnectionError, EtcdError, prefix_range_end
from etcd3aio.base import BaseService
from etcd3aio.kv import KVService
from etcd3aio.lease import LeaseService
from etcd3aio.watch import WatchService

from mulligan.errors import Unavailable
from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

CALL_DEADLINE_S = 5.0
CONNECT_DEADLINE_S = 10.0

# Keys in one page of a listing: etcd counts the whole prefix for each page, so a million keys want few. Answers may
# have MAX_ANSWER_BYTES, far more than this many of our records.
LIST_PAGE = 5_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024

# Longest pause between two attempts to come back after etcd was away.
RECONNECT_PAUSE_S = 0.5

ChangeCallback = Callable[[str, bytes | None], None]


class EtcdUnavailable(Unavailable, EtcdConnectionError):
    """etcd did not answer in time. Callers see Unavailable (STORE_UNAVAILABLE)."""

    default_reason = "STORE_UNAVAILABLE"


class _BoundedCalls(BaseService):
    """Gives every unary call a deadline and one kind of failure."""

    async def _rpc(
        self,
        call: Callable[[Any], Awaitable[Any]],
        request: Any,
        *,
        operation: str,
        timeout: float | None = None,
        max_attempts: int | None = None,
    ) -> Any:
        try:
            return await super()._rpc(
                call, request, operation=operation, timeout=timeout or CALL_DEADLINE_S, max_attempts=max_attempts
            )
        except (EtcdError, TimeoutError) as error:
            raise EtcdUnavailable(f"etcd did not serve {operation} in time; check that it runs, then retry") from error


class _BoundedKV(_BoundedCalls, KVService):
    pass


class _BoundedLease(_BoundedCalls, LeaseService):
    pass


class EtcdClient(Etcd3Client):
    """The client of etcd3aio with three repairs.

    It takes host names, comes back within a second after etcd was away (gRPC's own pause grows to two minutes),
    and no call waits for ever.
    """

    kv: KVService
    lease: LeaseService
    watch: WatchService

    async def connect(self) -> None:
        """Opens the channel; it connects when first used."""
        self._manager.grpc_options += [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ]
        await super().connect()
        if self._channel is None:
            raise EtcdUnavailable("the connection to etcd was closed while it was opened; retry")
        self.kv = _BoundedKV(self._channel)
        self.lease = _BoundedLease(self._channel)

    def aim(self, target: str) -> None:
        """Sets the gRPC target to connect to."""
        self._manager.target = target


async def connect(addresses: Addresses) -> EtcdClient:
    """A client with mutual TLS, known to answer; raises Unavailable when no member does."""
    names, target = await _target(addresses.etcd)
    client = EtcdClient(
        addresses.etcd,
        watch_reconnect_backoff_seconds=0.1,
        watch_max_reconnect_backoff_seconds=RECONNECT_PAUSE_S,
        tls_server_name=names,
        ca_cert=(addresses.tls_dir / "ca.crt").read_bytes(),
        cert_chain=(addresses.tls_dir / "server.crt").read_bytes(),
        cert_key=(addresses.tls_dir / "server.key").read_bytes(),
    )
    client.aim(target)
    await client.connect()
    try:
        await client.kv.get("/mulligan/", timeout=CONNECT_DEADLINE_S)
    except BaseException:
        await client.close()
        raise
    return client


async def _target(members: tuple[str, ...]) -> tuple[str | None, str]:
    """The name to verify, when gRPC cannot tell it, and the gRPC target of the members.

    With several members their certificates must all carry the first one's name.
    """
    if len(members) == 1:
        return None, f"dns:///{members[0]}"
    resolved = []
    for member in members:
        host, _, port = member.rpartition(":")
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET)
        resolved.append(f"{found[0][4][0]}:{port}")
    return members[0].rpartition(":")[0], f"ipv4:{','.join(resolved)}"


class WatchedPrefix:
    """Keys under a prefix, kept in memory as they change. Survives restarts of etcd and compactions."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        """`prefix` ends with a slash."""
        self.items: dict[str, bytes] = {}
        # etcd revision of the last change that `items` shows.
        self.revision = 0
        # Called as (key without prefix, value or None when deleted), after `items` changed.
        self.on_change: list[ChangeCallback] = []
        self._client = client
        self._prefix = prefix.encode()
        self._range_end = prefix_range_end(prefix)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads all keys, then follows them; raises Unavailable when etcd does not answer the first time."""
        revision = await self._list()
        self._task = asyncio.create_task(self._follow_for_ever(revision + 1), name=f"watch {self._prefix.decode()}")

    async def close(self) -> None:
        """Stops following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def wait_changed(self, after_revision: int, timeout_s: float) -> bool:
        """Waits until `revision` exceeds `after_revision`; False when it did not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.revision <= after_revision:
                    await self._changed.wait()
        except TimeoutError:
            return self.revision > after_revision
        return True

    async def _follow_for_ever(self, start_revision: int) -> None:
        pause_s = 0.05
        while True:
            try:
                await self._follow(start_revision)
                pause_s = 0.05
            except (EtcdError, grpc.aio.AioRpcError) as error:
                log.warning("watch prefix=%s interrupted, listing again: %s", self._prefix.decode(), error)
            except Exception:
                # Whatever it was, a prefix that silently stops following would be worse.
                log.exception("watch prefix=%s failed, listing again", self._prefix.decode())
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_PAUSE_S)
            with suppress(EtcdError, grpc.aio.AioRpcError):
                start_revision = await self._list() + 1

    async def _follow(self, start_revision: int) -> None:
        """Applies events until the stream breaks in any way; the caller then lists again.

        The library resumes a broken watch from the revision in the last header. That skips events that had not
        arrived yet, and after a compaction those that were compacted, so a second "created" ends it here too.
        """
        stream = self._client.watch.watch(self._prefix, self._range_end, start_revision)
        created = False
        async with aclosing(stream) as responses:  # type: ignore[type-var]
            async for response in responses:
                if response.canceled or response.compact_revision or (created and response.created):
                    return
                created = created or response.created
                if response.events:
                    self._apply_events(response)

    def _apply_events(self, response: Any) -> None:
        changes: dict[bytes, bytes | None] = {}
        for event in response.events:
            changes[event.kv.key] = None if event.type == event.DELETE else event.kv.value
        # Not the header's revision: while etcd sends a backlog in parts, that is ahead of what has arrived.
        self._apply(changes, max(event.kv.mod_revision for event in response.events))

    async def _list(self) -> int:
        """Makes `items` what etcd holds now; returns the revision of that."""
        found: dict[bytes, bytes] = {}
        key, revision = self._prefix, 0
        while True:
            page = await self._client.kv.get(key, self._range_end, revision=revision, limit=LIST_PAGE)
            revision = revision or page.header.revision
            found.update((pair.key, pair.value) for pair in page.kvs)
            if not page.more:
                break
            key = page.kvs[-1].key + b"\0"
        changes: dict[bytes, bytes | None] = {
            key: value for key, value in found.items() if self.items.get(self._name(key)) != value
        }
        changes |= {
            self._prefix + name.encode(): None for name in self.items if self._prefix + name.encode() not in found
        }
        if changes or not self.revision:
            self._apply(changes, revision)
        return int(revision)

    def _apply(self, changes: dict[bytes, bytes | None], revision: int) -> None:
        for key, value in changes.items():
            if value is None:
                self.items.pop(self._name(key), None)
            else:
                self.items[self._name(key)] = value
        self.revision = revision
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for key, value in changes.items():
            self._notify(self._name(key), value)

    def _notify(self, name: str, value: bytes | None) -> None:
        for callback in self.on_change:
            try:
                callback(name, value)
            except Exception:
                # One faulty listener must not stop the others from seeing changes.
                log.exception("a listener of prefix=%s failed on key=%s", self._prefix.decode(), name)

    def _name(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode()


class Announcement:
    """A key that is there as long as this process is well: under a lease that it keeps alive."""

    def __init__(self, client: EtcdClient, key: str, value: bytes, ttl_s: int = 5) -> None:
        """The key is gone at most `ttl_s` seconds after the process died."""
        self._client = client
        self._key = key
        self._value = value
        self._ttl_s = ttl_s
        self._lease = 0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Puts the key; raises Unavailable when etcd does not answer."""
        await self._put()
        self._task = asyncio.create_task(self._keep_for_ever(), name=f"announce {self._key}")

    async def update(self, value: bytes) -> None:
        """Changes the value."""
        async with self._lock:
            self._value = value
            await self._client.kv.put(self._key, value, lease=self._lease)

    async def withdraw(self) -> None:
        """Removes the key at once, or when the lease ends if etcd is away. The key of a successor stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._lease:
            lease, self._lease = self._lease, 0
            try:
                await self._client.lease.revoke(lease)
            except (EtcdError, grpc.aio.AioRpcError) as error:
                log.warning("key=%s goes away with its lease only: %s", self._key, error)

    async def _put(self) -> None:
        async with self._lock:
            granted = await self._client.lease.grant(self._ttl_s)
            await self._client.kv.put(self._key, self._value, lease=granted.ID)
            self._lease = granted.ID

    async def _keep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                if not await self._renew():
                    log.warning("the lease of key=%s was lost; announcing it again", self._key)
                    await self._put()
            except (EtcdError, grpc.aio.AioRpcError, TimeoutError) as error:
                log.warning("key=%s could not be kept alive, trying again: %s", self._key, error or "no answer")
            except Exception:
                log.exception("key=%s could not be kept alive, trying again", self._key)

    async def _renew(self) -> bool:
        """Whether the lease still lives."""
        call = self._client.lease.keep_alive(self._lease)
        try:
            async with asyncio.timeout(self._ttl_s / 3):
                async for response in call:
                    return bool(response.TTL > 0)
        finally:
            call.cancel()
        return False
