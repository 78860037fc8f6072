"""Which actors a component should keep."""

from __future__ import annotations

from cluster.shards import SERVICES_OF_COMPONENT, Target, desired_shards, desired_targets, leftover
from mulligan.meta.regions import RegionRecord

REGIONS = {
    "r1": RegionRecord("r1", "", "").to_json(),
    "r2": RegionRecord("r2", "r1", "east").to_json(),
    "r3": RegionRecord("r3", "r2", "").to_json(),
}


def test_services_that_are_not_partitioned_have_one_shard() -> None:
    assert desired_shards("iam", REGIONS) == {"global"}
    assert desired_shards("meta", {}) == {"global"}


def test_partitioned_services_have_the_shards_that_regions_name_and_always_the_default() -> None:
    for service in ("resource", "control", "results"):
        assert desired_shards(service, {}) == {"default"}
        assert desired_shards(service, REGIONS) == {"default", "east"}


def test_targets_of_each_component() -> None:
    def paths(component: str) -> list[str]:
        return [target.path for target in desired_targets(component, REGIONS, "host-1", 2)]

    assert paths("iam") == ["iam/global", "gateway-iam/host-1"]
    assert paths("resource") == ["resource/default", "resource/east", "gateway-resource/host-1"]
    assert paths("control") == [
        *("control/default", "control/east", "results/default", "results/east"),
        *("gateway-control/host-1", "boot/host-1"),
    ]
    assert paths("executor") == ["executor/host-1-1", "executor/host-1-2"]


def test_what_belongs_to_a_host_is_pinned_to_it() -> None:
    pinned = {
        target.service
        for name in SERVICES_OF_COMPONENT
        for target in desired_targets(name, {}, "h", 1)
        if target.pinned
    }
    assert pinned == {"gateway-iam", "gateway-meta", "gateway-resource", "gateway-control", "boot", "executor"}


def test_leftovers_are_this_hosts_and_this_components_alone() -> None:
    names = [
        *("resource/default#4", "resource/west#1", "gateway-resource/h#2", "gateway-resource/other#1"),
        *("iam/global#1", "executor/h-2#1", "executor/other-1#1", "nonsense"),
    ]
    resource = leftover(
        names, [Target("resource", "default"), Target("gateway-resource", "h")], ["resource", "gateway-resource"], "h"
    )
    assert resource == ["resource/west#1"]
    assert leftover(names, [Target("executor", "h-1")], ["executor"], "h") == ["executor/h-2#1"]
