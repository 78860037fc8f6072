"""Named objects: their record in etcd, what a name may be, and the slug that is derived from it. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from mulligan.api.meta.v1.meta_pb2 import Object
from mulligan.errors import InvalidArgument

REGION, PROJECT, ACCOUNT = "region", "project", "account"
PROVIDER, PROVIDER_GROUP, MACHINE = "provider", "provider_group", "machine"

# Every kind of named object, with what its names are unique in.
SCOPE_OF_KIND = {
    REGION: "system",
    PROJECT: "system",
    ACCOUNT: "system",
    PROVIDER: "region",
    PROVIDER_GROUP: "region",
    MACHINE: "project",
}

MAX_NAME_CHARACTERS = 255
# That of a DNS label.
MAX_SLUG_CHARACTERS = 63
# Leaves room for a number or a piece of hash.
_MAX_SLUG_BASE = 50

MAX_TAGS = 64
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,62}")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class NamedObject:
    """What is known of an object beside its own service's data; stored as JSON under `/mulligan/meta/objects/<id>`.

    `name` is empty for an object without one. `slug` is empty until the object is registered.
    """

    kind: str
    # UUID of what the name is unique in (SCOPE_OF_KIND); empty: the whole system.
    scope: str
    name: str
    id: str
    # UUID of the project that owns it; empty: the system.
    project: str = ""
    # UUID of the region that it lives in; of a region, the one above it.
    region: str = ""
    slug: str = ""
    tags: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The stored form."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, data: bytes) -> NamedObject:
        """Reads the stored form; what a newer version added is ignored."""
        fields: dict[str, Any] = json.loads(data)
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        return cls(**{**known, "tags": tuple(fields.get("tags", ()))})

    def to_message(self) -> Object:
        """The record on the wire."""
        return Object(
            id=self.id,
            kind=self.kind,
            scope=self.scope,
            name=self.name,
            slug=self.slug,
            tags=self.tags,
            project=self.project,
            region=self.region,
        )

    def is_same_registration(self, other: NamedObject) -> bool:
        """Whether both say the same but for slug and tags, which registering does not give."""
        return replace(self, slug="", tags=()) == replace(other, slug="", tags=())


def check_name(name: str, field: str = "name") -> str:
    """The name in its stored form (Unicode NFC); raises InvalidArgument.

    1 to 255 printable characters, no space at either end, case-sensitive, and no UUID, so that a UUID always is one.
    """
    name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise InvalidArgument(f"{field} must have 1 to {MAX_NAME_CHARACTERS} characters", field=field)
    if not name.isprintable():
        raise InvalidArgument(f"{field} must have printable characters only", field=field)
    if name != name.strip():
        raise InvalidArgument(f"{field} must not begin or end with a space", field=field)
    if _is_uuid(name):
        raise InvalidArgument(f"{field} must not be a UUID; those are taken for ids", field=field)
    return name


def check_tag(tag: str, field: str) -> str:
    """The tag itself; raises InvalidArgument unless it has 1 to 63 letters, digits or any of `_.:/=-`."""
    if not _TAG.fullmatch(tag):
        raise InvalidArgument(
            f"{field} has {tag[:64]!r}; a tag has 1 to 63 letters, digits or _.:/=- and begins with a letter or digit",
            field=field,
        )
    return tag


def is_slug(text: str) -> bool:
    """Whether the text could be somebody's slug."""
    return len(text) <= MAX_SLUG_CHARACTERS and _SLUG.fullmatch(text) is not None


def slug_asked_for(name: str) -> str:
    """What of the name a slug can have: lower case, accents dropped, every other character a dash. May be empty."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_MAX_SLUG_BASE].strip("-")


def slug_base(name: str, kind: str) -> str:
    """The slug to try first: what the name asks for, with the kind before it when that is no slug."""
    slug = slug_asked_for(name)
    if not slug or _is_uuid(slug):
        return f"{kind.replace('_', '-')}-{slug}".rstrip("-")
    return slug


def slug_candidates(name: str, kind: str, object_id: str) -> Iterator[str]:
    """Slugs to try, in order: `web`, `web-2` to `web-9`, then `web-` and ever more of a hash of the id."""
    base = slug_base(name, kind)
    yield base
    for number in range(2, 10):
        yield f"{base}-{number}"
    digest = hashlib.sha256(object_id.encode()).hexdigest()
    for length in (6, 9, 12):
        yield f"{base}-{digest[:length]}"


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        return False
