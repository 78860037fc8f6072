"""Claims, machines, inventory and settings from the command line, against a system in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mulligan.api.common.v1.common_pb2 import ServiceSettings
from mulligan.api.control.v1 import operation_pb2
from mulligan.api.control.v1.machine_pb2 import Bmc, Machine
from mulligan.api.control.v1.operation_pb2 import Operation, OperationError, Step
from mulligan.api.control.v1.request_response_pb2 import (
    DecommissionResponse,
    ListMachinesResponse,
    ProvisionResponse,
    RegisterBmcResponse,
    WatchOperationResponse,
)
from mulligan.api.resource.v1.claim_pb2 import (
    CLAIM_STATE_ACTIVE,
    STRATEGY_SPREAD,
    Allocation,
    Claim,
    FunnelStep,
    GroupExplanation,
    Quota,
    Usage,
)
from mulligan.api.resource.v1.provider_pb2 import PROVIDER_STATE_ACTIVE, Provider, ProviderConfig
from mulligan.api.resource.v1.request_response_pb2 import (
    CreateClaimResponse,
    CreateProviderResponse,
    ExplainClaimResponse,
    GetClaimResponse,
    GetUsageResponse,
    ListQuotasResponse,
    ResourceConfigureResponse,
)
from mulligan.clock import SECOND, to_timestamp
from mulligan.errors import (
    Unavailable,
)
from mulligan.ids import new_id
from tests.cli_world import NODE, RACK, World
from tests.fake_inventory import FakeInventory
from tests.fake_system import EAST, Script, ScriptedStream

CLAIM = "00000000-0000-7000-8000-0000000000c1"
MACHINE = "00000000-0000-7000-8000-0000000000d1"
OPERATION = "00000000-0000-7000-8000-0000000000b1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def provider() -> Provider:
    config = ProviderConfig(provider_type="compute")
    return Provider(id=NODE, region=EAST, config=config, used={"memory": 2**40}, state=PROVIDER_STATE_ACTIVE)


def test_rows_of_several_shards_can_be_told_apart(home: Path) -> None:
    usages = [Usage(resource_type="memory", used=used, shard=shard) for used, shard in ((3, "default"), (4, "mars"))]
    quotas = [
        Quota(project=new_id(), resource_type="memory", used=1, limit=2, shard=shard) for shard in ("default", "mars")
    ]
    resource = Script(
        get_usage=[GetUsageResponse(usages=usages), GetUsageResponse(usages=usages[:1])],
        list_quotas=[ListQuotasResponse(quotas=quotas), ListQuotasResponse(quotas=quotas[:1])],
    )
    world = World(home, resource=resource)
    for words in (("usage",), ("quota", "list")):
        several, one = world.run(*words).stdout, world.run(*words).stdout
        assert "SHARD" in several
        assert "mars" in several
        assert "SHARD" not in one


def test_a_claim_from_a_file(home: Path) -> None:
    claim = Claim(id=CLAIM, region=EAST, state=CLAIM_STATE_ACTIVE)
    claim.allocations.append(Allocation(group="0", provider=NODE, resource_type="memory", amount=64))
    resource = Script(create_claim=[CreateClaimResponse(claim=claim)])
    world = World(home, resource=resource)
    file = home / "claim.yaml"
    file.write_text("release: +2h\ngroups: [{resources: {memory: {min: 64}}, provider_groups: {forbid: [rack1]}}]\n")
    options = ("--strategy", "spread", "--from", "+1h", "--group", "rack1")
    result = world.run("claim", "create", str(file), "-r", "east", *options)
    assert result.exit_code == 0, result.stderr
    assert CLAIM in result.stdout
    assert "node1" in result.stdout
    spec = resource.requests[0].spec
    assert spec.strategy == STRATEGY_SPREAD
    assert spec.acquire == to_timestamp(world.time.now_us() + 3600 * SECOND)
    assert spec.release == to_timestamp(world.time.now_us() + 7200 * SECOND)
    assert list(spec.groups[0].provider_groups.require) == [RACK]
    assert list(spec.groups[0].provider_groups.forbid) == [RACK]
    assert len(resource.requests[0].request_id) == 36


def test_a_wrong_claim_file_never_reaches_the_system(home: Path) -> None:
    world = World(home, resource=Script())
    file = home / "claim.yaml"
    file.write_text("groups:\n  - resorces: {}\n")
    result = world.run("claim", "create", str(file))
    assert result.exit_code == 2
    assert "claim.yaml, line 2: groups[0]: unknown key 'resorces'" in result.stderr


def test_explain_shows_the_funnel_and_its_exit_code_the_answer(home: Path) -> None:
    funnel = [FunnelStep(constraint="cpu.shared >= 8", left=40), FunnelStep(constraint="capability gpu", left=0)]
    answer = ExplainClaimResponse(
        fits=False, groups=[GroupExplanation(name="a", funnel=funnel)], summary="no provider has capability gpu"
    )
    world = World(home, resource=Script(explain_claim=[answer]))
    result = world.run("claim", "explain", "1cpu-64m-10g", "--packaged")
    assert result.exit_code == 1
    assert "GROUP a" in result.stdout
    assert ["capability", "gpu", "0"] in [line.split() for line in result.stdout.splitlines()]
    assert "no provider has capability gpu" in result.stdout


def test_what_has_no_name_is_told_by_its_uuid(home: Path) -> None:
    result = World(home, resource=Script()).run("claim", "show", "web1")
    assert result.exit_code == 2
    assert "mulligan claim list" in result.stderr


def steps(*states: operation_pb2.StepState) -> Operation:
    names = ("power-on", "boot", "phone-home")
    return Operation(
        id=OPERATION,
        state=operation_pb2.OPERATION_STATE_RUNNING,
        steps=[Step(name=name, state=state, attempts=1) for name, state in zip(names, states, strict=True)],
    )


WAITING, RUNNING = operation_pb2.STEP_STATE_WAITING, operation_pb2.STEP_STATE_RUNNING
RETRYING, DONE = operation_pb2.STEP_STATE_RETRYING, operation_pb2.STEP_STATE_DONE


def control_that(*operations: Operation) -> ScriptedStream:
    control = ScriptedStream("watch_operation", [[WatchOperationResponse(operation=each) for each in operations]])
    answer = ProvisionResponse(machine=Machine(id=MACHINE), operation=Operation(id=OPERATION, region=EAST))
    control.provision = Script(provision=[answer]).provision  # type: ignore[attr-defined]
    return control


def test_provision_follows_the_operation_step_by_step(home: Path) -> None:
    done = steps(DONE, DONE, DONE)
    done.state = operation_pb2.OPERATION_STATE_SUCCEEDED
    retried = steps(DONE, RETRYING, WAITING)
    retried.steps[1].attempts, retried.steps[1].message = 2, "the BMC did not answer"
    control = control_that(steps(RUNNING, WAITING, WAITING), retried, done)
    resource = Script(get_claim=[GetClaimResponse(claim=Claim(id=CLAIM, region=EAST))])
    world = World(home, control=control, resource=resource)
    result = world.run("machine", "provision", CLAIM, "--name", "web1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"machine {MACHINE}, operation {OPERATION}",
        "power-on: running",
        "power-on: done",
        "boot: retrying (attempt 2) the BMC did not answer",
        "boot: done",
        "phone-home: done",
        "done",
    ]
    request = world.received("Provision")
    assert (request.region, request.claim, request.name) == (EAST, CLAIM, "web1")


def test_a_failed_operation_is_told_and_exits_with_1(home: Path) -> None:
    failed = steps(DONE, operation_pb2.STEP_STATE_FAILED, WAITING)
    failed.state = operation_pb2.OPERATION_STATE_FAILED
    failed.error.CopyFrom(OperationError(step="boot", message="BMC 10.1.2.3 refused the password"))
    world = World(home, control=control_that(failed))
    result = world.run("operation", "watch", OPERATION)
    assert result.exit_code == 1
    assert "failed at boot: BMC 10.1.2.3 refused the password" in result.stdout
    world = World(home, control=control_that(failed))
    result = world.run("operation", "watch", OPERATION, "-o", "json")
    assert json.loads(result.stdout)["error"]["step"] == "boot"


def test_a_machine_is_removed_by_force_only_when_told_so(home: Path) -> None:
    answer = DecommissionResponse(operation=Operation(id=OPERATION, region=EAST))
    world = World(home, control=Script(decommission=[answer, answer]))
    for options, force in (((), False), (("--force",), True)):
        result = world.run("machine", "decommission", MACHINE, "--no-wait", *options)
        assert result.exit_code == 0, result.stderr
        request = world.received("Decommission")
        assert (request.machine, request.force) == (MACHINE, force)


def test_machine_names_belong_to_projects(home: Path) -> None:
    world = World(home, control=Script(list_machines=[ListMachinesResponse()]))
    assert world.run("machine", "list").stdout == "none\n"
    result = world.run("machine", "show", "web1")
    assert result.exit_code == 2
    assert "--project" in result.stderr


def test_a_bmc_is_registered_without_showing_its_password(home: Path) -> None:
    world = World(home, control=Script(register_bmc=[RegisterBmcResponse(bmc=Bmc(provider=NODE, region=EAST))]))
    options = ["--host", "10.1.2.3", "--username", "root", "--mac", "AA:BB:CC:00:11:22", "--secret-stdin"]
    result = world.run("bmc", "register", "node1", *options, stdin="calvin\n")
    assert result.exit_code == 0, result.stderr
    request = world.received("RegisterBmc")
    assert (request.region, request.provider, request.password) == (EAST, NODE, "calvin")
    assert (request.config.boot_mac, request.config.driver) == ("aa:bb:cc:00:11:22", "ipmi")
    assert "calvin" not in result.output


def test_a_provider_from_options(home: Path) -> None:
    resource = Script(create_provider=[CreateProviderResponse(provider=provider())])
    world = World(home, resource=resource)
    inventory = "memory=1024,reserved=24,allocation_ratio=1.5"
    result = world.run(
        *("provider", "create", "n9", "--type", "compute", "-r", "east", "--group", "rack1"),
        *("--inventory", inventory, "--inventory", "cpu.shared=8", "--capability", "cpu.x86.avx2"),
    )
    assert result.exit_code == 0, result.stderr
    config = resource.requests[0].config
    assert [(each.resource_type, each.total, each.reserved) for each in config.inventories] == [
        ("memory", 1024, 24),
        ("cpu.shared", 8, 0),
    ]
    assert config.inventories[0].allocation_ratio == 1.5
    assert list(config.groups) == [RACK]
    for wrong in ("memory", "memory=", "memory=x", "memory=1,colour=2", "memory=1,reserved"):
        refused = world.run("provider", "create", "n9", "--type", "compute", "--inventory", wrong)
        assert refused.exit_code == 2, wrong


def test_settings_are_masked_to_what_was_given(home: Path) -> None:
    answer = ResourceConfigureResponse(settings=ServiceSettings(log_level="debug", max_in_flight=500))
    resource = Script(resource_configure=[answer])
    world = World(home, resource=resource)
    settings = ("log_level=debug", "max_in_flight=500")
    assert world.run("service", "configure", "resource", *settings, "--expires", "2h").exit_code == 0
    request = resource.requests[0]
    assert list(request.update_mask.paths) == ["log_level", "max_in_flight"]
    assert (request.settings.max_in_flight, request.expires_after.seconds) == (500, 7200)
    shown = world.json("service", "show", "resource")
    assert shown["log_level"] == "debug"
    assert list(resource.requests[1].update_mask.paths) == []
    for wrong in ("colour=red", "max_in_flight=many", "max_in_flight=-1", "log_level"):
        assert world.run("service", "configure", "resource", wrong).exit_code == 2


def test_loading_an_inventory(home: Path) -> None:
    inventory = FakeInventory()
    world = World(home)
    world.services = {"iam": world.iam, "meta": inventory, "resource": inventory}
    report = world.json("inventory", "load", "100-shared", "--packaged")
    assert (report["providers_made"], report["providers_kept"], report["groups_made"]) == (100, 0, 7)
    assert set(report["regions"]) == {"earth", "east"}
    again = world.run("inventory", "load", "100-shared", "--packaged")
    assert "0 providers made and 100 left as they were" in again.stdout


def test_checking_an_inventory_needs_no_system(home: Path) -> None:
    world = World(home)
    world.up = False
    assert world.json("inventory", "check", "--packaged", "10k-shared")["providers"] == 10_000
    (home / "dc.yaml").write_text("layout: {}\n")
    result = world.run("inventory", "check", str(home / "dc.yaml"))
    assert result.exit_code == 2
    assert "dc.yaml" in result.stderr


def test_a_part_that_is_down_is_told_after_the_timeout(home: Path) -> None:
    world = World(home, resource=Script(get_usage=[Unavailable("shard default restarts")]))
    result = world.run("usage", "--timeout", "2")
    assert result.exit_code == 8
    assert "shard default restarts" in result.stderr
