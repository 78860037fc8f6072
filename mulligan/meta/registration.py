"""What a registration expects of etcd and what it writes. Pure: plans only; `names.py` carries them out.

Keys of one object (see mulligan.stores.keys): its name and its slug, each holding the id; its record; and a mark in
its region. Names and slugs of a kind and scope share one namespace, so that what a user types finds one object only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from mulligan.meta.errors import name_taken, region_deleted
from mulligan.meta.model import NamedObject, is_slug
from mulligan.stores import keys
from mulligan.stores.transactions import Plan, Stored


class Finding(Enum):
    """Why an object could not be registered, when that is no error."""

    # It is registered.
    REGISTERED = "registered"
    # Its name is reserved for it.
    RESERVED = "reserved"
    # Its slug is taken; another one may do.
    SLUG_TAKEN = "slug taken"
    # Nothing of the registration itself stands in the way.
    NOTHING = "nothing"


def guards(new: NamedObject) -> list[str]:
    """Keys that must not exist for the object to be registered with its name and slug."""
    found = [keys.meta_object(new.id)]
    if new.region:
        found.append(keys.meta_deleted_region(new.region))
    if not new.name:
        return found
    found += [keys.meta_name(new.kind, new.scope, new.name), keys.meta_slug(new.kind, new.scope, new.slug)]
    found.append(keys.meta_alias(new.kind, new.scope, new.slug))
    if new.name != new.slug:
        found.append(keys.meta_name(new.kind, new.scope, new.slug))
        if is_slug(new.name):
            found.append(keys.meta_slug(new.kind, new.scope, new.name))
    return found


def expect_free(plan: Plan, new: NamedObject) -> None:
    """Adds that nothing stands in the way."""
    for key in guards(new):
        plan.expect_absent(key)


def write_names(plan: Plan, new: NamedObject, lease: int = 0) -> None:
    """Adds the keys that lead to the object."""
    if new.name:
        plan.put(keys.meta_name(new.kind, new.scope, new.name), new.id, lease)
        plan.put(keys.meta_slug(new.kind, new.scope, new.slug), new.id, lease)
    if new.region:
        plan.put(keys.meta_in_region(new.region, new.id), b"", lease)


def write_all(plan: Plan, new: NamedObject) -> None:
    """Adds the keys of a registered object."""
    write_names(plan, new)
    plan.put(keys.meta_object(new.id), new.to_json())


def delete_names(plan: Plan, old: NamedObject) -> None:
    """Adds the removal of the keys that lead to the object."""
    if old.name:
        plan.delete(keys.meta_name(old.kind, old.scope, old.name))
        plan.delete(keys.meta_slug(old.kind, old.scope, old.slug))
    if old.region:
        plan.delete(keys.meta_in_region(old.region, old.id))


def reserve(new: NamedObject, lease: int, record_lease: int) -> Plan:
    """Reserves the name under a lease; the record outlives it, so that the service can be asked what became of it."""
    plan = Plan()
    expect_free(plan, new)
    write_names(plan, new, lease)
    plan.put(keys.meta_reserved(new.id), new.to_json(), record_lease)
    return plan


def _expect_reserved(plan: Plan, reserved: NamedObject) -> None:
    plan.expect_absent(keys.meta_object(reserved.id))
    plan.expect_present(keys.meta_reserved(reserved.id))
    if reserved.name:
        plan.expect_value(keys.meta_name(reserved.kind, reserved.scope, reserved.name), reserved.id)
        plan.expect_value(keys.meta_slug(reserved.kind, reserved.scope, reserved.slug), reserved.id)
    elif reserved.region:
        plan.expect_present(keys.meta_in_region(reserved.region, reserved.id))


def confirm(reserved: NamedObject) -> Plan:
    """Makes a reservation that still holds stay for ever."""
    plan = Plan()
    _expect_reserved(plan, reserved)
    write_all(plan, reserved)
    plan.delete(keys.meta_reserved(reserved.id))
    return plan


def settle(reserved: NamedObject) -> Plan:
    """Drops the record of a reservation, for who registers its object otherwise."""
    plan = Plan()
    plan.expect_present(keys.meta_reserved(reserved.id))
    plan.delete(keys.meta_reserved(reserved.id))
    return plan


def release(reserved: NamedObject) -> Plan:
    """Frees a reservation that still holds."""
    plan = Plan()
    _expect_reserved(plan, reserved)
    delete_names(plan, reserved)
    plan.delete(keys.meta_reserved(reserved.id))
    return plan


def register(new: NamedObject) -> Plan:
    """Registers for good, without a reservation."""
    plan = Plan()
    expect_free(plan, new)
    write_all(plan, new)
    return plan


def rename(old: NamedObject, revision: int, new: NamedObject, found: Mapping[str, Stored], alias_lease: int) -> Plan:
    """Gives the object its new name and slug; the old slug becomes an alias.

    `found` holds what exists of `guards(new)`: an alias of its own gives way when the old name comes back.
    """
    plan = Plan()
    plan.expect_unchanged(keys.meta_object(old.id), revision)
    alias = keys.meta_alias(new.kind, new.scope, new.slug)
    for key in new_guards(old, new):
        if key == alias and alias in found:
            plan.expect_value(alias, old.id)
            plan.delete(alias)
        else:
            plan.expect_absent(key)
    for key in _own_keys(old) - _own_keys(new):
        plan.delete(key)
    for key in _own_keys(new):
        plan.put(key, new.id)
    if old.slug and old.slug != new.slug:
        plan.put(keys.meta_alias(old.kind, old.scope, old.slug), old.id, alias_lease)
    plan.put(keys.meta_object(new.id), new.to_json())
    return plan


def new_guards(old: NamedObject, new: NamedObject) -> list[str]:
    """Keys that must not exist for `old` to become `new`: `guards` but for what is the object's own already."""
    own = {*_own_keys(old), keys.meta_deleted_region(old.region), keys.meta_object(old.id)}
    return [key for key in guards(new) if key not in own]


def _own_keys(each: NamedObject) -> set[str]:
    if not each.name:
        return set()
    return {keys.meta_name(each.kind, each.scope, each.name), keys.meta_slug(each.kind, each.scope, each.slug)}


def judge(new: NamedObject, found: Mapping[str, Stored]) -> Finding:
    """Says what stood in the way, given the keys of `guards` and the reservation as they were at that moment.

    Raises AlreadyExists (NAME_TAKEN) or NotFound (the region was deleted).
    """
    if keys.meta_object(new.id) in found:
        return Finding.REGISTERED
    if keys.meta_deleted_region(new.region) in found:
        raise region_deleted(new.region)
    if not new.name:
        return Finding.NOTHING
    name_key = keys.meta_name(new.kind, new.scope, new.name)
    # Names go with their lease long before the record does: by then the name may be somebody else's.
    holder = found.get(name_key)
    if holder is not None and holder.value == new.id.encode() and _is_reserved_for(new, found):
        return Finding.RESERVED
    if name_key in found or keys.meta_slug(new.kind, new.scope, new.name) in found:
        raise name_taken(new)
    slug_keys = {each(new.kind, new.scope, new.slug) for each in (keys.meta_slug, keys.meta_name, keys.meta_alias)}
    return Finding.SLUG_TAKEN if slug_keys & found.keys() else Finding.NOTHING


def _is_reserved_for(new: NamedObject, found: Mapping[str, Stored]) -> bool:
    reserved = found.get(keys.meta_reserved(new.id))
    return reserved is not None and NamedObject.from_json(reserved.value).is_same_registration(new)
