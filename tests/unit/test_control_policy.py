"""What the control service accepts."""

from __future__ import annotations

import pytest

from mulligan.api.control.v1.machine_pb2 import BmcConfig, MachineConfig
from mulligan.api.resource.v1.claim_pb2 import CLAIM_STATE_RELEASED, Allocation, Claim
from mulligan.caller import Caller, Grant
from mulligan.clock import SECOND, to_timestamp
from mulligan.control import policy
from mulligan.control.model import ACTIVE, DECOMMISSIONED, DECOMMISSIONING, FAILED, PROVISIONING, Machine
from mulligan.errors import FailedPrecondition, InvalidArgument, MulliganError, NotFound
from mulligan.meta.regions import RegionRecord, RegionTree

NOW = 1_800_000_000 * SECOND
MINE = Caller(account="a", project="p1", grants=())
SYSTEM = Caller(account="a", project="", grants=(), system=True)


def bmc(**changed: object) -> BmcConfig:
    values: dict[str, object] = {"host": "10.1.2.3", "username": "admin", "boot_mac": "AA-BB-CC-DD-EE-0f", **changed}
    return BmcConfig(**values)  # type: ignore[arg-type]


def test_a_bmc_is_stored_in_one_form() -> None:
    checked = policy.checked_bmc(bmc(host="FD00::0001"), "secret")
    assert (checked.driver, checked.host, checked.port) == ("ipmi", "fd00::1", 623)
    assert checked.boot_mac == "aa:bb:cc:dd:ee:0f"
    assert policy.checked_bmc(bmc(host="BMC-1.rack.example"), "secret").host == "bmc-1.rack.example"


