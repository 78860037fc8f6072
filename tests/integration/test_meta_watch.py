"""WatchObjects on a real etcd: nothing missed, resumed anywhere, told anew after a compaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mulligan.api.meta.v1.meta_pb2 import VISIBILITY_INTERNAL
from mulligan.api.meta.v1.request_response_pb2 import DeleteRegionRequest, WatchObjectsRequest, WatchObjectsResponse
from mulligan.caller import Caller, Grant
from mulligan.errors import InvalidArgument
from mulligan.ids import new_id
from mulligan.meta.model import NamedObject
from mulligan.meta.names import NameStore
from mulligan.meta.service import MetaService
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.transactions import current_revision
from tests.integration.meta_bench import make_region

ADMIN = Caller(new_id(), "", (Grant("admin", True, ""),), system=True)


@asynccontextmanager
async def actor(etcd: EtcdClient) -> AsyncIterator[MetaService]:
    service = await MetaService.open(etcd)
    yield service
    await service.close()


@pytest.fixture
def names(etcd: EtcdClient) -> NameStore:
    return NameStore(etcd)


@pytest.fixture
def project() -> str:
    return new_id()


@pytest.fixture
def mine(project: str) -> Caller:
    return Caller(new_id(), project, (Grant("member", False, ""),))


def machine(project: str, name: str) -> NamedObject:
    return NamedObject("machine", project, name, new_id(), project)


class Stream:
    """What a client makes of a stream: the objects it knows, and where it would resume."""

    def __init__(self, caller: Caller, kind: str = "machine", after_revision: int = 0) -> None:
        self.request = WatchObjectsRequest(kind=kind, after_revision=after_revision)
        self.caller = caller
        self.cursor = ""
        self.known: dict[str, str] = {}
        self.revision = after_revision
        self.resets = 0
        self.messages: list[WatchObjectsResponse] = []
        self._before_reset: set[str] = set()

    async def read(self, service: MetaService, until: Callable[[], bool], deadline_s: float = 20) -> None:
        async with asyncio.timeout(deadline_s):
            while not until():
                page = await service.watch_objects(self.request, self.caller, self.cursor, 0.5)
                assert not page.done
                self.cursor = page.cursor
                for message in page.messages:
                    assert isinstance(message, WatchObjectsResponse)
                    self._take(message)

    def _take(self, message: WatchObjectsResponse) -> None:
        self.messages.append(message)
        if message.reset:
            self.resets += 1
            self._before_reset = set(self.known)
        for event in message.events:
            self._before_reset.discard(event.object.id)
            if event.deleted:
                self.known.pop(event.object.id, None)
            else:
                self.known[event.object.id] = event.object.name
        if message.synced:
            self.revision = message.revision
            for gone in self._before_reset:
                del self.known[gone]
            self._before_reset = set()

    def knows(self, object_id: str) -> bool:
        return object_id in self.known

    @property
    def synced(self) -> bool:
        return bool(self.messages) and self.messages[-1].synced


async def test_everything_there_is_then_every_change(etcd: EtcdClient, names: NameStore, mine: Caller) -> None:
    first = [machine(mine.project, f"m{number}") for number in range(1200)]
    await names.register_many(first)
    async with actor(etcd) as service:
        stream = Stream(mine)
        await stream.read(service, lambda: stream.synced)
        assert stream.known == {each.id: each.name for each in first}
        assert [each.reset for each in stream.messages].index(True) == 0
        assert stream.resets == 1
        assert [each.synced for each in stream.messages] == [False] * (len(stream.messages) - 1) + [True]
        assert all(not each.revision for each in stream.messages[:-1])
        assert all(len(each.events) <= 500 for each in stream.messages)
        await names.remove(first[0].id)
        found = await names.find(first[1].id)
        assert found
        await names.rename(found, "renamed")
        second = machine(mine.project, "late")
        await names.register(second)
        await stream.read(service, lambda: second.id in stream.known)
        assert first[0].id not in stream.known
        assert stream.known[first[1].id] == "renamed"
        assert stream.resets == 1


async def test_a_watcher_is_woken_at_once_and_an_idle_one_gets_an_empty_page(
    etcd: EtcdClient, names: NameStore, mine: Caller
) -> None:
    async with actor(etcd) as service:
        stream = Stream(mine)
        await stream.read(service, lambda: stream.synced)
        waiting = asyncio.ensure_future(service.watch_objects(stream.request, mine, stream.cursor, 20))
        new = machine(mine.project, "woken")
        await asyncio.gather(names.register(machine(new_id(), "not mine")), names.register(new))
        page = await asyncio.wait_for(waiting, 5)
        told = [event.object.id for message in page.messages for event in message.events]  # type: ignore[attr-defined]
        assert told == [new.id]
        idle = await service.watch_objects(stream.request, mine, page.cursor, 0.05)
        assert (list(idle.messages), idle.done) == ([], False)


async def test_others_see_nothing_of_mine_not_even_that_it_goes(
    etcd: EtcdClient, names: NameStore, mine: Caller
) -> None:
    theirs = Caller(new_id(), new_id(), (Grant("member", False, ""),))
    async with actor(etcd) as service:
        stream = Stream(theirs, kind="")
        await stream.read(service, lambda: stream.synced)
        secret = machine(mine.project, "secret")
        await names.register(secret)
        await names.remove(secret.id)
        own = machine(theirs.project, "own")
        await names.register(own)
        await stream.read(service, lambda: own.id in stream.known)
        told = {event.object.id for message in stream.messages for event in message.events}
        assert secret.id not in told


async def test_a_tenant_hears_that_a_region_goes_and_what_was_in_it(
    etcd: EtcdClient, names: NameStore, mine: Caller
) -> None:
    """From the actor that it listens to, and from one that began afterwards."""
    stream = Stream(mine, kind="")
    async with actor(etcd) as service:
        region, hidden = await make_region(service), await make_region(service, visibility=VISIBILITY_INTERNAL)
        provider = NamedObject("provider", region.id, "p", new_id(), region=region.id)
        await names.register(provider)
        await stream.read(service, lambda: stream.synced and {region.id, provider.id} <= stream.known.keys())
        late = Stream(mine, kind="", after_revision=stream.revision)
        late.known = dict(stream.known)
        await names.remove(provider.id)
        for each in (region, hidden):
            await service.delete_region(DeleteRegionRequest(request_id=new_id(), id=each.id), ADMIN)
        await stream.read(service, lambda: not {region.id, provider.id} & stream.known.keys())
    async with actor(etcd) as service:
        await late.read(service, lambda: not {region.id, provider.id} & late.known.keys())
    told = {event.object.id for each in (stream, late) for message in each.messages for event in message.events}
    assert late.resets == 0
    assert hidden.id not in told


async def test_a_stream_goes_on_at_another_actor(etcd: EtcdClient, names: NameStore, mine: Caller) -> None:
    kept, gone, renamed = (machine(mine.project, name) for name in ("kept", "gone", "renamed"))
    await names.register_many([kept, gone, renamed])
    stream = Stream(mine)
    async with actor(etcd) as service:
        await stream.read(service, lambda: stream.synced)
    await names.remove(gone.id)
    found = await names.find(renamed.id)
    assert found
    await names.rename(found, "other")
    new = machine(mine.project, "new")
    await names.register(new)
    async with actor(etcd) as service:
        resumed = Stream(mine, after_revision=stream.revision)
        resumed.known = dict(stream.known)
        await resumed.read(service, lambda: new.id in resumed.known)
        assert resumed.known == {kept.id: "kept", renamed.id: "other", new.id: "new"}
        assert resumed.resets == 0
        told = [event.object.id for message in resumed.messages for event in message.events]
        assert kept.id not in told
        # With the cursor that the former actor gave, and further back than the one before.
        await stream.read(service, lambda: new.id in stream.known)
        assert stream.known == resumed.known


async def test_after_a_compaction_everything_is_told_anew(etcd: EtcdClient, names: NameStore, mine: Caller) -> None:
    kept, gone = machine(mine.project, "kept"), machine(mine.project, "gone")
    await names.register_many([kept, gone])
    stream = Stream(mine)
    async with actor(etcd) as service:
        await stream.read(service, lambda: stream.synced)
    await names.remove(gone.id)
    new = machine(mine.project, "new")
    await names.register(new)
    await etcd.kv.compact(await current_revision(etcd), physical=True)
    async with actor(etcd) as service:
        await stream.read(service, lambda: stream.resets == 2 and stream.synced)
        assert stream.known == {kept.id: "kept", new.id: "new"}
        last = machine(mine.project, "last")
        await names.register(last)
        await stream.read(service, lambda: last.id in stream.known)
        assert stream.resets == 2


async def test_a_compaction_does_not_disturb_a_stream_that_keeps_up(
    etcd: EtcdClient, names: NameStore, mine: Caller
) -> None:
    async with actor(etcd) as service:
        stream = Stream(mine)
        await stream.read(service, lambda: stream.synced)
        for number in range(3):
            new = machine(mine.project, f"m{number}")
            await names.register(new)
            await etcd.kv.compact(await current_revision(etcd))
            await stream.read(service, partial(stream.knows, new.id))
        assert stream.resets == 1


async def test_a_revision_that_etcd_never_had_is_told_everything(
    etcd: EtcdClient, names: NameStore, mine: Caller
) -> None:
    own = machine(mine.project, "own")
    await names.register(own)
    async with actor(etcd) as service:
        stream = Stream(mine, after_revision=10**15)
        await stream.read(service, lambda: stream.synced)
        assert stream.known == {own.id: "own"}
        assert stream.resets == 1


async def test_thousands_of_changes_at_once_all_arrive(etcd: EtcdClient, names: NameStore, mine: Caller) -> None:
    async with actor(etcd) as service:
        stream = Stream(mine)
        await stream.read(service, lambda: stream.synced)
        many = [machine(mine.project, f"m{number}") for number in range(7_000)]
        _, error = await asyncio.gather(
            names.register_many(many), stream.read(service, lambda: len(stream.known) == len(many))
        )
        assert error is None
        await names.remove_many([each.id for each in many])
        await stream.read(service, lambda: not stream.known)
        assert stream.resets == 1


@pytest.mark.parametrize("cursor", ["x", "after:", "after:-1", "all", "all:x:y", "after:²"])
async def test_foreign_cursors_are_refused(etcd: EtcdClient, mine: Caller, cursor: str) -> None:
    async with actor(etcd) as service:
        with pytest.raises(InvalidArgument):
            await service.watch_objects(WatchObjectsRequest(), mine, cursor, 0.1)
        with pytest.raises(InvalidArgument):
            await service.watch_objects(WatchObjectsRequest(after_revision=-1), mine, "", 0.1)
