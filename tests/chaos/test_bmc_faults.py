"""BMCs and machines that do wrong: the operation fails with the reason, the claim is kept, a repair suffices."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from mulligan.api.control.v1.operation_pb2 import Operation
from mulligan.api.control.v1.request_response_pb2 import ExecutorSettings
from mulligan.control.model import POWER_ON, READ_POWER, WAIT_PHONE_HOME
from tests.chaos.field import BOOT_S, FAILED, MACHINE_ACTIVE, MACHINE_FAILED, SUCCEEDED, Field, Life

pytestmark = pytest.mark.timeout(400)

# What is broken, why the operation fails then, and where.
FAULTS = {
    "unreachable": ("BMC_UNREACHABLE", READ_POWER),
    "wrong_password": ("BMC_REFUSED_CREDENTIALS", READ_POWER),
    "lying_power": ("BMC_STATE_NOT_REACHED", POWER_ON),
    "never_phones_home": ("PHONE_HOME_MISSING", WAIT_PHONE_HOME),
}
# Executors that give up soon; they become patient again by themselves, should this process be killed.
SHORT = ExecutorSettings(bmc_state_seconds=5, phone_home_seconds=int(BOOT_S) + 5, step_attempts=2)
MASK = FieldMask(paths=["bmc_state_seconds", "phone_home_seconds", "step_attempts"])
EXPIRY = datetime.timedelta(minutes=5)


@pytest.fixture(scope="module")
async def broken(field: Field) -> dict[str, tuple[Life, Operation]]:
    """A provision with each of the faults, all at the same time, and how it ended."""

    async def provision(fault: str) -> tuple[Life, Operation]:
        claim = await field.claim()
        number = field.numbers[claim.allocations[0].provider]
        life = await field.provision(claim.id, number, **{fault: True})
        return life, await field.ended(life.operation)

    configure = field.operator.control.executor_configure
    former = (await configure()).settings
    await configure(settings=SHORT, update_mask=MASK, expires_after=EXPIRY)
    ends = await asyncio.gather(*(provision(fault) for fault in FAULTS))
    await configure(settings=former, update_mask=MASK)
    return dict(zip(FAULTS, ends, strict=True))


@pytest.fixture(scope="module")
async def stories(field: Field, broken: dict[str, tuple[Life, Operation]]) -> dict[str, asyncio.Task[None]]:
    """What follows for each of them, all at the same time too."""
    return {fault: asyncio.create_task(check_story(field, fault, *broken[fault])) for fault in FAULTS}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_machine_fails_with_the_reason_and_is_provisioned_once_mended(
    stories: dict[str, asyncio.Task[None]], fault: str
) -> None:
    await stories[fault]


async def check_story(field: Field, fault: str, life: Life, operation: Operation) -> None:
    """It says what is wrong and keeps its claim; mended it is provisioned again, and decommissioned."""
    reason, step = FAULTS[fault]
    assert operation.state == FAILED
    assert (operation.error.reason, operation.error.step) == (reason, step), operation.error
    machine = await field.machine(life)
    assert machine.state == MACHINE_FAILED
    assert operation.error.message in machine.state_reason
    assert "provision it again" in machine.state_reason
    assert field.park.bmcs[life.number].host in machine.state_reason or step == WAIT_PHONE_HOME
    await field.check_books()

    again = await field.provision(life.claim, life.number, **{fault: False})
    assert again.machine == life.machine
    ended = await field.ended(again.operation)
    assert ended.state == SUCCEEDED, ended.error
    assert (await field.machine(again)).state == MACHINE_ACTIVE
    assert (await field.park.show(life.number))["stage"] == "home"
    await field.retire(again)
    await field.check_books()
