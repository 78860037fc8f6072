"""Objects of this service and their names, which the metadata service keeps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

from mulligan.iam import store
from mulligan.iam.database import Database
from mulligan.iam.parts import Parts
from mulligan.meta.model import ACCOUNT, PROJECT, NamedObject
from mulligan.meta.names import NameStore

Naming = Callable[[], AbstractAsyncContextManager[Any]]


def named(names: NameStore, kind: str, name: str, identifier: str, project: str = "") -> Naming:
    """Registers the name around a transaction; `project` owns the object."""
    return lambda: names.registering(kind, "", name, identifier, project=project)


async def ensure_name(parts: Parts, identifier: str, naming: Naming) -> None:
    """Registers the name of an object whose making was cut off between its commit and that; else does nothing."""
    if identifier in await parts.names.lookup([identifier]):
        return
    if identifier in await stored_ids(parts.database, [identifier]):
        async with naming():
            pass


async def recover_names(names: NameStore, database: Database) -> int:
    """Settles the names that were left reserved when the service died; returns how many."""

    async def stored(ids: list[str]) -> Collection[str]:
        return await stored_ids(database, ids)

    return await names.recover(_is_ours, stored)


def _is_ours(each: NamedObject) -> bool:
    return each.kind in (ACCOUNT, PROJECT)


async def stored_ids(database: Database, ids: Collection[str]) -> set[str]:
    """Which of these are accounts or projects."""
    async with database.read() as connection:
        return await store.known_ids(connection, ids)
