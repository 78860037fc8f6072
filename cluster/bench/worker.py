"""One process of claim load: reads its job as JSON from standard input, prints its result as JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass

import uvloop

from cluster.bench.echo import load, run_callers
from mulligan.api.resource.v1.claim_pb2 import ClaimSpec, RequestGroup, ResourceConstraint
from mulligan.api.resource.v1.request_response_pb2 import CreateClaimRequest
from mulligan.client import Client
from mulligan.errors import MulliganError, ResourceExhausted
from mulligan.ids import new_id

MIB = 1 << 20
REFUSED = ("NO_CAPACITY", "QUOTA_EXCEEDED")
# Claims and echoes take turns, so that a machine whose speed drifts does so for both.
ROUNDS = 3


@dataclass(frozen=True)
class Job:
    """What one process does: claims and echoes in turn, both with the same callers."""

    context: str
    region: str
    project: str
    callers: int
    seconds: float
    echo_port: int = 0


@dataclass(frozen=True)
class Result:
    """What came of it; durations are in milliseconds."""

    claims_per_second: float
    echo_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    refused: int
    first_error: str


def smallest_machine(project: str) -> ClaimSpec:
    """One core, 64 MiB, 10 GB: three resources of one provider."""
    amounts = {"cpu.shared": 1, "memory": 64 * MIB, "storage.block": 10_000_000_000}
    resources = [ResourceConstraint(resource_type=code, min=amount, max=amount) for code, amount in amounts.items()]
    return ClaimSpec(project=project, groups=[RequestGroup(resources=resources)])


async def run(job: Job) -> Result:
    """Claims for `seconds` in all, with a third of that as warm-up, and echoes for half of it."""
    async with Client.connect(context=job.context) as client:
        return await _measure(client, job)


async def _measure(client: Client, job: Job) -> Result:
    spec, outcomes, first_error = smallest_machine(job.project), Counter[str](), ""

    async def claim() -> None:
        nonlocal first_error
        try:
            await client.resource.create_claim(region=job.region, spec=spec, timeout_s=30)
            outcomes["ok"] += 1
        except ResourceExhausted as error:
            outcomes["refused" if error.reason in REFUSED else "errors"] += 1
            first_error = first_error or error.message
        except MulliganError as error:
            outcomes["errors"] += 1
            first_error = first_error or error.message

    await run_callers(job.callers, job.seconds / 3, claim)
    outcomes.clear()
    payload = CreateClaimRequest(request_id=new_id(), region=job.region, spec=spec).SerializeToString()
    durations: list[float] = []
    echoes: list[float] = []
    for _ in range(ROUNDS):
        durations += await run_callers(job.callers, job.seconds / ROUNDS, claim)
        echoes.append(await load(job.echo_port, job.callers, job.seconds / ROUNDS / 2, payload))
    durations.sort()
    return Result(
        claims_per_second=outcomes["ok"] / job.seconds,
        echo_per_second=sum(echoes) / ROUNDS,
        p50_ms=durations[len(durations) // 2] * 1000,
        p99_ms=durations[len(durations) * 99 // 100] * 1000,
        errors=outcomes["errors"],
        refused=outcomes["refused"],
        first_error=first_error,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Job(**json.load(sys.stdin)))))))
