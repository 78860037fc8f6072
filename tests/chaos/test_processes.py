"""kill -9 of what serves names and identity, of all gateways, of all of Ray, of the supervisor: nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from cluster.bootstrap import bring_up
from cluster.child import ChildState
from cluster.down import bring_down
from cluster.processes import ProcessId, marked
from cluster.status import host_status, supervisor_of
from mulligan.errors import MulliganError
from mulligan.ids import new_id
from tests.chaos.field import Field
from tests.system import System
from tests.waiting import eventually

# Seconds until everything is healthy again. Ray starts a dozen actors anew when its node dies.
RECOVERY_S = 90.0
CALL_S = 20.0


@pytest.fixture
def victim(field: Field) -> System:
    """A system whose parts may be killed."""
    return field.system


def child(name: str) -> Callable[[System], list[int]]:
    """A child of the supervisor."""
    return lambda system: [ChildState.read(system.places, name).pid]


def shown_as(text: str) -> Callable[[System], list[int]]:
    """Processes of the system whose command line begins with, or whose program is, the text."""

    def find(system: System) -> list[int]:
        found = []
        for each in marked(str(system.settings.state_dir)):
            process = psutil.Process(each.pid)
            if process.name() == text or " ".join(process.cmdline()).startswith(text):
                found.append(each.pid)
        return found

    return find


VICTIMS = {
    "iam component": child("iam"),
    "iam actor": shown_as("ray::IamActor"),
    "meta actor": shown_as("ray::MetaActor"),
    "all gateways": shown_as("ray::GatewayActor"),
    "everything of Ray": shown_as("ray"),
}


@pytest.mark.parametrize("name", VICTIMS)
async def test_kill(victim: System, name: str) -> None:
    region = f"region-{new_id()}"
    async with victim.client() as client:
        made = (await client.meta.create_region(name=region)).region.id
        pids = VICTIMS[name](victim)
        assert pids
        assert 0 not in pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: _whole(victim, pids), within_s=RECOVERY_S)
        assert (await client.meta.get_region(id=made, timeout_s=CALL_S)).region.id == made
        again = await client.meta.create_region(name=f"{region}-after", timeout_s=CALL_S)
        assert again.region.id


async def test_a_killed_supervisor_leaves_a_working_system_that_the_next_one_adopts(victim: System) -> None:
    before = {each.name: each.pid for each in host_status(victim.settings).children}
    supervisor = supervisor_of(victim.places)
    assert supervisor is not None
    supervisor.send(signal.SIGKILL)
    await eventually(lambda: not supervisor.alive())
    async with victim.client() as client:
        assert (await client.catalog.get_status(timeout_s=CALL_S)).healthy
    assert not host_status(victim.settings).supervised
    await bring_up(victim.settings)
    assert host_status(victim.settings).supervised
    assert {each.name: each.pid for each in host_status(victim.settings).children} == before


async def test_down_ends_what_a_killed_supervisor_left(victim: System) -> None:
    supervisor = supervisor_of(victim.places)
    assert supervisor is not None
    supervisor.send(signal.SIGKILL)
    await eventually(lambda: not supervisor.alive())
    servers = [ProcessId.of(each.pid) for each in host_status(victim.settings).children]
    assert await bring_down(victim.settings)
    assert not any(server.alive() for server in servers if server)
    assert not list(marked(str(victim.settings.state_dir)))
    assert not await bring_down(victim.settings)
    # Started again from what is on disk.
    await bring_up(victim.settings)


async def _whole(system: System, killed: list[int]) -> bool:
    """Everything is healthy, and what was killed is gone."""
    if any(ProcessId.of(pid) for pid in killed) or not host_status(system.settings).ready:
        return False
    try:
        async with system.client() as client:
            report = await client.catalog.get_status(timeout_s=CALL_S)
    except MulliganError:
        return False
    kinds = {part.name.partition("/")[0] for part in report.components}
    expected = {"iam", "meta", "resource", "control", "results", "executor", "boot", "gateway-control"}
    return report.healthy and expected <= kinds
