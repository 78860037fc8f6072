"""`make bench-claims`: a system of its own, measured from bootstrap to claims; one JSON line for each figure."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psutil

from cluster.bench.claims import bench_claims, load_region
from cluster.processes import marked
from mulligan.client import Client
from tests.system import System, running_system

PROVIDERS = 10_000
MIB = 1 << 20
SECONDS = 10.0


def tell(figure: str, value: float) -> None:
    print(json.dumps({"figure": figure, "value": round(value, 3)}), flush=True)


def note(text: str) -> None:
    print(text, file=sys.stderr)


def resident_mib(system: System) -> float:
    """Memory of all processes of the system, shared pages divided among those who share them (PSS)."""
    pids = [process.pid for process in marked(str(system.settings.state_dir))]
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / MIB


async def main() -> None:
    begun = time.monotonic()
    async with running_system() as system:
        tell("bootstrap_s", time.monotonic() - begun)
        tell("idle_pss_mib", resident_mib(system))
        begun = time.monotonic()
        async with Client.connect(context="local") as client:
            await load_region(client, PROVIDERS, note)
        tell("load_10k_s", time.monotonic() - begun)
        for callers in (64, 16, 1):
            figures = await bench_claims(system.settings, "local", PROVIDERS, callers, SECONDS, note)
            for figure, value in figures.items():
                tell(f"{figure}_{callers}_callers", value)
        tell("loaded_pss_mib", resident_mib(system))


if __name__ == "__main__":
    asyncio.run(main())
