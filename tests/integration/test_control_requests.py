"""The control service's requests: who may see what, what is refused, what is answered twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from nats.aio.client import Client

from mulligan.api.control.v1 import control_service_pb2, machine_pb2
from mulligan.api.control.v1 import request_response_pb2 as pb
from mulligan.caller import Caller
from mulligan.clock import SECOND, now_us, to_timestamp
from mulligan.control import model
from mulligan.dispatch import MethodTable
from mulligan.errors import MulliganError, Unavailable
from mulligan.ids import new_id
from mulligan.stores.addresses import Addresses
from mulligan.stores.etcd import EtcdClient
from mulligan.stores.postgres import Ownership
from tests.integration.control_bench import PASSWORD, Bench, opened


@pytest.fixture
async def bench(fresh_addresses: Addresses, etcd: EtcdClient, nats: Client) -> AsyncIterator[Bench]:
    async with opened(fresh_addresses, etcd, nats) as (made, _):
        yield made


async def refused(call: object) -> MulliganError:
    with pytest.raises(MulliganError) as error:
        await call  # type: ignore[misc]
    return error.value


def test_every_rpc_is_served(bench: Bench) -> None:
    MethodTable(control_service_pb2.DESCRIPTOR.services_by_name["ControlService"], bench.service)


async def test_bmcs_are_registered_replaced_listed_and_forgotten(bench: Bench) -> None:
    providers = sorted([await bench.register_anything() for _ in range(3)])
    first = await bench.service.get_bmc(pb.GetBmcRequest(provider=providers[0]), bench.operator)
    assert first.bmc.config.port == 623
    listed = []
    token = ""
    while True:
        request = pb.ListBmcsRequest(region=bench.region, page_size=2, page_token=token)
        page = await bench.service.list_bmcs(request, bench.operator)
        listed += [each.provider for each in page.bmcs]
        token = page.next_page_token
        if not token:
            break
    assert listed == providers
    config = machine_pb2.BmcConfig(host="192.0.2.7", username="root", boot_mac=first.bmc.config.boot_mac)
    change = pb.RegisterBmcRequest(
        request_id=new_id(), region=bench.region, provider=providers[0], config=config, password="new"
    )
    replaced = await bench.service.register_bmc(change, bench.operator)
    assert (replaced.bmc.config.host, replaced.bmc.config.username) == ("192.0.2.7", "root")

    taken = pb.RegisterBmcRequest(
        request_id=new_id(), region=bench.region, provider=new_id(), config=config, password="new"
    )
    error = await refused(bench.service.register_bmc(taken, bench.operator))
    assert (error.reason, error.field, error.metadata) == (
        "ALREADY_EXISTS",
        "config.boot_mac",
        {"provider": providers[0]},
    )
    gone = pb.DeleteBmcRequest(request_id=new_id(), provider=providers[0])
    await bench.service.delete_bmc(gone, bench.operator)
    await bench.service.delete_bmc(gone, bench.operator)
    error = await refused(bench.service.get_bmc(pb.GetBmcRequest(provider=providers[0]), bench.operator))
    assert error.reason == "NOT_FOUND"


async def test_a_bmc_in_use_stays(bench: Bench) -> None:
    provider = await bench.register_anything()
    machine = (await bench.provision(provider)).machine
    error = await refused(
        bench.service.delete_bmc(pb.DeleteBmcRequest(request_id=new_id(), provider=provider), bench.operator)
    )
    assert (error.reason, error.metadata["machine"]) == ("IN_USE", machine.id)


async def test_a_repeated_request_gets_the_first_answer(bench: Bench) -> None:
    request = bench.provision_request(await bench.register_anything(), name="web")
    answers = await asyncio.gather(*[bench.service.provision(request, bench.tenant) for _ in range(5)])
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert await bench.service.provision(request, bench.tenant) == answers[0]
    assert await bench.pool.fetchval("SELECT count(*) FROM control.operations") == 1

    other = pb.ProvisionRequest()
    other.CopyFrom(request)
    other.name = "another"
    assert (await refused(bench.service.provision(other, bench.tenant))).reason == "REQUEST_ID_REUSED"
    # Another account's request of the same id is another request.
    stranger = replace(bench.tenant, account=new_id())
    error = await refused(bench.service.provision(request, stranger))
    assert (error.reason, error.metadata["machine"]) == ("ALREADY_EXISTS", answers[0].machine.id)
    # With another password it is another request too.
    provider = new_id()
    config = machine_pb2.BmcConfig(host="192.0.2.9", username="admin", boot_mac="02:00:00:00:00:09")
    register = pb.RegisterBmcRequest(
        request_id=new_id(), region=bench.region, provider=provider, config=config, password="one"
    )
    assert await bench.service.register_bmc(register, bench.operator) == await bench.service.register_bmc(
        register, bench.operator
    )
    register.password = "two"
    assert (await refused(bench.service.register_bmc(register, bench.operator))).reason == "REQUEST_ID_REUSED"


def register_request(bench: Bench, boot_mac: str) -> pb.RegisterBmcRequest:
    config = machine_pb2.BmcConfig(host="192.0.2.9", username="admin", boot_mac=boot_mac)
    return pb.RegisterBmcRequest(
        request_id=new_id(), region=bench.region, provider=new_id(), config=config, password=PASSWORD
    )


async def test_a_bmc_request_that_is_sent_many_times_at_once_gets_one_answer(bench: Bench) -> None:
    register = register_request(bench, "02:00:00:00:00:01")
    answers = await asyncio.gather(*[bench.service.register_bmc(register, bench.operator) for _ in range(6)])
    assert len({answer.SerializeToString() for answer in answers}) == 1
    delete = pb.DeleteBmcRequest(request_id=new_id(), provider=register.provider)
    await asyncio.gather(*[bench.service.delete_bmc(delete, bench.operator) for _ in range(6)])
    assert await bench.pool.fetchval("SELECT count(*) FROM control.bmcs") == 0


async def test_of_providers_that_ask_for_one_mac_at_once_one_gets_it(bench: Bench) -> None:
    requests = [register_request(bench, "02:00:00:00:00:02") for _ in range(6)]
    calls = [bench.service.register_bmc(each, bench.operator) for each in requests]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    [winner] = [each for each in answers if isinstance(each, pb.RegisterBmcResponse)]
    refusals = [each for each in answers if each is not winner]
    assert {getattr(each, "reason", repr(each)) for each in refusals} == {"ALREADY_EXISTS"}
    assert {each.metadata["provider"] for each in refusals if isinstance(each, MulliganError)} == {winner.bmc.provider}


async def test_a_name_is_taken_once_in_a_project_and_free_after_a_failure(bench: Bench) -> None:
    await bench.provision(await bench.register_anything(), name="web")
    second = await bench.register_anything()
    assert (await refused(bench.provision(second, name="web"))).reason == "NAME_TAKEN"
    # A provision that fails in Postgres leaves no name behind.
    claim = bench.claims.add(bench.region, bench.project, second)
    await bench.provision(second, claim=claim)
    other = bench.claims.add(bench.region, bench.project, second)
    assert (await refused(bench.provision(second, name="db", claim=other))).reason == "IN_USE"
    assert await bench.names.resolve("machine", bench.project, "db") is None
    assert (await refused(bench.provision(second, claim=claim))).reason == "ALREADY_EXISTS"


async def test_the_first_machine_on_a_provider_wins_and_the_second_is_told_why(bench: Bench) -> None:
    provider = await bench.register_anything()
    first = await bench.provision(provider)
    error = await refused(bench.provision(provider))
    assert (error.reason, error.metadata) == ("IN_USE", {"provider": provider})
    assert "an exclusive one would have reserved it whole" in error.message
    assert not [each for each in (first.machine.id, first.machine.claim) if each in error.message]


async def test_what_cannot_be_provisioned(bench: Bench) -> None:
    without_bmc = new_id()
    error = await refused(bench.provision(without_bmc))
    assert (error.reason, error.metadata["provider"]) == ("PROVIDER_HAS_NO_BMC", without_bmc)
    provider = await bench.register_anything()
    assert (await refused(bench.provision(provider, claim=new_id()))).reason == "NOT_FOUND"
    later = bench.claims.add(bench.region, bench.project, provider)
    bench.claims.claims[later].acquire.CopyFrom(to_timestamp(now_us() + 60 * SECOND))
    assert (await refused(bench.provision(provider, claim=later))).reason == "CLAIM_NOT_ACTIVE"
    foreign = bench.claims.add(bench.region, new_id(), provider)
    assert (await refused(bench.provision(provider, claim=foreign))).reason == "NOT_FOUND"
    request = bench.provision_request(provider)
    request.region = new_id()
    assert (await refused(bench.service.provision(request, bench.tenant))).reason == "NOT_FOUND"
    request.region = "somewhere"
    assert (await refused(bench.service.provision(request, bench.tenant))).reason == "INVALID_UUID"
    request.request_id = ""
    assert (await refused(bench.service.provision(request, bench.tenant))).field == "request_id"
    assert await bench.pool.fetchval("SELECT count(*) FROM control.machines") == 0


async def test_nothing_of_one_project_is_there_for_another(bench: Bench) -> None:
    begun = await bench.provision(await bench.register_anything())
    stranger = Caller(account=new_id(), project=new_id(), grants=())
    machine, operation = begun.machine.id, begun.operation.id
    for call in (
        bench.service.get_machine(pb.GetMachineRequest(id=machine), stranger),
        bench.service.watch_machine(pb.WatchMachineRequest(id=machine), stranger, "", 0),
        bench.service.get_operation(pb.GetOperationRequest(id=operation), stranger),
        bench.service.watch_operation(pb.WatchOperationRequest(id=operation), stranger, "", 0),
        bench.service.decommission(pb.DecommissionRequest(request_id=new_id(), machine=machine), stranger),
    ):
        error = await refused(call)
        missing = error.metadata.get("machine") or error.metadata.get("operation") or ""
        unknown = await refused(bench.service.get_machine(pb.GetMachineRequest(id=new_id()), stranger))
        assert error.reason == unknown.reason == "NOT_FOUND"
        assert missing in (machine, operation)
    assert not (await bench.service.list_machines(pb.ListMachinesRequest(), stranger)).machines
    assert not (await bench.service.list_operations(pb.ListOperationsRequest(), stranger)).operations
    assert len((await bench.service.list_machines(pb.ListMachinesRequest(), bench.operator)).machines) == 1


async def test_lists_come_in_pages(bench: Bench) -> None:
    begun = [await bench.provision(await bench.register_anything()) for _ in range(5)]
    machines, operations, token = [], [], ""
    while True:
        page = await bench.service.list_machines(pb.ListMachinesRequest(page_size=2, page_token=token), bench.tenant)
        machines += [each.id for each in page.machines]
        token = page.next_page_token
        if not token:
            break
    while True:
        request = pb.ListOperationsRequest(page_size=2, page_token=token)
        found = await bench.service.list_operations(request, bench.tenant)
        operations += [each.id for each in found.operations]
        token = found.next_page_token
        if not token:
            break
    assert machines == sorted(each.machine.id for each in begun)
    assert operations == [each.operation.id for each in reversed(begun)]
    request = pb.ListOperationsRequest(machine=begun[0].machine.id)
    found = await bench.service.list_operations(request, bench.tenant)
    assert [each.id for each in found.operations] == [begun[0].operation.id]
    bad = pb.ListMachinesRequest(page_token="nonsense")
    assert (await refused(bench.service.list_machines(bad, bench.tenant))).reason == "INVALID_PAGE_TOKEN"


async def test_decommission_waits_for_a_provision_that_is_under_way_but_not_for_one_that_is_stuck(
    bench: Bench,
) -> None:
    begun = await bench.provision(await bench.register_anything())
    error = await refused(bench.decommission(begun.machine.id))
    assert (error.reason, error.metadata["operation"]) == ("WRONG_STATE", begun.operation.id)
    overdue = now_us() - 61 * SECOND
    await bench.pool.execute(
        "UPDATE control.machines SET state_deadline_us = $2 WHERE id = $1", begun.machine.id, overdue
    )
    operation = await bench.decommission(begun.machine.id)
    former = await bench.service.get_operation(pb.GetOperationRequest(id=begun.operation.id), bench.tenant)
    assert (former.operation.error.reason, former.operation.error.step) == ("OPERATION_SUPERSEDED", "read-power")
    machine = await bench.machine(begun.machine.id)
    assert (machine.state, machine.operation) == (machine_pb2.MACHINE_STATE_DECOMMISSIONING, operation.id)
    assert (await refused(bench.decommission(begun.machine.id))).reason == "WRONG_STATE"


async def test_a_failed_machine_keeps_its_name_and_takes_its_first_one_late(bench: Bench) -> None:
    provider = await bench.register_anything()
    request = bench.provision_request(provider)
    begun = await bench.service.provision(request, bench.tenant)
    await _fail(bench, begun.machine.id, begun.operation.id)
    again = await bench.provision(provider, name="late", claim=request.claim)
    assert again.machine.id == begun.machine.id
    assert await bench.names.resolve("machine", bench.project, "late") == begun.machine.id
    await _fail(bench, again.machine.id, again.operation.id)
    error = await refused(bench.provision(provider, name="other", claim=request.claim))
    assert error.field == "name"
    assert "'late'" in error.message
    assert (await bench.provision(provider, claim=request.claim)).machine.id == begun.machine.id


async def _fail(bench: Bench, machine: str, operation: str) -> None:
    await bench.pool.execute("UPDATE control.machines SET state = $2 WHERE id = $1", machine, model.FAILED)
    await bench.pool.execute(
        "UPDATE control.operations SET state = $2, done_us = 1 WHERE id = $1", operation, model.OPERATION_FAILED
    )


async def test_a_watch_wakes_when_another_process_changes_something(bench: Bench) -> None:
    begun = await bench.provision(await bench.register_anything())
    request = pb.WatchMachineRequest(id=begun.machine.id)
    first = await bench.service.watch_machine(request, bench.tenant, "", 1)
    waiting = asyncio.create_task(bench.service.watch_machine(request, bench.tenant, first.cursor, 30))
    await bench.pool.execute(
        "UPDATE control.machines SET power = 'on', version = version + 1 WHERE id = $1", begun.machine.id
    )
    bench.changes.bump(begun.machine.id)
    page = await asyncio.wait_for(waiting, 2)
    assert page.cursor != first.cursor
    assert (await bench.service.watch_machine(request, bench.tenant, page.cursor, 0)).messages == []


async def test_an_owner_that_was_replaced_writes_nothing(bench: Bench) -> None:
    provider = await bench.register_anything()
    await Ownership.take(bench.pool, "control", "default")
    assert (await refused(bench.provision(provider))).reason == "FENCED"
    assert await bench.pool.fetchval("SELECT count(*) FROM control.machines") == 0


async def test_settings_are_told_and_checked(bench: Bench) -> None:
    told = await bench.service.executor_configure(pb.ExecutorConfigureRequest(), bench.operator)
    assert told.settings.step_attempts >= 1
    bad = pb.ExecutorConfigureRequest(
        request_id=new_id(),
        settings=pb.ExecutorSettings(max_tasks=0),
        update_mask=FieldMask(paths=["max_tasks"]),
    )
    assert (await refused(bench.service.executor_configure(bad, bench.operator))).reason == "INVALID_FIELD"
    assert (
        await bench.service.control_configure(pb.ControlConfigureRequest(), bench.operator)
    ).settings.max_in_flight > 0


async def test_what_could_not_be_published_is_swept_up(bench: Bench) -> None:
    provider = await bench.register_anything()
    bench.queue.away = True
    begun = await bench.provision(provider)
    await bench.pool.execute("UPDATE control.operations SET create_us = create_us - $1", 10 * SECOND)
    assert (await refused(bench.outbox.sweep())).code == Unavailable.code
    bench.queue.away = False
    assert await bench.outbox.sweep() == 1
    assert await bench.outbox.sweep() == 0
    assert await bench.pool.fetchval("SELECT publish_us FROM control.operations WHERE id = $1", begun.operation.id)


async def test_a_task_that_nobody_works_on_is_published_again(bench: Bench) -> None:
    begun = await bench.provision(await bench.register_anything())
    assert await bench.outbox.sweep() == 0
    await bench.pool.execute("UPDATE control.operations SET publish_us = publish_us - $1", 301 * SECOND)
    assert await bench.outbox.sweep() == 0
    await bench.pool.execute("UPDATE control.machines SET state_deadline_us = $1", now_us() - 61 * SECOND)
    assert await bench.outbox.sweep() == 1
    assert await bench.outbox.sweep() == 0
    assert begun.operation.id


async def test_no_answer_and_no_error_holds_a_password(bench: Bench) -> None:
    provider = await bench.register_anything()
    shown = await bench.service.get_bmc(pb.GetBmcRequest(provider=provider), bench.operator)
    listed = await bench.service.list_bmcs(pb.ListBmcsRequest(), bench.operator)
    assert PASSWORD.encode() not in shown.SerializeToString() + listed.SerializeToString()
    bad = pb.RegisterBmcRequest(request_id=new_id(), region=bench.region, provider=provider, password=PASSWORD * 5)
    bad.config.CopyFrom(shown.bmc.config)
    assert PASSWORD not in (await refused(bench.service.register_bmc(bad, bench.operator))).message
