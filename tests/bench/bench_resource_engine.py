"""Claims per second of the resource engine inside one process, on a real Postgres, without gateways and Ray.

    .venv/bin/python -m tests.bench.bench_resource_engine [--providers 10000] [--batch 64] [--seconds 5] [--profile]

Prints one JSON line for each measurement: claims a second, CPU of this process and of Postgres for each claim, and
how long a single claim takes. Two batches are in flight, as gateways send them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import uvloop

from mulligan.api.resource.v1 import claim_pb2
from mulligan.api.resource.v1 import request_response_pb2 as pb
from mulligan.dispatch import OK
from mulligan.ids import new_id
from mulligan.resource.audit import overcommitted
from mulligan.stores import etcd as etcd_store
from tests.resource_parts import Shard, running_shard, spec_of
from tests.stores import running_stores

# More than one core can do.
MOST_PER_SECOND = 16_000


async def main(options: argparse.Namespace) -> None:
    """Measures on stores of its own."""
    with tempfile.TemporaryDirectory(prefix="mulligan-bench-") as folder:
        async with running_stores(Path(folder)) as addresses:
            etcd = await etcd_store.connect(addresses)
            async with running_shard(addresses, etcd) as shard:
                began = time.perf_counter()
                await shard.load_racks(options.providers // 20)
                show(loaded=options.providers, seconds=round(time.perf_counter() - began, 2))
                gc.collect()
                gc.freeze()  # as the actor does
                gc.set_threshold(20_000, 20, 50)
                await measure_all(shard, options)
            await etcd.close()


async def measure_all(shard: Shard, options: argparse.Namespace) -> None:
    """The batches of each strategy, the single claims, and that nothing is over-committed."""
    for strategy in (claim_pb2.STRATEGY_PACK, claim_pb2.STRATEGY_SPREAD):
        await measure_batches(shard, options, strategy)
    await measure_single(shard)
    began = time.perf_counter()
    async with shard.pool.acquire() as connection:
        show(overcommitted=await overcommitted(connection))
    again = await shard.restarted()
    show(rebuilt_seconds=round(time.perf_counter() - began, 2))
    await again.service.close()


async def measure_batches(shard: Shard, options: argparse.Namespace, strategy: claim_pb2.Strategy) -> None:
    """Claims in batches, two of them in flight. Their making is not what is measured."""
    prepared = batches(shard, strategy, options.batch, int(MOST_PER_SECOND * options.seconds))
    await send(shard, prepared[:20], time.perf_counter() + 60)
    waiting = iter(prepared[20:])
    profile = cProfile.Profile() if options.profile else None
    own, server = own_cpu(), postgres_cpu()
    began = time.perf_counter()
    if profile:
        profile.enable()
    until = began + options.seconds
    counts = await asyncio.gather(*(send(shard, waiting, until) for _ in range(2)))
    if profile:
        profile.disable()
    seconds, claims = time.perf_counter() - began, sum(counts)
    show(
        strategy=claim_pb2.Strategy.Name(strategy),
        batch=options.batch,
        claims=claims,
        per_second=round(claims / seconds),
        engine_cpu_us=round((own_cpu() - own) / claims * 1e6, 1),
        postgres_cpu_us=round((postgres_cpu() - server) / claims * 1e6, 1),
        transactions=shard.service.core.memory.writer.commits,
    )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def batches(shard: Shard, strategy: claim_pb2.Strategy, size: int, claims: int) -> list[list[bytes]]:
    """As many batches as can be served."""
    template = spec_of()
    template.strategy = strategy
    return [[request(shard, template) for _ in range(size)] for _ in range(claims // size)]


async def send(shard: Shard, waiting: Iterable[list[bytes]], until: float) -> int:
    """Sends batch after batch while there is time; the number of claims that were made."""
    made = 0
    for batch in waiting:
        replies = await asyncio.gather(*(shard.table.call("CreateClaim", shard.tenant, each) for each in batch))
        assert all(code == OK for code, _ in replies), "a claim was refused: load more providers"
        made += len(batch)
        if time.perf_counter() >= until:
            break
    return made


def request(shard: Shard, spec: claim_pb2.ClaimSpec) -> bytes:
    """A claim as it comes from a gateway."""
    return pb.CreateClaimRequest(request_id=new_id(), region=shard.region, spec=spec).SerializeToString()


async def measure_single(shard: Shard, count: int = 500) -> None:
    """One claim after the other."""
    times = []
    for _ in range(count):
        payload = request(shard, spec_of())
        began = time.perf_counter()
        code, _ = await shard.table.call("CreateClaim", shard.tenant, payload)
        times.append(time.perf_counter() - began)
        assert code == OK
    times.sort()
    show(single_p50_ms=round(times[count // 2] * 1e3, 2), single_p99_ms=round(times[count * 99 // 100] * 1e3, 2))


def own_cpu() -> float:
    """Seconds of CPU of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def postgres_cpu() -> float:
    """Seconds of CPU of the Postgres that this process started."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            if "postgres" in child.name():
                total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def show(**figures: Any) -> None:
    """One line of figures."""
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--providers", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--profile", action="store_true")
    uvloop.run(main(parser.parse_args()))
