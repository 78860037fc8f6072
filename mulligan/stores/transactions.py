"""etcd transactions with a deadline: what must hold, and what is then written, at once or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from etcd3aio import Etcd3Client
from etcd3aio._protobuf import Compare
from etcd3aio.errors import EtcdError
from etcd3aio.kv import KVService, prefix_range_end

from mulligan.errors import Unavailable
from mulligan.stores.etcd import LIST_PAGE

DEADLINE_S = 5.0

# etcd's own limit, for comparisons, writes and reads of one transaction each (--max-txn-ops).
MAX_OPERATIONS = 128

# Transactions under way at once when there are many: enough to keep etcd's disk busy.
_PIPELINE = 8

# Codes of etcd that another attempt may not meet. NOT_FOUND: a lease that was lost.
_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
)

# A lease that is shared longer would break its keys longer if it were lost.
_MAX_REUSE_S = 60


@dataclass(frozen=True, slots=True)
class Stored:
    """A key's value, the revision that wrote it, and its lease (0: none)."""

    value: bytes
    revision: int
    lease: int


@dataclass(slots=True)
class Plan:
    """A transaction being put together. No key may be written twice in one."""

    expects: list[Any] = field(default_factory=list)
    writes: list[Any] = field(default_factory=list)

    def expect_absent(self, key: str) -> None:
        """The key must not exist."""
        self.expects.append(KVService.txn_compare_version(key, 0))

    def expect_present(self, key: str) -> None:
        """The key must exist."""
        self.expects.append(KVService.txn_compare_version(key, 0, result=Compare.GREATER))

    def expect_value(self, key: str, value: str) -> None:
        """The key must exist with this value."""
        self.expects.append(KVService.txn_compare_value(key, value))

    def expect_unchanged(self, key: str, revision: int) -> None:
        """The key must not have been written since that revision of its own; 0: must not exist."""
        compare = Compare(result=Compare.EQUAL, target=Compare.MOD, key=key.encode(), mod_revision=revision)
        self.expects.append(compare)

    def expect_none_below(self, prefix: str) -> None:
        """No key may begin with the prefix."""
        self.expects.append(KVService.txn_compare_version(prefix, 0, range_end=prefix_range_end(prefix)))

    def put(self, key: str, value: str | bytes, lease: int = 0) -> None:
        """Writes the key; lease 0 makes it stay."""
        self.writes.append(KVService.txn_op_put(key, value, lease=lease))

    def delete(self, key: str) -> None:
        """Removes the key if it is there."""
        self.writes.append(KVService.txn_op_delete(key))

    def add(self, other: Plan) -> None:
        """Takes over what another plan expects and writes."""
        self.expects.extend(other.expects)
        self.writes.extend(other.writes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the plan was carried out, at which revision, and what was read because it was not."""

    succeeded: bool
    revision: int
    found: dict[str, Stored]


async def commit(client: Etcd3Client, plan: Plan, otherwise: Sequence[str] = ()) -> Outcome:
    """Carries the plan out, or reads the keys of `otherwise` at the moment in which it could not be.

    Raises Unavailable (STORE_UNAVAILABLE); the plan may have been carried out all the same.
    """
    reads = [KVService.txn_op_get(key) for key in otherwise]
    with etcd_errors():
        response = await _kv(client).txn(plan.expects, plan.writes, reads, timeout=DEADLINE_S)
    found = {} if response.succeeded else _found(response)
    return Outcome(bool(response.succeeded), int(response.header.revision), found)


async def read_many(client: Etcd3Client, keys: Iterable[str], revision: int = 0) -> dict[str, Stored]:
    """The keys that exist, with their values; a hundred at a time, each hundred at one revision.

    A revision other than 0 asks for the past; etcd refuses that (OUT_OF_RANGE) once it is compacted.
    """
    wanted = list(dict.fromkeys(keys))
    chunks = [wanted[at : at + MAX_OPERATIONS] for at in range(0, len(wanted), MAX_OPERATIONS)]
    found: dict[str, Stored] = {}
    for part in await pipelined([_read(client, chunk, revision) for chunk in chunks]):
        found.update(part)
    return found


async def read_prefix(
    client: Etcd3Client, prefix: str, *, revision: int = 0, keys_only: bool = False
) -> dict[str, Stored]:
    """Every key that begins with the prefix, by what follows the prefix, all at one revision; see `read_many`."""
    found: dict[str, Stored] = {}
    key, end = prefix.encode(), prefix_range_end(prefix)
    while True:
        with etcd_errors():
            page = await _kv(client).get(
                key, end, revision=revision, limit=LIST_PAGE, keys_only=keys_only, timeout=DEADLINE_S
            )
        revision = revision or page.header.revision
        found |= _stored(page.kvs, prefix)
        if not page.more:
            return found
        key = page.kvs[-1].key + b"\0"


async def read_first(client: Etcd3Client, prefix: str, limit: int) -> dict[str, Stored]:
    """The first keys that begin with the prefix, without their values, by what follows the prefix."""
    with etcd_errors():
        page = await _kv(client).get(prefix, prefix_range_end(prefix), limit=limit, keys_only=True, timeout=DEADLINE_S)
    return _stored(page.kvs, prefix)


async def current_revision(client: Etcd3Client) -> int:
    """The revision that etcd is at."""
    with etcd_errors():
        response = await _kv(client).get("/", count_only=True, timeout=DEADLINE_S)
    return int(response.header.revision)


async def pipelined(steps: Iterable[Any]) -> list[Any]:
    """Awaits all coroutines, eight at a time; their results in order. The first failure cancels the others."""
    gate = asyncio.Semaphore(_PIPELINE)

    async def one(step: Any) -> Any:
        async with gate:
            return await step

    pending = list(steps)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(step)) for step in pending]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        for step in pending:
            step.close()
    return [task.result() for task in tasks]


class SharedLease:
    """A lease that many keys share: each lives `hold_s` seconds after it was written, or a tenth (a minute) longer.

    Spares a round trip for each key that is to vanish by itself.
    """

    def __init__(self, client: Etcd3Client, hold_s: int) -> None:
        self._client = client
        self._hold_s = hold_s
        self._reuse_s = min(max(1, hold_s // 10), _MAX_REUSE_S)
        self._granting = asyncio.Lock()
        self._id = 0
        self._granted_at = 0.0

    async def current(self) -> int:
        """The id of a lease to write with at once."""
        async with self._granting:
            if not self._id or time.monotonic() - self._granted_at > self._reuse_s:
                granted_at = time.monotonic()
                with etcd_errors():
                    response = await _lease(self._client).grant(self._hold_s + self._reuse_s, timeout=DEADLINE_S)
                self._id, self._granted_at = int(response.ID), granted_at
            return self._id


@contextmanager
def etcd_errors() -> Iterator[None]:
    """Turns what the etcd client raises when etcd cannot be reached or does not answer into Unavailable."""
    try:
        yield
    except Unavailable:
        raise
    except (EtcdError, TimeoutError, grpc.aio.AioRpcError) as error:
        if isinstance(error, grpc.aio.AioRpcError) and error.code() not in _PASSING:
            raise
        raise Unavailable(
            f"etcd did not answer ({_brief(error)}); try again", reason="STORE_UNAVAILABLE", retry_after_s=1
        ) from error


def _brief(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__


async def _read(client: Etcd3Client, keys: Sequence[str], revision: int) -> dict[str, Stored]:
    reads = [KVService.txn_op_get(key, revision=revision) for key in keys]
    with etcd_errors():
        response = await _kv(client).txn([], reads, timeout=DEADLINE_S)
    return _found(response)


def _found(response: Any) -> dict[str, Stored]:
    return _stored(kv for each in response.responses for kv in each.response_range.kvs)


def _stored(pairs: Iterable[Any], prefix: str = "") -> dict[str, Stored]:
    return {pair.key.decode().removeprefix(prefix): Stored(pair.value, pair.mod_revision, pair.lease) for pair in pairs}


def _kv(client: Etcd3Client) -> KVService:
    if client.kv is None:
        raise Unavailable("the etcd client is closed; the process is shutting down", reason="STORE_UNAVAILABLE")
    return client.kv


def _lease(client: Etcd3Client) -> Any:
    _kv(client)
    return client.lease
