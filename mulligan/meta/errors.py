"""What goes wrong with names and regions, worded once."""

from __future__ import annotations

from mulligan.errors import Aborted, AlreadyExists, NotFound
from mulligan.meta.model import SCOPE_OF_KIND, NamedObject


class Superseded(Aborted):
    """What was read has been written since; read again and decide anew."""


def name_taken(new: NamedObject) -> AlreadyExists:
    """The name, or a slug that reads the same, is somebody else's."""
    within = {"region": "in its region", "project": "in its project"}.get(SCOPE_OF_KIND.get(new.kind, ""), "here")
    return AlreadyExists(
        f"another {new.kind} {within} has the name or slug {new.name[:100]!r}; choose another name",
        reason="NAME_TAKEN",
        field="name",
        metadata={"kind": new.kind, "scope": new.scope},
    )


def registered_otherwise(existing: NamedObject) -> AlreadyExists:
    """The id is known already, under another name or as something else."""
    return AlreadyExists(
        f"{existing.kind} {existing.id} is registered already; use RenameObject to change its name",
        metadata={"kind": existing.kind, "id": existing.id},
    )


def region_deleted(region: str) -> NotFound:
    """The object's region is gone."""
    return NotFound(f"region {region} was deleted; nothing can be put into it", metadata={"region": region})


def region_not_found(region: str) -> NotFound:
    """There is no such region, or the caller may not know of it."""
    return NotFound(
        f"there is no region {region[:64]}; ListRegions tells which there are", metadata={"region": region[:64]}
    )


def object_not_found(object_id: str) -> NotFound:
    """There is no such object, or the caller may not know of it."""
    return NotFound(f"there is no object {object_id}", metadata={"id": object_id})


def superseded(object_id: str) -> Superseded:
    """Somebody else wrote the object meanwhile."""
    return Superseded(f"{object_id} was changed meanwhile; read it again, then retry", metadata={"id": object_id})
