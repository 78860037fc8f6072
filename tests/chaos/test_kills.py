"""kill -9 of any part in the middle of a provision: it ends well all the same, once, and nothing is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from cluster.bootstrap import bring_up
from cluster.processes import ProcessId, kill_all, marked
from mulligan.control.model import POWER_ON, WAIT_PHONE_HOME
from tests.chaos.field import HEALTHY_S, MACHINE_ACTIVE, SUCCEEDED, Field, Life, since
from tests.chaos.victims import VICTIMS, Victim
from tests.waiting import eventually

# Late answers keep a machine's BMC steps going for a second or so.
SLOW_BMC_S = 0.05
# What of the executor was lost may have been doing a command that is then given again.
DRIVERS = frozenset({"executor", "ipmi worker", "raylet"})

# The other machine waits to phone home while this one is powered on.
CASES = [
    ("resource actor", WAIT_PHONE_HOME),
    ("control actor", POWER_ON),
    ("results actor", POWER_ON),
    ("results actor", WAIT_PHONE_HOME),
    ("executor", POWER_ON),
    ("ipmi worker", POWER_ON),
    ("control gateway", WAIT_PHONE_HOME),
    ("boot gateway", WAIT_PHONE_HOME),
    ("nats", POWER_ON),
    ("postgres", POWER_ON),
    ("etcd", POWER_ON),
    ("supervisor", WAIT_PHONE_HOME),
    ("mulligan-control", WAIT_PHONE_HOME),
    ("mulligan-executor", POWER_ON),
    ("gcs", POWER_ON),
    ("raylet", POWER_ON),
]


# A busy machine takes its time, the first test that of the bootstrap.
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "step"), CASES, ids=[f"{name.replace(' ', '-')}-in-{step}" for name, step in CASES])
async def test_a_provision_outlives(field: Field, name: str, step: str) -> None:
    victim = VICTIMS[name]
    caught = await field.begin(bmc_delay_s=SLOW_BMC_S if step == POWER_ON else 0.0)
    other = await field.begin()
    await field.reach(caught, step)
    component = VICTIMS["mulligan-control"].find(field.system)
    killed = await victim.kill(field.system)
    begun, begun_us = time.monotonic(), time.time_ns() // 1000
    recovering = asyncio.create_task(recovered(field, victim, killed, begun))
    ends = await asyncio.gather(field.ended(caught.operation), field.ended(other.operation))
    worked_s = since(begun)
    assert [end.state for end in ends] == [SUCCEEDED] * 2, ends
    assert ends[0].done_time.ToMicroseconds() > begun_us, "it was over before the kill"
    field.recoveries[f"{name} in {step}"] = (worked_s, await recovering)
    # Without its raylet a component hears no more of actors and has to join again.
    assert (VICTIMS["mulligan-control"].find(field.system) != component) is (name in ("raylet", "mulligan-control"))
    await check_driven_once(field, caught, most=2 if name in DRIVERS and step == POWER_ON else 1)
    await check_driven_once(field, other, most=2 if name in DRIVERS else 1)
    await field.park.set_faults(caught.number, delay_s=0.0)
    await asyncio.gather(field.retire(caught), field.retire(other))
    await field.check_books()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["resource actor", "results actor", "postgres"])
async def test_a_decommission_outlives(field: Field, name: str) -> None:
    life = await field.begin()
    assert (await field.ended(life.operation)).state == SUCCEEDED
    operation = await field.decommission(life)
    begun = time.monotonic()
    killed = await VICTIMS[name].kill(field.system)
    recovering = asyncio.create_task(recovered(field, VICTIMS[name], killed, begun))
    await field.retired(life, operation)
    field.recoveries[f"{name} in decommission"] = (since(begun), await recovering)
    await field.check_books()


@pytest.mark.timeout(400)
async def test_a_provision_outlives_a_power_cut(field: Field) -> None:
    caught = await field.begin(bmc_delay_s=SLOW_BMC_S)
    other = await field.begin()
    await field.reach(caught, POWER_ON)
    # First, or it would begin to start the others again; as Ray does, until its turn comes.
    await VICTIMS["supervisor"].kill(field.system)
    await eventually(lambda: _nothing_left(field), HEALTHY_S)
    begun = time.monotonic()
    await bring_up(field.system.settings)
    up_s = since(begun)
    for life in (caught, other):
        end = await field.ended(life.operation)
        assert end.state == SUCCEEDED, end.error
        await check_driven_once(field, life, most=2)
    field.recoveries["everything"] = (since(begun), up_s)
    await field.healthy()
    await asyncio.gather(field.retire(caught), field.retire(other))
    await field.check_books()


async def _nothing_left(field: Field) -> bool:
    left = list(marked(str(field.system.settings.state_dir)))
    await kill_all(left)
    return not left


async def recovered(field: Field, victim: Victim, killed: ProcessId, begun: float) -> float:
    """Seconds until there was another in its place and everything was healthy."""
    await victim.back(field.system, killed)
    await field.healthy()
    return since(begun)


async def check_driven_once(field: Field, life: Life, most: int) -> None:
    """The machine is on because it was powered on and booted once."""
    machine = await field.machine(life)
    assert machine.state == MACHINE_ACTIVE, machine.state_reason
    assert machine.status.power == "on"
    shown = await field.park.show(life.number)
    assert (shown["power"], shown["stage"]) == ("on", "home")
    assert await field.counted(life, "boots") == await field.counted(life, "reports") == 1
    assert 1 <= await field.counted(life, "power_commands") <= most
