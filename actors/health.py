"""What an actor tells about itself and about the dependencies that it uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# Seconds that one dependency may take to answer before it counts as down.
PROBE_DEADLINE_S = 2.0


# No slots: an instance pickled by another version then unpickles with the defaults of what that version lacks.
@dataclass(frozen=True)
class ComponentHealth:
    """One line of the status report."""

    # dependency, service, gateway, executor or queue.
    kind: str
    name: str
    healthy: bool
    # Why it is not healthy, or a figure worth showing when it is.
    detail: str = ""
    latency_ms: float = 0.0
    address: str = ""
    version: str = ""


async def probe(name: str, ask: Callable[[], Awaitable[object]], address: str = "") -> ComponentHealth:
    """Health of a dependency: healthy when `ask` returns within PROBE_DEADLINE_S, whatever it returns."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            await ask()
    except TimeoutError:
        return ComponentHealth("dependency", name, False, f"no answer within {PROBE_DEADLINE_S:g} s", address=address)
    except Exception as error:
        return ComponentHealth("dependency", name, False, f"{type(error).__name__}: {error}"[:200], address=address)
    return ComponentHealth("dependency", name, True, "", (time.perf_counter() - began) * 1000, address)


async def loop_lag_ms() -> float:
    """How late the event loop runs what is due now: the time that other work holds it."""
    began = time.perf_counter()
    await asyncio.sleep(0)
    return (time.perf_counter() - began) * 1000
