"""Names of objects in etcd, for every service: unique within their scope, found by name or slug, never left behind.

A service that creates a named object in its own store wraps that in `registering`: the name is reserved under a
lease, the service stores the object, the name is confirmed. Whatever dies in between, no name is orphaned: the
reservation goes with its lease, and `recover` confirms those whose object was stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from etcd3aio import Etcd3Client

from mulligan.errors import AlreadyExists, DeadlineExceeded, MulliganError, NotFound, Unavailable
from mulligan.meta import bulk, registration
from mulligan.meta.confirmations import Confirmations
from mulligan.meta.errors import Superseded, name_taken, registered_otherwise, superseded
from mulligan.meta.model import NamedObject, check_name, slug_candidates
from mulligan.meta.registration import Finding
from mulligan.stores import keys
from mulligan.stores.transactions import Plan, SharedLease, commit, read_many, read_prefix

log = logging.getLogger(__name__)

# A reserved name is free again this long after its service died.
RESERVATION_S = 30

# How long a service has to ask what it left unfinished.
_RECORD_S = 7 * 86_400

# A slug that was given up finds its object this long.
ALIAS_S = 86_400

# Failures after which nobody knows whether the service stored the object.
_UNCERTAIN = (Unavailable, DeadlineExceeded, asyncio.CancelledError, ConnectionError, TimeoutError, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Found:
    """A registered object and the etcd revision that wrote it."""

    object: NamedObject
    revision: int


# What is to be written together with a change of a name, given the object as it will be.
Also = Callable[[NamedObject], Plan]


class NameStore:
    """All names in one etcd. Cheap to make; safe to share between tasks."""

    def __init__(self, client: Etcd3Client, *, reservation_s: int = RESERVATION_S) -> None:
        self._client = client
        self._reservations = SharedLease(client, reservation_s)
        self._records = SharedLease(client, _RECORD_S)
        self._aliases = SharedLease(client, ALIAS_S)
        self._missed = Confirmations(self._settle, lambda: client.kv is None)

    async def close(self) -> None:
        """Makes no missed confirmation any more; closing the etcd client ends that as well."""
        await self._missed.close()

    @asynccontextmanager
    async def registering(
        self, kind: str, scope: str, name: str, id: str, project: str = "", region: str = ""
    ) -> AsyncIterator[NamedObject]:
        """Holds the name while the body stores the object; registers it when the body succeeds.

        An empty name registers the object without one. An id that is registered already is left as it is, so a
        retry with the same id (`mulligan.requests.derived_id`) runs the body and changes nothing here. When the body
        fails the name is freed; when nobody knows whether it failed, that is left to the lease or to `recover`.
        Raises InvalidArgument, AlreadyExists (NAME_TAKEN), NotFound (the region was deleted), Unavailable. When etcd
        was away after the body the name is registered once it is back.
        """
        new = NamedObject(kind, scope, check_name(name) if name else "", id, project, region)
        reserved, finding = await self._reserve(new)
        try:
            yield reserved
        except _UNCERTAIN:
            raise
        except BaseException:
            if finding is Finding.NOTHING:
                await self._release(reserved)
            raise
        if finding is not Finding.REGISTERED:
            await self._conclude(reserved)

    async def register(self, new: NamedObject, also: Also | None = None) -> Found:
        """Registers at once; returns the object with its slug. The same id and name again is no error.

        What `also` makes of the object is carried out in the same transaction; raises Superseded when that is what
        could not be.
        """
        new = replace(new, name=check_name(new.name)) if new.name else new
        for candidate in _with_slugs(new):
            finding, found = await self._try(candidate, registration.register(candidate), also)
            if finding is Finding.RESERVED and not await self._confirmed(found.object):
                raise superseded(new.id)
            if finding is Finding.REGISTERED and not found.object.is_same_registration(new):
                raise registered_otherwise(found.object)
            if finding is not Finding.SLUG_TAKEN:
                return found
        raise name_taken(new)

    async def register_many(self, objects: Sequence[NamedObject]) -> list[MulliganError | None]:
        """Registers thousands at once; for each, in order, None or why it was not registered.

        Raises Unavailable when etcd is away; any part may be registered then, and repeating the call is harmless.
        """
        return await bulk.register_many(self._client, objects, self.register)

    async def remove(self, id: str) -> bool:
        """Frees the object's name and forgets it; False when it was not known."""
        return bool(await self.remove_many([id]))

    async def remove_many(self, ids: Iterable[str]) -> int:
        """Frees many names, reserved ones included; returns how many objects were known."""
        return await bulk.remove_many(self._client, list(ids))

    async def find(self, id: str) -> Found | None:
        """The registered object, as etcd has it now."""
        key = keys.meta_object(id)
        stored = (await read_many(self._client, [key])).get(key)
        return Found(NamedObject.from_json(stored.value), stored.revision) if stored else None

    async def lookup(self, ids: Iterable[str]) -> dict[str, NamedObject]:
        """The registered ones of the objects, by id."""
        stored = await read_many(self._client, map(keys.meta_object, ids))
        objects = (NamedObject.from_json(each.value) for each in stored.values())
        return {each.id: each for each in objects}

    async def resolve(self, kind: str, scope: str, name: str) -> str | None:
        """The id of the object with this name or slug; a name goes before a slug, that before a former slug."""
        return (await self.resolve_many([(kind, scope, name)]))[0]

    async def resolve_many(self, names: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """Ids for (kind, scope, name or slug), in order. Names that are only reserved are not found."""
        return await bulk.resolve_many(self._client, names)

    async def rename(self, found: Found, name: str, also: Also | None = None) -> Found:
        """Gives the object another name and slug; the old slug finds it for a day. Returns it as it is then.

        Raises AlreadyExists (NAME_TAKEN), and Superseded when the object was written since it was read or what
        `also` asks for could not be done.
        """
        old, new = found.object, replace(found.object, name=check_name(name))
        if old.name == new.name:
            return await self._write(found, old, also)
        for candidate in _with_slugs(new):
            existing = await read_many(self._client, registration.new_guards(old, candidate))
            own_alias = keys.meta_alias(new.kind, new.scope, candidate.slug)
            obstacles = {
                key: each for key, each in existing.items() if key != own_alias or each.value != old.id.encode()
            }
            if obstacles and registration.judge(candidate, obstacles) is not Finding.NOTHING:
                continue
            plan = registration.rename(old, found.revision, candidate, existing, await self._aliases.current())
            return await self._carry_out(plan, candidate, also)
        raise name_taken(new)

    async def retag(self, found: Found, tags: Iterable[str], also: Also | None = None) -> Found:
        """Gives the object these tags and no others. Raises Superseded as `rename` does."""
        return await self._write(found, replace(found.object, tags=tuple(sorted(set(tags)))), also)

    async def recover(
        self, mine: Callable[[NamedObject], bool], stored: Callable[[list[str]], Awaitable[Collection[str]]]
    ) -> int:
        """Settles what a service left reserved when it died; call it when the service starts.

        `mine` picks the service's own objects, `stored` says which of these ids it has. Those stay, the others are
        freed. Nothing of the service may be on its way meanwhile. Returns how many were unsettled.
        """
        records = await read_prefix(self._client, keys.META_RESERVED)
        left = [each for each in (NamedObject.from_json(one.value) for one in records.values()) if mine(each)]
        known = set(await stored([each.id for each in left])) if left else set()
        for each in left:
            if each.id in known:
                await self._settle(each)
            else:
                await self._release(each)
        return len(left)

    async def _reserve(self, new: NamedObject) -> tuple[NamedObject, Finding]:
        """The object with its slug, and NOTHING when this call reserved it."""
        for candidate in _with_slugs(new):
            lease, record_lease = await self._reservations.current(), await self._records.current()
            finding, found = await self._try(candidate, registration.reserve(candidate, lease, record_lease), None)
            if finding is not Finding.SLUG_TAKEN:
                return found.object, finding
        raise name_taken(new)

    async def _try(self, new: NamedObject, plan: Plan, also: Also | None) -> tuple[Finding, Found]:
        """NOTHING when the plan was carried out; else why not, and the object as etcd has it."""
        if also is not None:
            plan.add(also(new))
        outcome = await commit(self._client, plan, [*registration.guards(new), keys.meta_reserved(new.id)])
        if outcome.succeeded:
            return Finding.NOTHING, Found(new, outcome.revision)
        finding = registration.judge(new, outcome.found)
        if finding is Finding.NOTHING:
            raise superseded(new.id)
        key = {Finding.REGISTERED: keys.meta_object, Finding.RESERVED: keys.meta_reserved}.get(finding)
        if key is None:
            return finding, Found(new, 0)
        stored = outcome.found[key(new.id)]
        return finding, Found(NamedObject.from_json(stored.value), stored.revision)

    async def _conclude(self, stored: NamedObject) -> None:
        """Confirms what was stored. When that fails now it is done later: the caller may never ask again."""
        try:
            await self._confirm(stored)
        except (AlreadyExists, *_UNCERTAIN):
            self._missed.add(stored)
            raise

    async def _confirm(self, reserved: NamedObject) -> None:
        """Registers what is reserved, anew when the reservation ran out; Superseded when it was removed meanwhile."""
        if not await self._confirmed(reserved):
            await self.register(replace(reserved, slug=""), registration.settle)

    async def _confirmed(self, reserved: NamedObject) -> bool:
        return (await commit(self._client, registration.confirm(reserved))).succeeded

    async def _settle(self, stored: NamedObject) -> None:
        """Registers an object that was stored, without its name when that is somebody else's by now."""
        about = "kind=%s id=%s "
        try:
            await self._confirm(stored)
        except AlreadyExists as error:
            if error.reason != "NAME_TAKEN":
                return
            log.warning(about + "lost its name while it was stored; give it another", stored.kind, stored.id)
            await self.register(replace(stored, name="", slug=""), registration.settle)
        except NotFound:
            log.error(about + "is in region=%s, which was deleted; delete it", stored.kind, stored.id, stored.region)
        except Superseded:
            pass  # removed or registered by somebody else

    async def _release(self, reserved: NamedObject) -> None:
        try:
            await bulk.release(self._client, reserved.id)
        except Unavailable:
            log.warning("kind=%s id=%s stays reserved until its lease ends: etcd is away", reserved.kind, reserved.id)

    async def _write(self, found: Found, changed: NamedObject, also: Also | None) -> Found:
        plan = Plan()
        plan.expect_unchanged(keys.meta_object(changed.id), found.revision)
        plan.put(keys.meta_object(changed.id), changed.to_json())
        return await self._carry_out(plan, changed, also)

    async def _carry_out(self, plan: Plan, changed: NamedObject, also: Also | None) -> Found:
        if also is not None:
            plan.add(also(changed))
        outcome = await commit(self._client, plan)
        if not outcome.succeeded:
            raise superseded(changed.id)
        return Found(changed, outcome.revision)


def _with_slugs(new: NamedObject) -> Iterable[NamedObject]:
    if not new.name:
        return [new]
    return (replace(new, slug=slug) for slug in slug_candidates(new.name, new.kind, new.id))
