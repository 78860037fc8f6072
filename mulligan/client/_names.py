"""From names to UUIDs, with a memory: names live in the metadata service, everything else speaks UUIDs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from mulligan.api.meta.v1.meta_client import MetaClient
from mulligan.api.meta.v1.meta_pb2 import NameKey, Object
from mulligan.client._time import Time
from mulligan.errors import InvalidArgument, NotFound
from mulligan.ids import is_id

_MAX_CACHED = 10_000
_KEEP_S = 60.0

# ResolveNames and LookupObjects take at most so many at once.
_BATCH = 1000

_Key = tuple[str, str, str]


class Names:
    """Resolves names (and slugs) of things. A name is unique in its scope: see `mulligan.meta.v1.NameKey`."""

    def __init__(self, meta: MetaClient, time: Time) -> None:
        self._meta = meta
        self._time = time
        self._cache: OrderedDict[_Key, tuple[str, float]] = OrderedDict()

    async def resolve(self, kind: str, name: str, scope: str = "", *, timeout_s: float | None = None) -> str:
        """The UUID of the thing with this name; raises NotFound. What was found is remembered for a minute."""
        found = await self.resolve_many(kind, [name], [scope], timeout_s=timeout_s)
        if (scope, name) not in found:
            raise _not_found(kind, name)
        return found[scope, name]

    async def id_or_name(self, kind: str, value: str, scope: str = "", *, timeout_s: float | None = None) -> str:
        """The value itself when it is a UUID or empty, else the UUID of the thing with this name."""
        return value if not value or is_id(value) else await self.resolve(kind, value, scope, timeout_s=timeout_s)

    async def find(
        self, kind: str, value: str, scopes: Sequence[str], *, timeout_s: float | None = None
    ) -> tuple[str, str]:
        """The one thing with this name in any of the scopes: its UUID and scope. A UUID is answered with scope "".

        Raises NotFound when there is none, and InvalidArgument when several scopes have one.
        """
        if is_id(value):
            return value, ""
        found = await self.resolve_many(kind, [value], scopes, timeout_s=timeout_s)
        if not found:
            raise _not_found(kind, value)
        if len(found) > 1:
            raise InvalidArgument(
                f"{len(found)} regions have a {_words(kind)} named {value!r}; name the region, or give its UUID",
                reason="REGION_AMBIGUOUS",
            )
        [((scope, _), id)] = found.items()
        return id, scope

    async def resolve_many(
        self, kind: str, names: Iterable[str], scopes: Sequence[str] = ("",), *, timeout_s: float | None = None
    ) -> dict[tuple[str, str], str]:
        """UUIDs by scope and name; what is not there is left out."""
        found: dict[tuple[str, str], str] = {}
        unknown: list[_Key] = []
        for key in ((kind, scope, name) for name in names for scope in scopes):
            cached = self._recall(key)
            if cached:
                found[key[1:]] = cached
            else:
                unknown.append(key)
        for start in range(0, len(unknown), _BATCH):
            keys = [NameKey(kind=kind, scope=scope, name=name) for _, scope, name in unknown[start : start + _BATCH]]
            response = await self._meta.resolve_names(names=keys, timeout_s=timeout_s)
            for resolved in response.resolved:
                found[resolved.key.scope, resolved.key.name] = resolved.id
                self._remember((kind, resolved.key.scope, resolved.key.name), resolved.id)
        return found

    async def objects(self, ids: Iterable[str], *, timeout_s: float | None = None) -> dict[str, Object]:
        """Names, slugs and tags by UUID; what the caller may not see is left out. Not remembered."""
        wanted = list(dict.fromkeys(id for id in ids if id))
        found: dict[str, Object] = {}
        for start in range(0, len(wanted), _BATCH):
            response = await self._meta.lookup_objects(ids=wanted[start : start + _BATCH], timeout_s=timeout_s)
            found |= {item.id: item for item in response.objects}
        return found

    def forget(self) -> None:
        """Drops what is remembered."""
        self._cache.clear()

    def _recall(self, key: _Key) -> str:
        id, until = self._cache.get(key, ("", 0.0))
        if not id or until < self._time.monotonic():
            return ""
        self._cache.move_to_end(key)
        return id

    def _remember(self, key: _Key, id: str) -> None:
        self._cache[key] = id, self._time.monotonic() + _KEEP_S
        self._cache.move_to_end(key)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)


def _not_found(kind: str, name: str) -> NotFound:
    return NotFound(f"there is no {_words(kind)} named {name!r} that you may see; check the spelling and the region")


def _words(kind: str) -> str:
    return kind.replace("_", " ")
