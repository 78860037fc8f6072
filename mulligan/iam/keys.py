"""The keys that sign access tokens: the private part sealed in Postgres, the public part in etcd for the gateways."""

from __future__ import annotations

import json
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.clock import SECOND, Clock
from mulligan.errors import Unavailable
from mulligan.iam.database import Database, lock
from mulligan.iam.outbox import MARGIN_US
from mulligan.iam.tables import signing_keys
from mulligan.iam.tokens import ACCESS_LIFETIME_US, public_jwk, public_key_from_jwk
from mulligan.ids import new_id
from mulligan.secretbox import SecretBox
from mulligan.stores import keys as etcd_keys
from mulligan.stores.etcd import EtcdClient

# A new key signs this long after it was made, so that gateways know it before they see a token of it.
ACTIVATION_US: Final = SECOND

# A key is replaced by itself at this age.
MAX_AGE_US: Final = 30 * 86_400 * SECOND


class SigningKeys:
    """Makes, finds, publishes and retires signing keys."""

    def __init__(self, database: Database, etcd: EtcdClient, box: SecretBox, clock: Clock) -> None:
        self._database = database
        self._etcd = etcd
        self._box = box
        self._clock = clock
        self._opened: dict[str, Ed25519PrivateKey] = {}

    async def ensure(self) -> None:
        """Makes the first key if there is none, and publishes all public keys."""
        async with self._database.write() as connection:
            await lock(connection, "signing_keys")
            if not (await connection.execute(select(func.count()).select_from(signing_keys))).scalar():
                await self.add(connection, activation_us=0)
        await self.publish()

    async def add(self, connection: AsyncConnection, activation_us: int = ACTIVATION_US) -> tuple[str, int]:
        """Makes a key; returns its id and when it begins to sign.

        It is published first: one that signs unpublished would cut everybody off, one that is published and then not
        stored harms nobody. Raises Unavailable when etcd is away.
        """
        key_id, private = new_id(), Ed25519PrivateKey.generate()
        jwk = json.dumps(public_jwk(key_id, private.public_key()))
        await self._etcd.kv.put(etcd_keys.iam_key(key_id), jwk)
        active_us = self._clock() + activation_us
        values = {
            "id": key_id,
            "public_jwk": jwk,
            "sealed_private": self._box.seal(private.private_bytes_raw(), _context(key_id)),
            "active_us": active_us,
        }
        await connection.execute(insert(signing_keys).values(values))
        return key_id, active_us

    async def signing(self, connection: AsyncConnection) -> tuple[str, Ed25519PrivateKey]:
        """The key that signs now."""
        columns = select(signing_keys.c.id, signing_keys.c.sealed_private)
        usable = columns.where(signing_keys.c.sealed_private.is_not(None), signing_keys.c.active_us <= self._clock())
        newest = usable.order_by(signing_keys.c.active_us.desc(), signing_keys.c.id.desc()).limit(1)
        row = (await connection.execute(newest)).first()
        if row is None:
            raise Unavailable("no signing key is active yet; try again in a second", retry_after_s=1.0)
        if row.id not in self._opened:
            private = self._box.open(row.sealed_private, _context(row.id))
            self._opened = {row.id: Ed25519PrivateKey.from_private_bytes(private)}
        return row.id, self._opened[row.id]

    async def public(self) -> dict[str, dict[str, str]]:
        """The public keys, as JSON Web Keys by key id, of all tokens that may still be valid."""
        async with self._database.read() as connection:
            return await self._public(connection)

    async def verifying(self, connection: AsyncConnection) -> dict[str, Ed25519PublicKey]:
        """The same, ready to verify with."""
        return {
            key_id: public_key_from_jwk(json.dumps(jwk)) for key_id, jwk in (await self._public(connection)).items()
        }

    async def _public(self, connection: AsyncConnection) -> dict[str, dict[str, str]]:
        rows = await connection.execute(select(signing_keys.c.id, signing_keys.c.public_jwk).order_by("id"))
        return {row.id: json.loads(row.public_jwk) for row in rows}

    async def publish(self) -> None:
        """Puts the public keys where gateways watch for them, as far as they are not there."""
        for key_id, jwk in (await self.public()).items():
            key, value = etcd_keys.iam_key(key_id), json.dumps(jwk).encode()
            present = await self._etcd.kv.get(key)
            if not present.kvs or present.kvs[0].value != value:
                await self._etcd.kv.put(key, value)

    async def maintain(self) -> None:
        """Replaces a key that is too old, forgets the private part of those replaced, and drops what is out of use."""
        async with self._database.write() as connection:
            await lock(connection, "signing_keys")
            latest = (await connection.execute(select(func.max(signing_keys.c.active_us)))).scalar() or 0
            if latest + MAX_AGE_US <= self._clock():
                await self.add(connection)
            await self._retire(connection)
        await self.publish()
        await self._drop()

    async def _retire(self, connection: AsyncConnection) -> None:
        active = signing_keys.c.active_us <= self._clock()
        newest = (await connection.execute(select(func.max(signing_keys.c.active_us)).where(active))).scalar()
        if newest is not None:
            replaced = update(signing_keys).where(signing_keys.c.active_us < newest, signing_keys.c.retire_us.is_(None))
            retire_us = newest + ACCESS_LIFETIME_US + MARGIN_US
            await connection.execute(replaced.values(sealed_private=None, retire_us=retire_us))

    async def _drop(self) -> None:
        gone = signing_keys.c.retire_us <= self._clock()
        async with self._database.write() as connection:
            for key_id in (await connection.execute(select(signing_keys.c.id).where(gone))).scalars().all():
                await self._etcd.kv.delete(etcd_keys.iam_key(key_id))
                await connection.execute(delete(signing_keys).where(signing_keys.c.id == key_id))


def _context(key_id: str) -> str:
    return f"iam.signing_keys/{key_id}"
