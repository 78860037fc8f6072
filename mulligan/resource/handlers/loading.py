"""Many providers at once: each chunk of the stream is stored in one transaction, and each record once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mulligan.api.resource.v1 import request_response_pb2 as messages
from mulligan.caller import Caller
from mulligan.errors import Aborted, MulliganError
from mulligan.meta.model import PROVIDER, NamedObject
from mulligan.requests import derived_id, request_digest
from mulligan.resource.batch import Replay, RequestKey, find_requests, record_requests, request_id_reused, stored_key
from mulligan.resource.core import Core, request_key
from mulligan.resource.handlers.configs import ConfigParser
from mulligan.resource.model import Provider
from mulligan.resource.structure import insert_providers
from mulligan.resource.world import World, provider_exists


@dataclass(slots=True)
class _Record:
    """One provider of the stream; `error` says why it is refused."""

    index: int
    message: messages.LoadProvidersRequest
    key: RequestKey | None = None
    digest: bytes = b""
    region: str = ""
    identifier: str = ""
    known: bool = False
    # An earlier record of the chunk that is the same: what becomes of that becomes of this.
    twin: _Record | None = None
    error: MulliganError | None = None


class LoadingHandlers:
    """Serves LoadProviders."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def load_providers(
        self, requests: Sequence[messages.LoadProvidersRequest], caller: Caller, position: int
    ) -> messages.LoadProvidersResponse:
        """Makes the providers of a chunk; those whose request_id was seen before are not made twice."""
        records = [_Record(position + at, message) for at, message in enumerate(requests)]
        async with self._core.changing:
            await self._core.settle()
            self._prepare(records, caller)
            await self._skip_known(records)
            await self._register(records)
            await self._store(records)
        for record in records:
            if record.twin is not None:
                record.error = record.twin.error
        refused = [record for record in records if record.error is not None]
        return messages.LoadProvidersResponse(
            received=position + len(records),
            stored=len(records) - len(refused),
            errors=[
                messages.RecordError(
                    index=each.index, name=each.message.name, reason=each.error.reason, message=each.error.message
                )
                for each in refused
                if each.error is not None
            ],
        )

    def _prepare(self, records: Sequence[_Record], caller: Caller) -> None:
        """Checks everything that needs no store."""
        configs = ConfigParser(self._core.world)
        seen: dict[RequestKey, _Record] = {}
        for record in records:
            try:
                record.key = request_key(caller, record.message.request_id)
                record.digest = request_digest(record.message)
                record.identifier = derived_id(*record.key)
                record.region = self._core.regions.require(record.message.region, caller)
                configs.provider(record.identifier, record.region, record.message.config, 0)
                first = seen.setdefault(record.key, record)
                if first.digest != record.digest:
                    raise request_id_reused(record.key.request_id)
                record.twin = first if first is not record else None
            except MulliganError as error:
                record.error = error

    async def _skip_known(self, records: Sequence[_Record]) -> None:
        keys = [record.key for record in _open(records) if record.key is not None]
        if not keys:
            return
        known = await self._core.store.read(lambda connection: find_requests(connection, keys))
        providers = self._core.world.providers
        for record in _open(records):
            _note_known(record, known)
            if not record.known and record.error is None and record.identifier in providers:
                record.error = provider_exists(record.identifier)

    async def _register(self, records: Sequence[_Record]) -> None:
        new = _open(records)
        objects = [
            NamedObject(PROVIDER, each.region, each.message.name, each.identifier, region=each.region) for each in new
        ]
        if objects:
            self._core.unsettled.update(each.id for each in objects)
            for record, error in zip(new, await self._core.names.register_many(objects), strict=True):
                record.error = error

    async def _store(self, records: Sequence[_Record]) -> None:
        """Stores what is left; of what is not stored, the names are free."""
        new, world = _open(records), self._core.world
        if not new:
            self._core.unsettled.clear()
            return

        async def store(connection: Any) -> list[Provider]:
            return await self._insert(connection, world, new)

        def apply(providers: list[Provider]) -> None:
            for provider in providers:
                world.add_provider(provider)

        try:
            await self._core.memory.writer.exclusive(store, apply)
        except MulliganError as error:
            if error.reason == "FENCED":
                # The new owner may have stored the same records: it frees what it has not.
                self._core.unsettled.clear()
            # In doubt, or with etcd away, they are settled later.
            with suppress(MulliganError):
                await self._core.settle()
            raise
        self._core.unsettled.clear()

    async def _insert(self, connection: Any, world: World, new: Sequence[_Record]) -> list[Provider]:
        configs, now = ConfigParser(world), self._core.clock()
        providers = [configs.provider(each.identifier, each.region, each.message.config, now) for each in new]
        keys, digests = [each.key for each in new if each.key is not None], [each.digest for each in new]
        if await record_requests(connection, keys, digests, [b""] * len(new), now) != len(new):
            raise Aborted("a record of this chunk is being loaded by another call; send it again", retry_after_s=0.5)
        await insert_providers(connection, self._core.store.shard, providers)
        return providers


def _open(records: Sequence[_Record]) -> list[_Record]:
    """Those that are yet to be stored."""
    return [each for each in records if each.error is None and not each.known and each.twin is None]


def _note_known(record: _Record, known: dict[RequestKey, Replay]) -> None:
    replay = known.get(stored_key(record.key)) if record.key is not None else None
    if replay is not None and record.key is not None:
        record.known = replay.digest == record.digest
        record.error = None if record.known else request_id_reused(record.key.request_id)
