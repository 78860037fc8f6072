"""A growing delay between logins that fail, for each account, and alike for accounts that there are not."""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.clock import SECOND, Clock
from mulligan.iam.errors import too_many_failures
from mulligan.iam.tables import login_failures
from mulligan.meta.model import slug_asked_for

# So many may fail before the first delay: people mistype.
FREE_FAILURES: Final = 5
# Delays double from one second up to this. Longer would let anybody lock anybody out.
MAX_DELAY_US: Final = 60 * SECOND
# After this without a failure it begins anew.
FORGET_US: Final = 3600 * SECOND


class Throttle:
    """Counts failures in a row in Postgres. While a delay lasts even the right secret is not looked at."""

    def __init__(self, pepper: bytes, clock: Clock) -> None:
        """`pepper` is the same for every owner of the service: the delays of no account end with its process."""
        self._pepper = pepper
        self._clock = clock

    def subject(self, account: str, typed: str) -> str:
        """Whom to count for: the account, or when there is none a hash of what was typed, which may be a secret.

        Spellings that would have the same slug count as one, as they do for an account that there is.
        """
        alike = slug_asked_for(typed) or typed.casefold()
        return account or hashlib.blake2b(alike.encode(), key=self._pepper, digest_size=16).hexdigest()

    async def check(self, connection: AsyncConnection, subject: str) -> None:
        """Raises ResourceExhausted (TOO_MANY_REQUESTS) while a delay lasts."""
        query = select(login_failures.c.blocked_until_us).where(login_failures.c.subject == subject)
        wait_us = ((await connection.execute(query)).scalar() or 0) - self._clock()
        if wait_us > 0:
            raise too_many_failures(wait_us)

    async def failed(self, connection: AsyncConnection, subject: str) -> None:
        """Counts a failure, which may begin a delay."""
        now = self._clock()
        forgotten = login_failures.c.last_us + FORGET_US <= now
        first = insert(login_failures).values(subject=subject, failures=1, blocked_until_us=0, last_us=now)
        again = {"failures": case((forgotten, 1), else_=login_failures.c.failures + 1), "last_us": now}
        counted = first.on_conflict_do_update(index_elements=["subject"], set_=again).returning(
            login_failures.c.failures
        )
        failures = (await connection.execute(counted)).scalar_one()
        blocked = update(login_failures).where(login_failures.c.subject == subject)
        await connection.execute(blocked.values(blocked_until_us=now + _delay_us(failures)))

    async def succeeded(self, connection: AsyncConnection, subject: str) -> None:
        """Begins anew."""
        await connection.execute(delete(login_failures).where(login_failures.c.subject == subject))

    async def purge(self, connection: AsyncConnection) -> None:
        """Drops what no longer counts."""
        await connection.execute(delete(login_failures).where(login_failures.c.last_us + FORGET_US <= self._clock()))


def _delay_us(failures: int) -> int:
    beyond = failures - FREE_FAILURES
    return 0 if beyond < 0 else min(SECOND << min(beyond, 16), MAX_DELAY_US)
