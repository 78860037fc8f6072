"""What a transaction in Postgres has to change in etcd as well: revocations, and names of objects that are gone.

It is written down in the same transaction and carried out right after it, by the request itself or, when etcd was away
or the process died, by whoever owns the service next. Until it is done the request is not answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.clock import SECOND, Clock
from mulligan.iam.database import Database
from mulligan.iam.tables import removed_names, revocations
from mulligan.iam.tokens import ACCESS_LIFETIME_US
from mulligan.meta.names import NameStore
from mulligan.stores import keys
from mulligan.stores.etcd import EtcdClient

# Kinds of revocations.
ACCOUNT: Final = "account"
PROJECT: Final = "project"
SESSION: Final = "session"
TOKEN: Final = "token"

# Gateways may be late by this much in seeing that a token has expired.
MARGIN_US: Final = 60 * SECOND
LEASE_S: Final = (ACCESS_LIFETIME_US + MARGIN_US) // SECOND
_BATCH: Final = 500


class Outbox:
    """Revocations and removed names on their way to etcd."""

    def __init__(self, database: Database, etcd: EtcdClient, names: NameStore, clock: Clock) -> None:
        self._database = database
        self._etcd = etcd
        self._names = names
        self._clock = clock

    async def revoke(self, connection: AsyncConnection, kind: str, identifier: str, latest_us: int) -> None:
        """Writes down that all access tokens of this, issued up to now, no longer count.

        `latest_us`: when the latest was issued; the clock of the host that did may be ahead of this one. To be called
        while nobody can issue another: with the row locked that issuing holds.
        """
        await self.revoke_before(connection, kind, identifier, max(self._clock(), latest_us))

    async def revoke_before(self, connection: AsyncConnection, kind: str, identifier: str, before_us: int) -> None:
        """Writes down that access tokens of this, issued up to that instant, no longer count."""
        values = {
            "kind": kind,
            "id": identifier,
            "before_us": before_us,
            "expire_us": max(before_us, self._clock()) + ACCESS_LIFETIME_US + MARGIN_US,
            "published": False,
        }
        query = insert(revocations).values(values)
        changes = {
            name: func.greatest(revocations.c[name], query.excluded[name]) for name in ("before_us", "expire_us")
        }
        query = query.on_conflict_do_update(index_elements=["kind", "id"], set_={**changes, "published": False})
        await connection.execute(query)

    async def forget_names(self, connection: AsyncConnection, ids: Iterable[str]) -> None:
        """Writes down that these objects are gone, so that their names become free."""
        rows = [{"id": identifier} for identifier in ids]
        if rows:
            await connection.execute(insert(removed_names).on_conflict_do_nothing(), rows)

    async def flush(self) -> None:
        """Carries out all that is written down; raises Unavailable when etcd or Postgres does not answer."""
        while await self._flush_revocations() == _BATCH:
            pass
        while await self._flush_names() == _BATCH:
            pass

    async def publish_again(self) -> None:
        """Makes flush() publish every revocation that still matters: etcd may have lost them."""
        async with self._database.write() as connection:
            query = update(revocations).where(revocations.c.expire_us > self._clock())
            await connection.execute(query.values(published=False))
        await self.flush()

    async def purge(self, connection: AsyncConnection) -> None:
        """Drops revocations whose tokens are gone anyway."""
        gone = and_(revocations.c.published, revocations.c.expire_us <= self._clock())
        await connection.execute(delete(revocations).where(gone))

    async def _flush_revocations(self) -> int:
        query = select(revocations).where(~revocations.c.published)
        async with self._database.write() as connection:
            # The lock lasts until the entries are in etcd, so that a later instant is never overwritten by an earlier.
            rows = (await connection.execute(query.limit(_BATCH).with_for_update())).all()
            if rows:
                await self._put(rows)
                done = tuple_(revocations.c.kind, revocations.c.id).in_([(row.kind, row.id) for row in rows])
                await connection.execute(update(revocations).where(done).values(published=True))
        return len(rows)

    async def _put(self, rows: Sequence[Row[Any]]) -> None:
        lease = await self._etcd.lease.grant(LEASE_S)
        for start in range(0, len(rows), 100):
            operations = [
                self._etcd.kv.txn_op_put(
                    keys.iam_revoked(row.kind, row.id), json.dumps({"before_us": row.before_us}), lease=lease.ID
                )
                for row in rows[start : start + 100]
            ]
            await self._etcd.kv.txn([], operations)

    async def _flush_names(self) -> int:
        async with self._database.read() as connection:
            ids = list((await connection.execute(select(removed_names.c.id).limit(_BATCH))).scalars())
        if ids:
            await self._names.remove_many(ids)
            async with self._database.write() as connection:
                await connection.execute(delete(removed_names).where(removed_names.c.id.in_(ids)))
        return len(ids)


async def latest_revocation(connection: AsyncConnection, account: str, project: str) -> int:
    """The instant up to which tokens of this account, or in this project, were revoked; 0 if they were not."""
    of_account = and_(revocations.c.kind == ACCOUNT, revocations.c.id == account)
    of_project = and_(revocations.c.kind == PROJECT, revocations.c.id == project) if project else None
    condition = of_account if of_project is None else or_(of_account, of_project)
    return (await connection.execute(select(func.max(revocations.c.before_us)).where(condition))).scalar() or 0
