"""Every object's id in memory, sorted for lists, with the latest changes for watchers. Pure; fed by the store."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mulligan.meta.policy import Eyes, Facets

# Changes kept for watchers; one that is further behind is told from etcd's own history.
MAX_CHANGES = 100_000

KeyT = TypeVar("KeyT")


class ObjectIndex:
    """Ids of objects by kind and project, and by tag."""

    def __init__(self) -> None:
        self._facets: dict[str, Facets] = {}
        # Objects of a region and project share one: a million of them need not have a million.
        self._shared: dict[Facets, Facets] = {}
        self._groups: dict[tuple[str, str], list[str]] = {}
        self._tags: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._facets)

    def get(self, object_id: str) -> Facets | None:
        """What is known of an object."""
        return self._facets.get(object_id)

    def put(self, object_id: str, facets: Facets) -> None:
        """Adds an object or changes it."""
        if self._facets.get(object_id) == facets:
            return
        self.remove(object_id)
        self._facets[object_id] = facets if facets.tags else self._shared.setdefault(facets, facets)
        insort(self._groups.setdefault((facets.kind, facets.project), []), object_id)
        for tag in facets.tags:
            insort(self._tags.setdefault(tag, []), object_id)

    def remove(self, object_id: str) -> Facets | None:
        """Forgets an object; returns what was known of it."""
        facets = self._facets.pop(object_id, None)
        if facets is not None:
            _take(self._groups, (facets.kind, facets.project), object_id)
            for tag in facets.tags:
                _take(self._tags, tag, object_id)
        return facets

    def candidates(self, eyes: Eyes, kind: str, tags: Iterable[str], after: str) -> Iterator[tuple[str, Facets]]:
        """Objects behind the id `after`, in order, that carry all tags; the caller may not see each of them.

        An empty kind stands for every kind. Stops being right when the index changes.
        """
        wanted = set(tags)
        last = ""
        for object_id in heapq.merge(*(_behind(ids, after) for ids in self._lists(eyes, kind, wanted))):
            if object_id == last:
                continue
            last, facets = object_id, self._facets[object_id]
            if kind in ("", facets.kind) and wanted.issubset(facets.tags):
                yield object_id, facets

    def _lists(self, eyes: Eyes, kind: str, tags: set[str]) -> list[list[str]]:
        """The fewest sorted lists that hold all that the caller could see of what it asks for."""
        if tags:
            return [min((self._tags.get(tag, []) for tag in tags), key=len)]
        lists = [
            ids
            for (each, project), ids in self._groups.items()
            if kind in ("", each) and eyes.looks_into(each, project)
        ]
        return [*lists, *([each] for each in eyes.own_ids(kind) if each in self._facets)]


def _behind(ids: list[str], after: str) -> Iterator[str]:
    return (ids[at] for at in range(bisect_right(ids, after), len(ids)))


def _take(lists: dict[KeyT, list[str]], key: KeyT, object_id: str) -> None:
    ids = lists[key]
    del ids[bisect_left(ids, object_id)]
    if not ids:
        del lists[key]


@dataclass(frozen=True, slots=True)
class Change:
    """An object that was written or deleted at a revision."""

    revision: int
    id: str
    # What it was when it was deleted; None: it is there.
    deleted: Facets | None = None


class ChangeLog:
    """The latest changes, in the order of their revisions."""

    def __init__(self, base: int, limit: int = MAX_CHANGES) -> None:
        """It knows every change after revision `base`."""
        self.base = base
        self._limit = limit
        self._changes: list[Change] = []

    def append(self, change: Change) -> None:
        """Adds a change that is no older than the last one; forgets the older half when there are too many."""
        self._changes.append(change)
        if len(self._changes) > self._limit:
            half = len(self._changes) // 2
            self.base = self._changes[half - 1].revision
            self._changes = [each for each in self._changes[half:] if each.revision > self.base]

    def prepend(self, base: int, changes: Iterable[Change]) -> None:
        """Takes in what changed between `base` and the former base."""
        if base < self.base:
            self._changes[:0] = changes
            self.base = base

    def since(self, revision: int) -> list[Change]:
        """The last change of each object after the revision, which must not lie before `base`."""
        start = bisect_right(self._changes, revision, key=lambda each: each.revision)
        latest = {each.id: each for each in self._changes[start:]}
        return sorted(latest.values(), key=lambda each: each.revision)
