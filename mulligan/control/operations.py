"""Begins operations: checks, machine, operation, steps and the answer, all in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from mulligan.api.control.v1.machine_pb2 import MachineConfig
from mulligan.api.control.v1.request_response_pb2 import (
    DecommissionRequest,
    DecommissionResponse,
    ProvisionRequest,
    ProvisionResponse,
)
from mulligan.api.resource.v1 import claim_pb2
from mulligan.caller import Caller
from mulligan.clock import SECOND, from_timestamp
from mulligan.control import errors, store
from mulligan.control.model import (
    ACTIVE,
    DECOMMISSION,
    DECOMMISSIONING,
    FAILED,
    OPERATION_FAILED,
    PLANS,
    PROVISION,
    PROVISIONING,
    QUEUED,
    RELEASE_CLAIM,
    STEP_WAITING,
    Bmc,
    Machine,
    Operation,
    Step,
)
from mulligan.control.policy import check_can_decommission, check_may_force, sees
from mulligan.control.requests import RequestLog
from mulligan.errors import Aborted
from mulligan.ids import new_id
from mulligan.meta.model import MACHINE
from mulligan.meta.names import NameStore
from mulligan.requests import derived_id

# How long an operation may wait for an executor before the sweeper looks after it.
QUEUE_DEADLINE_S: Final = 300

_WAITING = "Waiting for an executor to take the task"


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that is in Postgres and not yet on the queue."""

    operation: Operation
    response: ProvisionResponse | DecommissionResponse


class Operations:
    """Writes new operations. What meets another request of its kind raises asyncpg.UniqueViolationError."""

    def __init__(self, database: store.Database, requests: RequestLog, names: NameStore) -> None:
        self._database = database
        self._requests = requests
        self._names = names

    async def provision(
        self, request: ProvisionRequest, caller: Caller, claim: claim_pb2.Claim, bmc: Bmc, now_us: int
    ) -> Begun:
        """A new machine for the claim, or its FAILED one again.

        Raises AlreadyExists when the claim has a machine that did not fail, FailedPrecondition (IN_USE) when the
        provider has one of another claim, NAME_TAKEN.
        """
        async with self._database.reading() as connection:
            former = await store.find_machine_of_claim(connection, claim.id)
        if former is not None and former.state != FAILED:
            raise errors.claim_has_machine(former)
        machine_id = former.id if former else derived_id(caller.account, caller.project, request.request_id)
        operation = _new_operation(PROVISION, claim.project, machine_id, bmc.region, now_us, PLANS[PROVISION])
        wanted = _new_machine(machine_id, claim, bmc, request.config, operation.id, now_us)
        async with self._named(wanted, request.name, former is not None):
            return await self._store_provision(request, caller, wanted, operation, now_us)

    @asynccontextmanager
    async def _named(self, machine: Machine, name: str, known: bool) -> AsyncIterator[None]:
        """Holds the machine's name while it is stored; a machine that is known may get its first name only."""
        if not known:
            async with self._names.registering(
                MACHINE, machine.project, name, machine.id, machine.project, machine.region
            ):
                yield
            return
        found = await self._names.find(machine.id) if name else None
        if found is not None and found.object.name != name:
            if found.object.name:
                raise errors.machine_has_name(machine.id, found.object.name)
            await self._names.rename(found, name)
        yield

    async def _store_provision(
        self, request: ProvisionRequest, caller: Caller, wanted: Machine, operation: Operation, now_us: int
    ) -> Begun:
        async with self._database.writing() as connection:
            former = await store.find_machine_of_claim(connection, wanted.claim)
            if former is None:
                await _refuse_used_provider(connection, wanted.provider)
                machine = wanted
                await store.insert_machine(connection, machine)
            else:
                machine = await _provision_again(connection, former.id, wanted)
            await store.insert_operation(connection, operation)
            await store.record_event(connection, machine, now_us)
            response = ProvisionResponse(operation=operation.to_message(), machine=machine.to_message())
            await self._requests.save(connection, caller, request.request_id, request, response, now_us)
        return Begun(operation, response)

    async def decommission(
        self, request: DecommissionRequest, caller: Caller, reach: store.Reach, now_us: int
    ) -> Begun:
        """Takes a machine out of use; raises FailedPrecondition (WRONG_STATE) when its state does not allow it."""
        async with self._database.writing() as connection:
            machine = await _locked_with_operation(connection, request.machine)
            if machine is None or not sees(caller, machine.project) or not store.within(reach, machine.region):
                raise errors.machine_not_found(request.machine)
            if request.force:
                check_may_force(caller)
                machine = replace(machine, fault=f"account {caller.account} removed it by force; it may still be on")
            check_can_decommission(machine, now_us, request.force)
            operation = await _begin_decommission(connection, machine, now_us, request.force)
            response = DecommissionResponse(operation=operation.to_message())
            await self._requests.save(connection, caller, request.request_id, request, response, now_us)
        return Begun(operation, response)

    async def take_back(self, machine_id: str, now_us: int) -> Operation | None:
        """Decommissions a machine whose claim has ended; None when something works on it already."""
        async with self._database.writing() as connection:
            machine = await _locked_with_operation(connection, machine_id)
            if machine is None or machine.state not in (ACTIVE, FAILED):
                return None
            return await _begin_decommission(connection, machine, now_us, force=False)


