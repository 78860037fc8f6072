"""Waiting for a condition with a bound, in place of sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

POLL_S = 0.02


async def eventually(condition: Callable[[], Any | Awaitable[Any]], within_s: float = 10.0) -> Any:
    """The first true value of the condition, sync or async; fails the test when there is none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert loop.time() < deadline, f"not true within {within_s:g} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(POLL_S)
