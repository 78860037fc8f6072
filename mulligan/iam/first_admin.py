"""The account that everything begins with, from the file that bootstrap wrote."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from mulligan.errors import FailedPrecondition
from mulligan.iam import store
from mulligan.iam.database import lock
from mulligan.iam.model import USER, Account, Assignment
from mulligan.iam.parts import Parts
from mulligan.ids import new_id
from mulligan.meta.model import ACCOUNT
from mulligan.stores.postgres import translate_errors

log = logging.getLogger(__name__)


async def create_first_admin(parts: Parts, path: Path) -> bool:
    """Makes the account in `path`, {"account": name, "secret": …}, with the role admin in the system.

    Only when there is no account at all, however many do this at once. Returns whether it did.
    """
    given = await asyncio.to_thread(_read, path)
    if given is None:
        return False
    async with parts.database.read() as connection:
        if await store.count_accounts(connection):
            return False
    name, secret = given
    account = Account(new_id(), USER, True, await parts.passwords.hash(secret), parts.clock())
    async with parts.database.write() as connection:
        await lock(connection, "first_admin")
        if await store.count_accounts(connection):
            return False
        # With no account in Postgres a name in etcd is a relic of a database that is gone.
        relic = await parts.names.resolve(ACCOUNT, "", name)
        if relic:
            await parts.names.remove(relic)
        async with parts.names.registering(ACCOUNT, "", name, account.id):
            with translate_errors():
                await store.insert_account(connection, account)
                role = Assignment(new_id(), account.id, "admin", "", "", parts.clock())
                await store.insert_assignment(connection, role)
                await connection.commit()
    log.info("made the first account=%s", account.id)
    return True


def _read(path: Path) -> tuple[str, str] | None:
    try:
        given = json.loads(path.read_text())
        return str(given["account"]), str(given["secret"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise FailedPrecondition(f'{path} must be JSON with "account" and "secret"; mend or remove it') from None
