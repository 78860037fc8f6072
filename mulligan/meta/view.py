"""Objects and regions in memory, kept as etcd changes: what lists and watches are served from."""

from __future__ import annotations

import asyncio
import logging

import grpc

from mulligan.caller import Caller
from mulligan.meta.index import Change, ChangeLog, ObjectIndex
from mulligan.meta.model import NamedObject
from mulligan.meta.policy import Eyes, Facets
from mulligan.meta.regions import RegionTree
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient, WatchedPrefix
from mulligan.stores.transactions import read_many, read_prefix

log = logging.getLogger(__name__)

# How long a writer waits to see its own write here.
_SEEN_WITHIN_S = 2.0


class MetaView:
    """A view that is as old as etcd's watch is slow: milliseconds."""

    def __init__(self, etcd: EtcdClient) -> None:
        self.index = ObjectIndex()
        self.changes = ChangeLog(0)
        self._etcd = etcd
        self._objects = WatchedPrefix(etcd, keys.META_OBJECTS)
        self._regions = WatchedPrefix(etcd, keys.META_REGIONS)
        self._tree: RegionTree | None = None
        # The regions with those that are gone, for as long as `changes` tell of them: region -> revision.
        self._with_gone: dict[str, bytes] = {}
        self._gone: dict[str, int] = {}
        self._tree_with_gone: RegionTree | None = None
        self._started = False
        self._looking_back = asyncio.Lock()

    async def start(self) -> None:
        """Reads everything, then follows; raises Unavailable."""
        self._objects.on_change.append(self._object_changed)
        self._regions.on_change.append(self._region_changed)
        await self._regions.start()
        await self._objects.start()
        self.changes = ChangeLog(self._objects.revision)
        self._started = True

    async def close(self) -> None:
        """Stops following."""
        await self._objects.close()
        await self._regions.close()

    @property
    def revision(self) -> int:
        """etcd's revision of the last change of an object that is seen here."""
        return self._objects.revision

    @property
    def tree(self) -> RegionTree:
        """The regions."""
        if self._tree is None:
            self._tree = RegionTree(self._regions.items)
        return self._tree

    def eyes(self, caller: Caller) -> Eyes:
        """What the caller may see, by the regions as they are now."""
        return Eyes(caller, self.tree)

    def eyes_then(self, caller: Caller) -> Eyes:
        """What the caller might see of what was deleted: regions count that are gone themselves."""
        if not self._gone:
            return self.eyes(caller)
        if self._tree_with_gone is None:
            self._tree_with_gone = RegionTree(self._with_gone)
        return Eyes(caller, self._tree_with_gone)

    def object(self, object_id: str) -> NamedObject:
        """An object that is in the index."""
        return NamedObject.from_json(self._objects.items[object_id])

    async def saw_object(self, revision: int) -> None:
        """Waits until changes of objects up to the revision are seen, or two seconds."""
        await self._objects.wait_changed(revision - 1, _SEEN_WITHIN_S)

    async def saw_region(self, revision: int) -> None:
        """Waits until changes of regions up to the revision are seen, or two seconds."""
        await self._regions.wait_changed(revision - 1, _SEEN_WITHIN_S)

    async def wait_changed(self, after_revision: int, timeout_s: float) -> bool:
        """Waits for a change of an object after the revision; False when there was none in time."""
        return await self._objects.wait_changed(after_revision, timeout_s)

    async def look_back(self, revision: int) -> bool:
        """Learns from etcd's history what changed after a revision that lies before this view's beginning.

        False when etcd has compacted that revision: nobody knows any more.
        """
        async with self._looking_back:
            base = self.changes.base
            if revision >= base:
                return True
            try:
                history = await self._history(revision, base)
                regions = await read_prefix(self._etcd, keys.META_REGIONS, revision=revision)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    return False
                raise
            if self.changes.base == base:
                self.changes.prepend(revision, history)
                for region, record in regions.items():
                    if region not in self._with_gone:
                        self._note_gone(region, record.value, base)
            return revision >= self.changes.base

    async def _history(self, revision: int, stamp: int) -> list[Change]:
        before = await read_prefix(self._etcd, keys.META_OBJECTS, revision=revision, keys_only=True)
        now = await read_prefix(self._etcd, keys.META_OBJECTS, keys_only=True)
        gone = await read_many(self._etcd, map(keys.meta_object, before.keys() - now.keys()), revision)
        deleted = [NamedObject.from_json(each.value) for each in gone.values()]
        changed = [Change(stamp, each) for each, stored in now.items() if stored.revision > revision]
        return changed + [Change(stamp, each.id, Facets.of(each)) for each in deleted]

    def _object_changed(self, object_id: str, value: bytes | None) -> None:
        if value is None:
            deleted = self.index.remove(object_id)
            if deleted is not None:
                self._log(Change(self.revision, object_id, deleted))
            return
        self.index.put(object_id, Facets.of(NamedObject.from_json(value)))
        self._log(Change(self.revision, object_id))

    def _log(self, change: Change) -> None:
        if self._started:
            self.changes.append(change)

    def _region_changed(self, region: str, record: bytes | None) -> None:
        self._tree = self._tree_with_gone = None
        if record is not None:
            self._with_gone[region] = record
            self._gone.pop(region, None)
        elif region in self._with_gone:
            self._note_gone(region, self._with_gone[region], self._regions.revision)

    def _note_gone(self, region: str, record: bytes, revision: int) -> None:
        self._with_gone[region], self._gone[region] = record, revision
        for each in [each for each, at in self._gone.items() if at <= self.changes.base]:
            del self._with_gone[each], self._gone[each]
        self._tree_with_gone = None
