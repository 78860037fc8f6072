"""`mulligan bench claims`: claims per second over gRPC, beside a bare echo of the same run, and no over-commitment."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace

from cluster.bench.worker import Job, Result
from mulligan.client import Client
from mulligan.config import Settings
from mulligan.errors import AlreadyExists, InternalError, InvalidArgument
from mulligan.inventory import Deployment, Layout, load_deployment, packaged_deployment
from mulligan.resource.audit import overcommitted
from mulligan.stores.addresses import Addresses
from mulligan.stores.postgres import connect_pool

MOST_NODES_PER_RACK = 40

Progress = Callable[[str], None]


async def bench_claims(
    settings: Settings, context: str, providers: int, callers: int, seconds: float, progress: Progress
) -> dict[str, float | int]:
    """Loads `providers` providers into a region of their own, then measures; answers the figures of the JSON line."""
    if providers < 1 or callers < 1 or seconds <= 0:
        raise InvalidArgument("--providers and --callers must be at least 1, and --seconds more than 0")
    async with Client.connect(context=context) as client:
        region = await load_region(client, providers, progress)
        project = await _project(client)
    progress(f"{callers} callers claim for {seconds:g} s")
    result = await _run_worker(Job(context, region, project, callers, seconds))
    progress("counting over-commitment in the database")
    pool = await connect_pool(Addresses.load(settings))
    async with pool.acquire() as connection:
        excess = await overcommitted(connection, since_us=0)
    await pool.close()
    if result.first_error:
        progress(f"first refusal or error: {result.first_error}")
    figures = {key: round(value, 3) for key, value in asdict(result).items() if key != "first_error"}
    return {**figures, "overcommitted": excess}


async def load_region(client: Client, providers: int, progress: Progress) -> str:
    """The region with the load's own providers; they are made once and used again."""
    deployment = _deployment(providers)
    [site] = deployment.layout.sites
    begun = time.monotonic()
    report = await load_deployment(client, deployment)
    progress(f"loaded {report.providers_made} providers into region {site} in {time.monotonic() - begun:.1f} s")
    return report.regions[site]


async def _project(client: Client) -> str:
    with suppress(AlreadyExists):
        await client.iam.create_project(name="bench")
    return await client.names.resolve("project", "bench")


def _deployment(providers: int) -> Deployment:
    shape = packaged_deployment("10k-shared")
    nodes = max(count for count in range(1, MOST_NODES_PER_RACK + 1) if providers % count == 0)
    layout = Layout((f"bench-{providers}",), rows_per_site=1, racks_per_row=providers // nodes, nodes_per_rack=nodes)
    return replace(shape, root="bench", layout=layout)


async def _run_worker(job: Job) -> Result:
    # In a session of its own, as the gateways are: the kernel shares the cores out among sessions.
    echo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cluster.bench.echo"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert echo.stdin
    assert echo.stdout
    try:
        port = int(await asyncio.wait_for(echo.stdout.readline(), 30))
        return await _finish(replace(job, echo_port=port), deadline_s=60 + job.seconds * 3)
    finally:
        echo.stdin.close()
        await asyncio.wait_for(echo.wait(), 30)


async def _finish(job: Job, deadline_s: float) -> Result:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cluster.bench.worker", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(worker.communicate(json.dumps(asdict(job)).encode()), deadline_s)
    except TimeoutError:
        worker.kill()
        raise InternalError(f"the load did not end within {deadline_s:g} s") from None
    if worker.returncode:
        raise InternalError(f"the load process failed with exit code {worker.returncode}; its message is above")
    return Result(**json.loads(output.splitlines()[-1]))
