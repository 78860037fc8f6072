"""Thousands of names at once: transactions as large as etcd takes, several under way at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from etcd3aio import Etcd3Client

from mulligan.errors import MulliganError, Unavailable
from mulligan.meta import registration
from mulligan.meta.errors import name_taken, registered_otherwise
from mulligan.meta.model import NamedObject, check_name, slug_candidates
from mulligan.stores import keys
from mulligan.stores.transactions import MAX_OPERATIONS, Plan, Stored, commit, pipelined, read_many

# Keys of one object at most: as many comparisons, writes or reads of one transaction.
_KEYS_PER_OBJECT = 7
_PER_TRANSACTION = MAX_OPERATIONS // _KEYS_PER_OBJECT

Register = Callable[[NamedObject], Awaitable[object]]


async def register_many(
    client: Etcd3Client, objects: Sequence[NamedObject], register: Register
) -> list[MulliganError | None]:
    """See NameStore.register_many. What does not fit into its transaction is tried by itself with `register`."""
    prepared, errors, twins = _prepared(objects)
    batches = [prepared[at : at + _PER_TRANSACTION] for at in range(0, len(prepared), _PER_TRANSACTION)]
    left = [each for some in await pipelined(_register_batch(client, batch) for batch in batches) for each in some]
    # Those that gave way to another of the same call come after it, in order.
    firsts = [at for at, each in left if _has_first_slug(each)]
    for at, error in zip(firsts, await pipelined(_attempt(register, objects[at]) for at in firsts), strict=True):
        errors[at] = error
    for at, each in left:
        if not _has_first_slug(each):
            errors[at] = await _attempt(register, objects[at])
    for at, first in twins.items():
        errors[at] = errors[first]
    return errors


def _prepared(
    objects: Sequence[NamedObject],
) -> tuple[list[tuple[int, NamedObject]], list[MulliganError | None], dict[int, int]]:
    """The objects with the slugs to try first, errors of those that cannot be tried, and which only repeat another."""
    prepared, errors = [], list[MulliganError | None]([None] * len(objects))
    handles: dict[tuple[str, str], set[str]] = {}
    first_with_id: dict[str, int] = {}
    twins: dict[int, int] = {}
    for at, each in enumerate(objects):
        first = first_with_id.setdefault(each.id, at)
        if first != at:
            if objects[first].is_same_registration(each):
                twins[at] = first
            else:
                errors[at] = registered_otherwise(objects[first])
            continue
        try:
            prepared.append((at, _with_slug(each, handles.setdefault((each.kind, each.scope), set()))))
        except MulliganError as error:
            errors[at] = error
    return prepared, errors, twins


def _with_slug(new: NamedObject, handles: set[str]) -> NamedObject:
    """The object with a slug that no other of the same call has; `handles` collects names and slugs."""
    if not new.name:
        return new
    name = check_name(new.name)
    if name in handles:
        raise name_taken(new)
    handles.add(name)
    for slug in slug_candidates(name, new.kind, new.id):
        if slug not in handles or slug == name:
            handles.add(slug)
            return replace(new, name=name, slug=slug)
    raise name_taken(new)


def _has_first_slug(prepared: NamedObject) -> bool:
    return not prepared.name or prepared.slug == next(slug_candidates(prepared.name, prepared.kind, prepared.id))


async def _register_batch(
    client: Etcd3Client, batch: Sequence[tuple[int, NamedObject]]
) -> list[tuple[int, NamedObject]]:
    """Registers all or none; returns those that have to be tried by themselves."""
    plan = Plan()
    for key in dict.fromkeys(key for _, each in batch for key in registration.guards(each)):
        plan.expect_absent(key)
    for _, each in batch:
        registration.write_all(plan, each)
    outcome = await commit(client, plan, [keys.meta_object(each.id) for _, each in batch])
    if outcome.succeeded:
        return []
    return [(at, each) for at, each in batch if not _is_registered(each, outcome.found)]


def _is_registered(new: NamedObject, found: dict[str, Stored]) -> bool:
    stored = found.get(keys.meta_object(new.id))
    return stored is not None and NamedObject.from_json(stored.value).is_same_registration(new)


async def _attempt(register: Register, new: NamedObject) -> MulliganError | None:
    try:
        await register(new)
    except Unavailable:
        raise
    except MulliganError as error:
        return error
    return None


async def remove_many(client: Etcd3Client, ids: Sequence[str]) -> int:
    """See NameStore.remove_many."""
    reserved = await read_many(client, map(keys.meta_reserved, ids))
    # Reservations first: one that is confirmed meanwhile is found among the objects.
    released = await pipelined(release(client, key.removeprefix(keys.META_RESERVED)) for key in reserved)
    rows = list((await read_many(client, map(keys.meta_object, ids))).items())
    chunks = [rows[at : at + _PER_TRANSACTION] for at in range(0, len(rows), _PER_TRANSACTION)]
    removed: list[int] = await pipelined(_remove_batch(client, chunk) for chunk in chunks)
    return released.count(True) + sum(removed)


async def release(client: Etcd3Client, id: str) -> bool:
    """Drops a reservation; its names only while it holds them. False when there is none any more."""
    key = keys.meta_reserved(id)
    while stored := (await read_many(client, [key])).get(key):
        reserved = NamedObject.from_json(stored.value)
        if (await commit(client, registration.release(reserved))).succeeded:
            return True
        plan = Plan()
        plan.expect_unchanged(key, stored.revision)
        plan.delete(key)
        if (await commit(client, plan)).succeeded:
            return True
    return False


async def _remove_batch(client: Etcd3Client, rows: Sequence[tuple[str, Stored]]) -> int:
    plan = Plan()
    for key, stored in rows:
        _remove(plan, key, stored)
    if (await commit(client, plan)).succeeded:
        return len(rows)
    return sum([await _remove_one(client, key) for key, _ in rows])


async def _remove_one(client: Etcd3Client, key: str) -> int:
    while stored := (await read_many(client, [key])).get(key):
        plan = Plan()
        _remove(plan, key, stored)
        if (await commit(client, plan)).succeeded:
            return 1
    return 0


def _remove(plan: Plan, key: str, stored: Stored) -> None:
    plan.expect_unchanged(key, stored.revision)
    registration.delete_names(plan, NamedObject.from_json(stored.value))
    plan.delete(key)


async def resolve_many(client: Etcd3Client, names: Sequence[tuple[str, str, str]]) -> list[str | None]:
    """See NameStore.resolve_many."""
    wanted = [(kind, scope, _lenient(name)) for kind, scope, name in names]
    makers = (keys.meta_name, keys.meta_slug, keys.meta_alias)
    found = await read_many(client, [make(*each) for each in wanted for make in makers])
    former = {stored.value.decode() for key, stored in found.items() if key.startswith(keys.META_ALIASES)}
    living = await read_many(client, map(keys.meta_object, former))
    return [_first([make(*each) for make in makers], found, living) for each in wanted]


def _lenient(name: str) -> str:
    """The stored form of a name; a name that cannot be one is not found rather than refused."""
    try:
        return check_name(name)
    except MulliganError:
        return ""


def _first(candidates: Iterable[str], found: dict[str, Stored], living: dict[str, Stored]) -> str | None:
    for key in candidates:
        stored = found.get(key)
        if stored is None:
            continue
        object_id = stored.value.decode()
        is_alias = key.startswith(keys.META_ALIASES)
        if keys.meta_object(object_id) in living if is_alias else not stored.lease:
            return object_id
    return None
