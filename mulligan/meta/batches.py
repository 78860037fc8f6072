"""Notes of what a service is about to store many of, so that a crash in the middle leaves no names behind.

Names of thousands of objects are registered for good at once, as a reservation would write each of them twice. The
ids are noted before, and the note is removed once the objects are stored. A note that is found later tells
`NameStore.recover` what to look for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import groupby

from etcd3aio import Etcd3Client

from mulligan.ids import new_id
from mulligan.meta.model import NamedObject
from mulligan.stores import keys
from mulligan.stores.transactions import Plan, commit, read_prefix

# etcd takes values up to 1.5 MB; an id takes 39 bytes.
_PER_NOTE = 10_000


class Batches:
    """The notes in one etcd."""

    def __init__(self, client: Etcd3Client) -> None:
        self._client = client

    async def note(self, objects: Sequence[NamedObject], lease: int) -> list[str]:
        """Writes down the objects; returns the keys of the notes."""
        noted = []
        for at in range(0, len(objects), _PER_NOTE):
            noted.append(keys.meta_batch(new_id()))
            plan = Plan()
            plan.put(noted[-1], _to_json(objects[at : at + _PER_NOTE]), lease)
            await commit(self._client, plan)
        return noted

    async def forget(self, noted: Collection[str]) -> None:
        """Removes notes."""
        if not noted:
            return
        plan = Plan()
        for key in noted:
            plan.delete(key)
        await commit(self._client, plan)

    async def unstored(
        self, mine: Callable[[NamedObject], bool], stored: Callable[[list[str]], Awaitable[Collection[str]]]
    ) -> tuple[list[str], list[str]]:
        """Ids that were noted by a service and that it did not store, and the keys of notes that are its alone."""
        ids, noted = list[str](), list[str]()
        for key, note in (await read_prefix(self._client, keys.META_BATCHES)).items():
            everything = _from_json(note.value)
            left = [each for each in everything if mine(each)]
            if left:
                known = set(await stored([each.id for each in left]))
                ids += [each.id for each in left if each.id not in known]
            if len(left) == len(everything):
                noted.append(keys.META_BATCHES + key)
        return ids, noted


def _home(each: NamedObject) -> tuple[str, str, str, str]:
    return each.kind, each.scope, each.project, each.region


def _to_json(objects: Iterable[NamedObject]) -> str:
    homes = [
        {"kind": kind, "scope": scope, "project": project, "region": region, "ids": [each.id for each in group]}
        for (kind, scope, project, region), group in groupby(sorted(objects, key=_home), _home)
    ]
    return json.dumps(homes, separators=(",", ":"))


def _from_json(data: bytes) -> list[NamedObject]:
    """The objects, without their names."""
    return [
        NamedObject(home["kind"], home["scope"], "", id, home["project"], home["region"])
        for home in json.loads(data)
        for id in home["ids"]
    ]
