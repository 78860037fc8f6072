"""Passwords and secrets: argon2id, in a small pool of threads, never on the event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from mulligan.errors import ResourceExhausted

T = TypeVar("T")

# RFC 9106, second recommended option: about 95 ms on a machine with two cores.
TIME_COST: Final = 3
MEMORY_KIB: Final = 64 * 1024
LANES: Final = 4

# Each waiting one takes about 0.1 s of all cores: more than this could not be answered in time anyway.
MAX_WAITING: Final = 64


class Passwords:
    """Hashes and verifies secrets; each takes MEMORY_KIB and about 0.1 s."""

    def __init__(self, workers: int = 0) -> None:
        """`workers` hash at once; 0: half the cores, since each uses several."""
        self._hasher = PasswordHasher(TIME_COST, MEMORY_KIB, LANES, type=Type.ID)
        count = workers or max(1, (os.cpu_count() or 2) // 2)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="argon2")
        self._waiting = 0
        # What an account that is not there is compared with, so that it takes the same time.
        self._decoy = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, secret: str) -> str:
        """The hash to store, with its own salt and parameters. Raises ResourceExhausted when too many wait."""
        return await self._in_thread(lambda: self._hasher.hash(secret))

    async def verify(self, stored: str | None, secret: str) -> bool:
        """Whether the secret is the one that was hashed; None takes as long and is False."""
        return await self._in_thread(lambda: self._matches(stored, secret))

    def close(self) -> None:
        """Lets the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str | None, secret: str) -> bool:
        try:
            return self._hasher.verify(self._decoy if stored is None else stored, secret) and stored is not None
        except (Argon2Error, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise ResourceExhausted(
                "too many passwords are being checked at once; try again in some seconds",
                reason="TOO_MANY_REQUESTS",
                retry_after_s=5.0,
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def new_secret() -> str:
    """A secret of 256 random bits for an application credential."""
    return secrets.token_urlsafe(32)
