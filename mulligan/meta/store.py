"""Writes of the metadata service: each in one etcd transaction, together with the answer to its request."""

from __future__ import annotations

import base64
import functools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from etcd3aio import Etcd3Client
from google.protobuf.message import Message

from mulligan.caller import Caller
from mulligan.errors import Aborted, FailedPrecondition, MulliganError
from mulligan.meta.errors import Superseded, object_not_found, region_not_found, superseded
from mulligan.meta.model import REGION, NamedObject
from mulligan.meta.names import NameStore
from mulligan.meta.regions import RegionRecord
from mulligan.meta.registration import delete_names
from mulligan.requests import request_digest, require_request_id
from mulligan.stores import keys
from mulligan.stores.transactions import Plan, SharedLease, commit, read_first, read_many

ResponseT = TypeVar("ResponseT", bound=Message)

# Adds a response to a plan, so that a repeated request gets it again.
Recorder = Callable[[Message, Plan], None]

# A repeated request gets its first answer this long.
REMEMBERED_S = 86_400

# Times that a write is tried while others write the same object.
_ATTEMPTS = 10

# Objects that are counted for the message when a region cannot be deleted.
_COUNTED = 100


class Requests:
    """Answers of mutating requests, by account, project and request id."""

    def __init__(self, client: Etcd3Client) -> None:
        self._client = client
        self._lease = SharedLease(client, REMEMBERED_S)

    async def once(
        self, caller: Caller, request: Any, kind: type[ResponseT], act: Callable[[Recorder], Awaitable[ResponseT]]
    ) -> ResponseT:
        """The response of `act`, or what this request was answered before.

        `act` reads, decides and writes one plan to which it added its response with the recorder. It runs again
        when what it read was written meanwhile. Raises Aborted (REQUEST_ID_REUSED) for another request with this id.
        """
        key = keys.meta_request(caller.account, caller.project, require_request_id(request.request_id))
        digest = request_digest(request).hex()
        for _ in range(_ATTEMPTS):
            if (former := await self._former(key, digest, kind)) is not None:
                return former
            record = functools.partial(_record, key, digest, await self._lease.current())
            try:
                return await act(record)
            except Superseded:
                continue
            except MulliganError:
                # A twin of this request may have been first.
                if (former := await self._former(key, digest, kind)) is not None:
                    return former
                raise
        raise Aborted("many change this at once; read it again, then retry", retry_after_s=0.5)

    async def _former(self, key: str, digest: str, kind: type[ResponseT]) -> ResponseT | None:
        stored = (await read_many(self._client, [key])).get(key)
        if stored is None:
            return None
        record = json.loads(stored.value)
        if record["digest"] != digest:
            raise Aborted("request_id was used for another request; take a new one", reason="REQUEST_ID_REUSED")
        return kind.FromString(base64.b64decode(record["response"]))


def _record(key: str, digest: str, lease: int, response: Message, plan: Plan) -> None:
    text = base64.b64encode(response.SerializeToString()).decode()
    plan.expect_absent(key)
    plan.put(key, json.dumps({"digest": digest, "response": text}), lease)


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """A region and the etcd revision that wrote it."""

    record: RegionRecord
    revision: int


class RegionStore:
    """Regions in etcd."""

    def __init__(self, client: Etcd3Client, names: NameStore) -> None:
        self._client = client
        self._names = names

    async def find(self, region: str) -> StoredRegion:
        """The region as it is now; raises NotFound."""
        key = keys.meta_region(region)
        stored = (await read_many(self._client, [key])).get(key)
        if stored is None:
            raise region_not_found(region)
        return StoredRegion(RegionRecord.from_json(stored.value), stored.revision)

    async def create(self, record: RegionRecord, name: str, answer: Callable[[Plan], None]) -> int:
        """Creates the region below a parent that was found; returns the revision.

        Raises AlreadyExists, and NotFound when the parent was deleted meanwhile, as for anything put into a region.
        """

        def also(_: NamedObject) -> Plan:
            plan = Plan()
            plan.put(keys.meta_region(record.id), record.to_json())
            answer(plan)
            return plan

        new = NamedObject(REGION, "", name, record.id, region=record.parent)
        return (await self._names.register(new, also)).revision

    async def update(self, old: StoredRegion, changed: RegionRecord, answer: Callable[[Plan], None]) -> int:
        """Writes the region with the next version; returns the revision. Raises Superseded."""
        plan = Plan()
        plan.expect_unchanged(keys.meta_region(changed.id), old.revision)
        plan.put(keys.meta_region(changed.id), changed.to_json())
        answer(plan)
        outcome = await commit(self._client, plan)
        if not outcome.succeeded:
            raise superseded(changed.id)
        return outcome.revision

    async def delete(self, region: str, answer: Callable[[Plan], None]) -> int:
        """Deletes a region in which nothing lives; returns the revision. Raises NotFound, FailedPrecondition."""
        stored, found = await self.find(region), await self._names.find(region)
        if found is None:
            raise object_not_found(region)
        plan = Plan()
        plan.expect_unchanged(keys.meta_region(region), stored.revision)
        plan.expect_unchanged(keys.meta_object(region), found.revision)
        plan.expect_none_below(keys.meta_in_region(region, ""))
        delete_names(plan, found.object)
        plan.delete(keys.meta_region(region))
        plan.delete(keys.meta_object(region))
        plan.put(keys.meta_deleted_region(region), b"")
        answer(plan)
        outcome = await commit(self._client, plan)
        if not outcome.succeeded:
            await self._refuse_if_inhabited(region)
            raise superseded(region)
        return outcome.revision

    async def _refuse_if_inhabited(self, region: str) -> None:
        inside = await read_first(self._client, keys.meta_in_region(region, ""), _COUNTED + 1)
        if not inside:
            return
        known = await self._names.lookup(list(inside)[:_COUNTED])
        counts = Counter(each.kind for each in known.values())
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "objects being created"
        more = "at least " if len(inside) > _COUNTED else ""
        raise FailedPrecondition(
            f"region {region} holds {more}{listed}; delete those first", reason="IN_USE", metadata={"region": region}
        )


def next_version(old: StoredRegion, changed: RegionRecord, etag: str) -> RegionRecord:
    """The changed record with the next etag; raises Aborted when the caller read another one."""
    if etag and etag != str(old.record.version):
        raise Aborted(
            f"region {old.record.id} was changed since etag {etag[:32]} was read; read it again, then retry",
            metadata={"region": old.record.id, "etag": str(old.record.version)},
        )
    return replace(changed, version=old.record.version + 1)