@pytest.mark.parametrize(
    ("config", "password", "field"),
    [
        (bmc(driver="redfish"), "secret", "config.driver"),
        (bmc(host=""), "secret", "config.host"),
        (bmc(host="a b"), "secret", "config.host"),
        (bmc(host="x" * 300), "secret", "config.host"),
        (bmc(port=65536), "secret", "config.port"),
        (bmc(username=""), "secret", "config.username"),
        (bmc(username="x" * 17), "secret", "config.username"),
        (bmc(), "", "password"),
        (bmc(), "x" * 21, "password"),
        (bmc(boot_mac="aa:bb"), "secret", "config.boot_mac"),
        (bmc(boot_mac="00:00:00:00:00:00"), "secret", "config.boot_mac"),
    ],
)
def test_a_bad_bmc_is_refused_by_field(config: BmcConfig, password: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        policy.checked_bmc(config, password)
    assert refused.value.field == field
    assert password not in refused.value.message or not password


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (MachineConfig(kernel_url="ftp://x/y"), "config.kernel_url"),
        (MachineConfig(kernel_url="http://x/y\nchain evil"), "config.kernel_url"),
        (MachineConfig(kernel_url="http:///y"), "config.kernel_url"),
        (MachineConfig(kernel_url="http://x/y", initrd_url="nonsense"), "config.initrd_url"),
        (MachineConfig(initrd_url="http://x/y"), "config.initrd_url"),
        (MachineConfig(kernel_args="quiet\nshell"), "config.kernel_args"),
        (MachineConfig(kernel_args="x" * 2049), "config.kernel_args"),
    ],
)
def test_a_config_that_would_break_a_boot_script_is_refused(config: MachineConfig, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        policy.check_machine_config(config)
    assert refused.value.field == field


def test_a_plain_config_is_accepted() -> None:
    policy.check_machine_config(MachineConfig())
    policy.check_machine_config(
        MachineConfig(kernel_url="http://10.0.0.1:8080/k", initrd_url="tftp://h/i", kernel_args="console=ttyS0 quiet")
    )


def claim(**changed: object) -> Claim:
    values: dict[str, object] = {
        "id": "c1",
        "project": "p1",
        "acquire": to_timestamp(NOW - SECOND),
        "allocations": [Allocation(provider="v1", resource_type="a"), Allocation(provider="v1", resource_type="b")],
        **changed,
    }
    return Claim(**values)  # type: ignore[arg-type]


def test_a_claim_gives_its_provider() -> None:
    assert policy.check_claim(claim(), MINE, NOW) == "v1"
    assert policy.check_claim(claim(acquire=to_timestamp(NOW), release=to_timestamp(NOW + 1)), MINE, NOW) == "v1"
    assert policy.check_claim(claim(project="p2"), SYSTEM, NOW) == "v1"


@pytest.mark.parametrize(
    ("changed", "kind", "reason"),
    [
        ({"project": "p2"}, NotFound, "NOT_FOUND"),
        ({"acquire": to_timestamp(NOW + 1)}, FailedPrecondition, "CLAIM_NOT_ACTIVE"),
        ({"release": to_timestamp(NOW)}, FailedPrecondition, "CLAIM_NOT_ACTIVE"),
        ({"state": CLAIM_STATE_RELEASED}, FailedPrecondition, "CLAIM_NOT_ACTIVE"),
        ({"allocations": []}, InvalidArgument, "INVALID_FIELD"),
        ({"allocations": [Allocation(provider="v1"), Allocation(provider="v2")]}, InvalidArgument, "INVALID_FIELD"),
    ],
)
def test_a_claim_that_no_machine_can_be_made_of(
    changed: dict[str, object], kind: type[MulliganError], reason: str
) -> None:
    with pytest.raises(kind) as refused:
        policy.check_claim(claim(**changed), MINE, NOW)
    assert refused.value.reason == reason


def machine(state: int, deadline_us: int | None = None) -> Machine:
    return Machine(
        *("m1", "r1", "p1", "c1", None, "v1", "", "", "", state, NOW, "", deadline_us, "o1", 0, 1),
        *("", None, None, None, None, "", "", NOW),
    )


@pytest.mark.parametrize(
    ("state", "deadline_us", "may"),
    [
        (ACTIVE, None, True),
        (FAILED, None, True),
        (PROVISIONING, NOW + SECOND, False),
        (PROVISIONING, NOW - SECOND, False),
        (PROVISIONING, NOW - 61 * SECOND, True),
        (DECOMMISSIONING, NOW - 61 * SECOND, False),
        (DECOMMISSIONED, None, False),
    ],
)
def test_which_machines_can_be_decommissioned(state: int, deadline_us: int | None, may: bool) -> None:
    if may:
        policy.check_can_decommission(machine(state, deadline_us), NOW)
        return
    with pytest.raises(FailedPrecondition) as refused:
        policy.check_can_decommission(machine(state, deadline_us), NOW)
    assert refused.value.reason == "WRONG_STATE"


def tree() -> RegionTree:
    records = [
        RegionRecord("site", "", "a"),
        RegionRecord("row", "site", ""),
        RegionRecord("rack", "row", ""),
        RegionRecord("far", "", "b"),
        RegionRecord("secret", "", "a", visibility="projects", projects=("p2",)),
    ]
    return RegionTree({record.id: record.to_json() for record in records})


def test_reach_is_the_tree_of_the_region_within_the_shard() -> None:
    territory = policy.Territory(tree(), "a")
    assert territory.reach("row", MINE) == ["rack", "row"]
    assert territory.reach("", SYSTEM) == ["rack", "row", "secret", "site"]
    assert policy.Territory(RegionTree({}), "a").reach("", SYSTEM) is None


@pytest.mark.parametrize(
    ("region", "kind", "reason"),
    [
        ("nowhere", NotFound, "NOT_FOUND"),
        ("secret", NotFound, "NOT_FOUND"),
        ("far", FailedPrecondition, "WRONG_REGION"),
    ],
)
def test_regions_out_of_reach(region: str, kind: type[MulliganError], reason: str) -> None:
    territory = policy.Territory(tree(), "a")
    for ask in (territory.reach, territory.check_owned):
        with pytest.raises(kind) as refused:
            ask(region, MINE)
        assert refused.value.reason == reason


def test_a_grant_that_is_bound_to_a_region_reaches_no_further() -> None:
    grants = (Grant("member", system=False, region="rack"),)
    bound = Caller(account="a", project="p1", grants=grants, permission="control.machine.list")
    territory = policy.Territory(tree(), "a")
    assert territory.reach("", bound) == ["rack"]
    assert territory.reach("site", bound) == ["rack"]


def test_lists_show_the_projects_own() -> None:
    assert policy.project_filter(MINE) == "p1"
    assert policy.project_filter(SYSTEM) is None
    with pytest.raises(NotFound):
        policy.project_filter(Caller(account="a", project="", grants=()))
    assert policy.sees(MINE, "p1")
    assert not policy.sees(MINE, "p2")
    assert not policy.sees(Caller(account="a", project="", grants=()), "")
