"""What the writer stores for claims and releases: rows of a whole batch in a handful of statements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from mulligan.errors import Aborted
from mulligan.resource import queries
from mulligan.resource.model import Claim
from mulligan.resource.timeline import ALREADY, FOREVER

# Stands for "no account" and "no project" where a column needs an id.
NOBODY = "00000000-0000-0000-0000-000000000000"

# COPY takes a third of the actor's time that arrays of parameters take, and half of the server's.
_CLAIM_COLUMNS = ("id", "shard", "region", "project", "consumer", "acquire_us", "release_us", "create_us")
_ALLOCATION_COLUMNS = ("claim", "ordinal", "provider", "resource_type", "amount", "request_group", "exclusive")


class RequestKey(NamedTuple):
    """What makes two requests the same: who sent it, for which project, under which id."""

    account: str
    project: str
    request_id: str


# (owner, resource type, begin, end) of more or less use.
Change = tuple[str, str, int, int]


@dataclass(slots=True, eq=False)
class Write:
    """A claim that was planned or a release, with the answer that repeating its request will be given."""

    key: RequestKey
    digest: bytes
    response: bytes
    claim: Claim
    # Brings the memory up to date when it is stored, and when it is not.
    commit: Callable[[], object]
    undo: Callable[[], object]
    # When the claim ends instead of at its release time; None: it is a new claim.
    released_us: int | None = None
    done: asyncio.Future[bytes | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, replay: Replay | None) -> None:
        """Tells the caller: what was answered before, or None when it was stored now."""
        if self.done.done():  # the caller went away
            return
        if replay is None:
            self.done.set_result(None)
        elif replay.digest != self.digest:
            self.done.set_exception(request_id_reused(self.key.request_id))
        else:
            self.done.set_result(replay.response)


# The quotas that a claim counts against, as they are now: (id, resource type, amount).
Charges = Callable[[Claim], Sequence[tuple[str, str, int]]]


class Replay(NamedTuple):
    """What is stored of a request that was seen before."""

    digest: bytes
    response: bytes


class LedgerGap(Exception):
    """A change of use found no row to be counted in."""


def request_id_reused(request_id: str) -> Aborted:
    """The id was that of another request."""
    return Aborted(
        f"request_id {request_id} was used for another request; send a new UUID",
        reason="REQUEST_ID_REUSED",
        metadata={"request_id": request_id},
    )


async def write_batch(
    connection: asyncpg.Connection, shard: str, batch: Sequence[Write], charges: Charges, now: int
) -> dict[Write, Replay]:
    """Stores the batch in the transaction that is open; answers what was stored before, which is left as it was.

    Raises asyncpg.CheckViolationError when it would over-commit.
    """
    replays = await _record(connection, batch, now)
    fresh = [write for write in batch if write not in replays] if replays else batch
    claims = [write for write in fresh if write.released_us is None]
    releases = [write for write in fresh if write.released_us is not None]
    if claims:
        await _insert_claims(connection, shard, [write.claim for write in claims])
    if releases:
        await _end_claims(connection, releases)
    await change_ledger(connection, changes_of(fresh, charges, now), now)
    return replays


async def change_ledger(connection: asyncpg.Connection, changes: Mapping[Change, int], now: int) -> None:
    """Counts changes of use; raises asyncpg.CheckViolationError where more than the capacity would be in use."""
    for_ever, windows = [], []
    for (owner, resource_type, begin, end), amount in changes.items():
        if begin == ALREADY and end == FOREVER:
            for_ever.append((owner, resource_type, amount))
        else:
            windows.append((owner, resource_type, amount, begin, end))
    if windows:
        ends = {
            (owner, resource_type, at)
            for owner, resource_type, _, begin, end in windows
            for at in (begin, end)
            if ALREADY < at < FOREVER
        }
        if ends:
            await connection.execute(queries.LEDGER_SPLIT, *arrays(ends))
        _expect(len(windows), await connection.fetchval(queries.LEDGER_IN_WINDOWS, *arrays(windows), now))
    if for_ever:
        _expect(len(for_ever), await connection.fetchval(queries.LEDGER_FOR_EVER, *arrays(for_ever), now))


async def find_requests(
    connection: asyncpg.Connection | asyncpg.Pool, keys: Iterable[RequestKey]
) -> dict[RequestKey, Replay]:
    """What was answered to those of the requests that were seen before."""
    rows = await connection.fetch(queries.FIND_REQUESTS, *arrays([stored_key(key) for key in keys]))
    return {RequestKey(*row[:3]): Replay(*row[3:]) for row in rows}


def stored_key(key: RequestKey) -> RequestKey:
    """The key as the table has it."""
    return RequestKey(key.account or NOBODY, key.project or NOBODY, key.request_id)


async def record_requests(
    connection: asyncpg.Connection,
    keys: Sequence[RequestKey],
    digests: Sequence[bytes],
    answers: Sequence[bytes],
    now: int,
) -> int:
    """Remembers requests with their answers; how many of them are new."""
    found = await connection.fetchval(queries.RECORD_REQUESTS, *arrays(map(stored_key, keys)), digests, answers, now)
    return int(found)


async def _record(connection: asyncpg.Connection, batch: Sequence[Write], now: int) -> dict[Write, Replay]:
    keys = [write.key for write in batch]
    digests, answers = [write.digest for write in batch], [write.response for write in batch]
    if await record_requests(connection, keys, digests, answers, now) == len(batch):
        return {}
    old = await find_requests(connection, keys)
    return {write: old[stored] for write in batch if (stored := stored_key(write.key)) in old}


async def _insert_claims(connection: asyncpg.Connection, shard: str, claims: Sequence[Claim]) -> None:
    rows = [
        (each.id, shard, each.region, each.project, each.consumer, each.acquire_us, each.release_us, each.created_us)
        for each in claims
    ]
    await connection.copy_records_to_table("claims", schema_name="resource", columns=_CLAIM_COLUMNS, records=rows)
    allocations = [
        (each.id, ordinal, item.provider, item.resource_type, item.amount, item.group, item.exclusive)
        for each in claims
        for ordinal, item in enumerate(each.allocations)
    ]
    await connection.copy_records_to_table(
        "allocations", schema_name="resource", columns=_ALLOCATION_COLUMNS, records=allocations
    )


async def _end_claims(connection: asyncpg.Connection, releases: Sequence[Write]) -> None:
    rows = [(write.claim.id, write.released_us or 0) for write in releases]
    ended = await connection.fetch(queries.RELEASE_CLAIMS, *arrays(rows))
    _expect(len(releases), len(ended))


def changes_of(writes: Iterable[Write], charges: Charges, now: int) -> dict[Change, int]:
    """The changes of use of all writes, those of one owner, resource and window summed up; the past is left out."""
    changes: dict[Change, int] = {}
    for write in writes:
        claim = write.claim
        if claim.release_us <= now:
            continue
        sign = 1 if write.released_us is None else -1
        begin, end = claim.acquire_us if claim.acquire_us > now else ALREADY, claim.release_us
        for _, provider, resource_type, amount, _ in claim.allocations:
            change = (provider, resource_type, begin, end)
            changes[change] = changes.get(change, 0) + sign * amount
        for quota, resource_type, amount in charges(claim):
            change = (quota, resource_type, begin, end)
            changes[change] = changes.get(change, 0) + sign * amount
    return changes


def _expect(count: int, found: int) -> None:
    if found != count:
        raise LedgerGap(f"{count} rows were to change and {found} did")


def arrays(rows: Iterable[Sequence[str | int]]) -> list[str]:
    """The columns of at least one row as array literals; the values are ids, codes or numbers, which need no quotes."""
    return ["{" + ",".join(map(str, column)) + "}" for column in zip(*rows, strict=True)]
