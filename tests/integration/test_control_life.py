"""Machines from claim to claim: provisioned, failed, tried again, taken back, on simulated hardware over real IPMI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from nats.aio.client import Client

from mulligan.api.control.v1 import machine_pb2, operation_pb2
from mulligan.api.control.v1 import request_response_pb2 as pb
from mulligan.api.resource.v1 import claim_pb2
from mulligan.clock import SECOND, now_us, to_timestamp
from mulligan.control import model
from mulligan.errors import FailedPrecondition, PermissionDenied, Unavailable
from mulligan.ids import new_id
from mulligan.park import Park
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from tests.integration.control_bench import ACTIVE, FAILED, SUCCEEDED, Bench, opened
from tests.waiting import eventually

World = tuple[Bench, Park]


@pytest.fixture
async def world(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[World]:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        park = await bench.start_park(stack)
        await bench.executor(stack)
        yield bench, park


async def test_a_machine_is_made_of_a_claim_and_given_back(world: World) -> None:
    bench, park = world
    begun = await bench.provision(await bench.register(), name="web1")
    assert begun.machine.state == machine_pb2.MACHINE_STATE_PROVISIONING
    assert [step.name for step in begun.operation.steps] == list(model.PLANS[model.PROVISION])

    done = await bench.ended(begun.operation.id)
    assert done.state == SUCCEEDED, done
    assert {step.state for step in done.steps} == {operation_pb2.STEP_STATE_DONE}
    assert [step.evidence for step in done.steps if step.name in ("power-on", "set-boot-device")] == [
        "bootdev=network",
        "power=on",
    ]
    machine = await bench.machine(begun.machine.id)
    assert (machine.state, machine.status.power) == (ACTIVE, "on")
    assert machine.state_reason == "It phoned home and is on"
    assert machine.status.phone_home_time.seconds >= machine.status.boot_script_time.seconds > 0
    assert not machine.HasField("state_deadline")
    shown = await park.show(0)
    assert (shown["boots"], shown["scripts"], shown["reports"]) == (1, 1, 1)
    assert await bench.names.resolve("machine", bench.project, "web1") == machine.id

    operation = await bench.decommission(machine.id)
    done = await bench.ended(operation.id)
    assert done.state == SUCCEEDED, done
    machine = await bench.machine(machine.id)
    assert (machine.state, machine.status.power) == (machine_pb2.MACHINE_STATE_DECOMMISSIONED, "off")
    assert bench.claims.released == [(machine.claim, operation.id)]
    assert bench.claims.quarantined == []
    assert await bench.names.resolve("machine", bench.project, "web1") is None
    assert (await park.show(0))["power"] == "off"


async def test_every_machine_keeps_its_history(world: World) -> None:
    bench, _ = world
    begun = await bench.provision(await bench.register())
    await bench.ended(begun.operation.id)
    rows = await bench.pool.fetch(
        "SELECT state, reason, evidence FROM control.machine_events WHERE machine = $1 ORDER BY number",
        begun.machine.id,
    )
    assert rows[0]["reason"] == "Waiting for an executor to take the task"
    assert (rows[-1]["state"], rows[-1]["reason"]) == (model.ACTIVE, "It phoned home and is on")
    evidence = [row["evidence"] for row in rows]
    assert "bootdev=network" in evidence
    assert any(each.startswith("phoned home from 127.0.0.1") for each in evidence)


async def test_a_wrong_password_fails_and_the_right_one_makes_the_same_machine(world: World) -> None:
    bench, park = world
    provider = await bench.register(password="not-the-password")
    request = bench.provision_request(provider, name="db1")
    begun = await bench.service.provision(request, bench.tenant)
    done = await bench.ended(begun.operation.id)
    assert (done.error.reason, done.error.step) == ("BMC_REFUSED_CREDENTIALS", "read-power")
    assert done.error.message == (
        f"BMC 127.0.0.1:{park.bmcs[0].port} refused the password; register it again with the right credentials"
    )
    failed = await bench.machine(begun.machine.id)
    assert failed.state == FAILED
    assert done.error.message in failed.state_reason
    assert "provision it again, or decommission" in failed.state_reason

    await bench.register(provider=provider)
    again = await bench.provision(provider, claim=request.claim)
    assert again.machine.id == begun.machine.id
    assert again.operation.id != begun.operation.id
    assert (await bench.ended(again.operation.id)).state == SUCCEEDED
    assert await bench.names.resolve("machine", bench.project, "db1") == begun.machine.id


async def test_a_bmc_that_is_away_is_tried_again_then_told(world: World) -> None:
    bench, park = world
    await park.set_faults(0, unreachable=True)
    bench.settings.bmc_state_seconds = 1
    begun = await bench.provision(await bench.register())
    done = await bench.ended(begun.operation.id)
    assert done.error.reason == "BMC_UNREACHABLE"
    assert done.steps[0].attempts == 2
    assert "(tried 2 times)" in done.error.message
    retrying = [result for result in bench.results if "attempt 2 of 2 follows" in result.message]
    assert len(retrying) == 1


async def test_a_bmc_that_lies_about_power_is_found_out(world: World) -> None:
    bench, park = world
    await park.set_faults(0, lying_power=True)
    bench.settings.bmc_state_seconds = 1
    begun = await bench.provision(await bench.register())
    done = await bench.ended(begun.operation.id)
    assert (done.error.reason, done.error.step) == ("BMC_STATE_NOT_REACHED", "power-on")
    # Hardware that failed so is not handed to the next tenant, although it can be given back.
    await park.set_faults(0, lying_power=False)
    assert (await bench.ended((await bench.decommission(begun.machine.id)).id)).state == SUCCEEDED
    machine = await bench.machine(begun.machine.id)
    assert [provider for provider, _ in bench.claims.quarantined] == [machine.provider]
    assert "BMC_STATE_NOT_REACHED" in bench.claims.quarantined[0][1]
    assert "took the power command on" in machine.state_reason


async def test_a_machine_that_never_phones_home(world: World) -> None:
    bench, park = world
    await park.set_faults(0, never_phones_home=True)
    bench.settings.phone_home_seconds = 1
    begun = await bench.provision(await bench.register())
    done = await bench.ended(begun.operation.id)
    assert (done.error.reason, done.error.step) == ("PHONE_HOME_MISSING", "wait-phone-home")
    assert "fetched its boot script but did not phone home within 1 s" in done.error.message
    # Given back, it is no suspect: it did fetch its script.
    await bench.ended((await bench.decommission(begun.machine.id)).id)
    assert bench.claims.quarantined == []


async def test_a_machine_that_cannot_be_switched_off_is_quarantined_and_keeps_its_claim(world: World) -> None:
    bench, park = world
    begun = await bench.provision(await bench.register())
    await bench.ended(begun.operation.id)
    await park.set_faults(0, lying_power=True)
    bench.settings.bmc_state_seconds = 1
    done = await bench.ended((await bench.decommission(begun.machine.id)).id)
    assert (done.error.reason, done.error.step) == ("BMC_STATE_NOT_REACHED", "power-off")
    machine = await bench.machine(begun.machine.id)
    assert machine.state == FAILED
    assert [provider for provider, _ in bench.claims.quarantined] == [machine.provider]
    assert bench.claims.released == []
    await park.set_faults(0, lying_power=False)
    assert (await bench.ended((await bench.decommission(begun.machine.id)).id)).state == SUCCEEDED
    assert len(bench.claims.released) == 1


async def test_a_claim_that_cannot_be_released_yet_is_tried_again(world: World) -> None:
    bench, _ = world
    begun = await bench.provision(await bench.register())
    await bench.ended(begun.operation.id)
    bench.claims.failures = [Unavailable("the resource service restarts"), Unavailable("and again")]
    done = await bench.ended((await bench.decommission(begun.machine.id)).id)
    assert done.state == SUCCEEDED
    assert (done.steps[-1].name, done.steps[-1].attempts) == ("release-claim", 3)
    assert len(bench.claims.released) == 1


async def test_a_machine_that_runs_already_is_switched_off_and_netbooted(world: World) -> None:
    bench, park = world
    provider = await bench.register()
    begun = await bench.provision(provider)
    await bench.ended(begun.operation.id)
    # As if its decommission had been forgotten: the record goes, the machine stays on.
    await bench.pool.execute("UPDATE control.machines SET state = 4 WHERE id = $1", begun.machine.id)
    again = await bench.provision(provider)
    assert (await bench.ended(again.operation.id)).state == SUCCEEDED
    shown = await park.show(0)
    assert (shown["boots"], shown["reports"], shown["stage"]) == (2, 2, "home")


async def test_a_machine_whose_hardware_is_gone_is_removed_by_force(world: World) -> None:
    bench, park = world
    begun = await bench.provision(await bench.register(), name="gone")
    await bench.ended(begun.operation.id)
    await park.set_faults(0, unreachable=True)
    request = pb.DecommissionRequest(request_id=new_id(), machine=begun.machine.id, force=True)
    with pytest.raises(PermissionDenied):
        await bench.service.decommission(request, bench.tenant)
    stuck = await bench.decommission(begun.machine.id)
    operation = (await bench.service.decommission(request, bench.operator)).operation
    assert [step.name for step in operation.steps] == ["release-claim"]
    assert (await bench.ended(operation.id)).state == SUCCEEDED
    assert (await bench.ended(stuck.id)).error.reason == "OPERATION_SUPERSEDED"
    machine = await bench.machine(begun.machine.id)
    assert machine.state == machine_pb2.MACHINE_STATE_DECOMMISSIONED
    assert bench.claims.released == [(machine.claim, operation.id)]
    assert bench.claims.quarantined[0][0] == machine.provider
    assert "by force" in bench.claims.quarantined[0][1]
    assert (await park.show(0))["power"] == "on"
    again = pb.DecommissionRequest(request_id=new_id(), machine=begun.machine.id, force=True)
    with pytest.raises(FailedPrecondition):
        await bench.service.decommission(again, bench.operator)


async def test_a_machine_is_taken_back_when_its_claim_ends(world: World) -> None:
    bench, park = world
    provider = await bench.register()
    claim = bench.claims.add(bench.region, bench.project, provider)
    end_us = now_us() + 3 * SECOND
    bench.claims.claims[claim].release.CopyFrom(to_timestamp(end_us))
    begun = await bench.provision(provider, claim=claim)
    await bench.ended(begun.operation.id)
    assert await bench.expiry.sweep() == 0
    assert (await bench.machine(begun.machine.id)).state_deadline.ToMicroseconds() == end_us
    assert await eventually(bench.expiry.sweep) == 1
    assert await bench.expiry.sweep() == 0
    machine = await bench.machine(begun.machine.id)
    assert (await bench.ended(machine.operation)).state == SUCCEEDED
    assert (await park.show(0))["power"] == "off"


async def test_a_machine_of_a_released_claim_makes_room_for_the_next_one(world: World) -> None:
    bench, _ = world
    provider = await bench.register()
    former = await bench.provision(provider)
    await bench.ended(former.operation.id)
    request = bench.provision_request(provider)
    with pytest.raises(FailedPrecondition) as in_use:
        await bench.service.provision(request, bench.tenant)
    assert in_use.value.reason == "IN_USE"
    assert (await bench.machine(former.machine.id)).state == ACTIVE
    bench.claims.claims[former.machine.claim].state = claim_pb2.CLAIM_STATE_RELEASED
    with pytest.raises(FailedPrecondition, match="being taken back"):
        await bench.service.provision(request, bench.tenant)
    await bench.ended((await bench.machine(former.machine.id)).operation)
    begun = await bench.service.provision(request, bench.tenant)
    assert (await bench.ended(begun.operation.id)).state == SUCCEEDED


async def test_watchers_see_every_state_on_the_way(world: World) -> None:
    bench, _ = world
    begun = await bench.provision(await bench.register())
    seen: list[str] = []
    cursor = ""
    request = pb.WatchMachineRequest(region=bench.region, id=begun.machine.id)

    async def followed() -> bool:
        nonlocal cursor
        page = await bench.service.watch_machine(request, bench.tenant, cursor, 5)
        cursor = page.cursor
        for message in page.messages:
            assert isinstance(message, pb.WatchMachineResponse)
            seen.append(message.machine.state_reason)
            if message.machine.state == ACTIVE:
                return True
        return False

    await eventually(followed, 30)
    assert len(seen) > 2
    assert seen[-1] == "It phoned home and is on"
    page = await bench.service.watch_machine(request, bench.tenant, cursor, 0)
    assert (page.messages, page.cursor, page.done) == ([], cursor, False)


async def test_many_machines_at_once(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> None:
    async with opened(fresh_addresses, etcd, nats) as (bench, stack):
        await bench.start_park(stack, count=12)
        await _two_executors(bench, stack)
        begun = [await bench.provision(await bench.register(number)) for number in range(12)]
        for each in begun:
            assert (await bench.ended(each.operation.id)).state == SUCCEEDED
        assert bench.park is not None
        assert [(await bench.park.show(number))["boots"] for number in range(12)] == [1] * 12


async def _two_executors(bench: Bench, stack: AsyncExitStack) -> None:
    for _ in range(2):
        await bench.executor(stack)