async def _refuse_used_provider(connection: asyncpg.Connection, provider: str) -> None:
    if await store.find_machine_of_provider(connection, provider) is not None:
        raise errors.provider_has_machine(provider)


async def _provision_again(connection: asyncpg.Connection, machine_id: str, wanted: Machine) -> Machine:
    """Arms a FAILED machine anew; its id, claim and past stay."""
    former = await store.find_machine(connection, machine_id, lock=True)
    if former is None or former.state != FAILED:
        raise errors.claim_has_machine(former or wanted)
    config = replace(former, kernel_url=wanted.kernel_url, initrd_url=wanted.initrd_url, kernel_args=wanted.kernel_args)
    machine = replace(
        _entering(config, PROVISIONING, wanted.operation, wanted.state_since_us),
        boot_script_us=None,
        phone_home_us=None,
    )
    await store.save_machine(connection, machine)
    return machine


async def _locked_with_operation(connection: asyncpg.Connection, machine_id: str) -> Machine | None:
    """The machine, locked after its operation: results are saved in that order too."""
    seen = await store.find_machine(connection, machine_id)
    if seen is None:
        return None
    await store.find_operation(connection, seen.operation, lock=True)
    machine = await store.find_machine(connection, machine_id, lock=True)
    if machine is not None and machine.operation != seen.operation:
        raise Aborted(f"another operation on machine {machine_id} began now; look at it, then retry")
    return machine


async def _begin_decommission(connection: asyncpg.Connection, machine: Machine, now_us: int, force: bool) -> Operation:
    """Stores the operation for a machine that is locked; by force it touches no hardware."""
    await _give_up(connection, machine.operation, now_us)
    steps = (RELEASE_CLAIM,) if force else PLANS[DECOMMISSION]
    operation = _new_operation(DECOMMISSION, machine.project, machine.id, machine.region, now_us, steps)
    entered = _entering(machine, DECOMMISSIONING, operation.id, now_us)
    await store.save_machine(connection, entered)
    await store.insert_operation(connection, operation)
    await store.record_event(connection, replace(entered, evidence=machine.fault or machine.evidence), now_us)
    return operation


async def _give_up(connection: asyncpg.Connection, operation_id: str, now_us: int) -> None:
    """Ends the operation that went before, if it has not: whoever still works on it finds the fence taken."""
    former = await store.find_operation(connection, operation_id, lock=True)
    if former is not None and not former.done:
        failed = replace(
            former,
            state=OPERATION_FAILED,
            error_reason="OPERATION_SUPERSEDED",
            error_message="The machine was decommissioned instead",
            error_step=next((step.name for step in former.steps if step.done_us is None), ""),
            done_us=now_us,
        )
        await store.save_operation(connection, failed)


def _entering(machine: Machine, state: int, operation: str, now_us: int) -> Machine:
    """The machine at the begin of an operation; the fence shuts out whoever worked on it before."""
    return replace(
        machine,
        state=state,
        state_since_us=now_us,
        state_reason=_WAITING,
        state_deadline_us=now_us + QUEUE_DEADLINE_S * SECOND,
        operation=operation,
        fence=machine.fence + 1,
        netboot_us=None,
    )


def _new_operation(kind: int, project: str, machine: str, region: str, now_us: int, steps: Sequence[str]) -> Operation:
    return Operation(
        id=new_id(),
        region=region,
        project=project,
        machine=machine,
        kind=kind,
        state=QUEUED,
        error_reason="",
        error_message="",
        error_step="",
        version=1,
        hold_fence=0,
        create_us=now_us,
        done_us=None,
        steps=[Step(name, STEP_WAITING, 0, None, None, "", "") for name in steps],
    )


def _new_machine(
    machine_id: str, claim: claim_pb2.Claim, bmc: Bmc, config: MachineConfig, operation: str, now_us: int
) -> Machine:
    return Machine(
        id=machine_id,
        region=bmc.region,
        project=claim.project,
        claim=claim.id,
        claim_end_us=from_timestamp(claim.release, "release") if claim.HasField("release") else None,
        provider=bmc.provider,
        kernel_url=config.kernel_url,
        initrd_url=config.initrd_url,
        kernel_args=config.kernel_args,
        state=PROVISIONING,
        state_since_us=now_us,
        state_reason=_WAITING,
        state_deadline_us=now_us + QUEUE_DEADLINE_S * SECOND,
        operation=operation,
        fence=0,
        version=1,
        power="",
        power_read_us=None,
        netboot_us=None,
        boot_script_us=None,
        phone_home_us=None,
        evidence="",
        fault="",
        create_us=now_us,
    )
