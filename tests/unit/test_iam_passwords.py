"""Hashing of secrets: slow on purpose, never on the event loop, the same for accounts that are not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from argon2 import extract_parameters

from mulligan.errors import ResourceExhausted
from mulligan.iam import passwords
from mulligan.iam.passwords import Passwords, new_secret


@pytest.fixture
async def hashing() -> AsyncIterator[Passwords]:
    made = Passwords(workers=1)
    yield made
    made.close()


async def test_the_right_secret_and_no_other(hashing: Passwords) -> None:
    stored = await hashing.hash("correct horse battery")
    assert await hashing.verify(stored, "correct horse battery")
    assert not await hashing.verify(stored, "correct horse batterz")
    assert not await hashing.verify(None, "correct horse battery")
    assert not await hashing.verify("not a hash", "correct horse battery")


async def test_parameters_are_those_of_rfc_9106(hashing: Passwords) -> None:
    parameters = extract_parameters(await hashing.hash("x" * 12))
    assert (parameters.type.name, parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (
        "ID",
        3,
        65_536,
        4,
    )


async def test_who_is_not_there_takes_as_long(hashing: Passwords) -> None:
    stored = await hashing.hash("correct horse battery")

    async def work(hashed: str | None) -> float:
        """CPU seconds of all threads, which other processes do not disturb as they do the time on the wall."""
        began = time.process_time()
        await hashing.verify(hashed, "wrong")
        return time.process_time() - began

    there, absent = [min([await work(hashed) for _ in range(2)]) for hashed in (stored, None)]
    assert min(there, absent) > 0.01
    assert max(there, absent) < 2 * min(there, absent)


async def test_the_loop_runs_on_meanwhile(hashing: Passwords) -> None:
    work = asyncio.ensure_future(hashing.hash("correct horse battery"))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100


async def test_more_than_can_be_checked_in_time_is_refused(hashing: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 2)
    results = await asyncio.gather(*(hashing.verify(None, "x") for _ in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [bool, bool, ResourceExhausted, ResourceExhausted]
    assert not await hashing.verify(None, "x")


def test_new_secrets_have_256_bits() -> None:
    assert len(new_secret()) == 43
    assert new_secret() != new_secret()
