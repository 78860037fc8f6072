"""What a ClaimSpec may say, and how it is refused when it cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from mulligan.api.resource.v1 import claim_pb2
from mulligan.clock import SECOND
from mulligan.errors import InvalidArgument, NotFound
from mulligan.resource.model import ProviderGroup
from mulligan.resource.spec import CLOCK_TOLERANCE_US, MAX_GROUPS, Request
from mulligan.resource.timeline import FOREVER
from mulligan.resource.world import World
from tests.unit.resource_world import empty_world, identifier

NOW = 1_800_000_000 * SECOND
GROUP = identifier(2, 0)
CPU: dict[str, Any] = {"resource_type": "cpu", "min": 1}


@pytest.fixture
def world() -> World:
    world = empty_world()
    world.add_group(ProviderGroup(GROUP, identifier(1, 0), {}))
    return world


def group(**fields: Any) -> dict[str, Any]:
    """A valid request group with some fields replaced."""
    return {"resources": [CPU], **fields}


def spec(
    *groups: dict[str, Any], begin: int | None = None, end: int | None = None, **fields: Any
) -> claim_pb2.ClaimSpec:
    message = claim_pb2.ClaimSpec(groups=[claim_pb2.RequestGroup(**each) for each in groups], **fields)
    if begin is not None:
        message.acquire.FromMicroseconds(begin)
    if end is not None:
        message.release.FromMicroseconds(end)
    return message


def parse(world: World, message: claim_pb2.ClaimSpec) -> Request:
    return world.specs.parse(message, NOW)


def distance(**fields: str) -> dict[str, Any]:
    return {"from_group": "a", "distance_type": "failure", **fields}


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (spec(), "INVALID_FIELD", "spec.groups"),
        (spec(*[group()] * (MAX_GROUPS + 1)), "INVALID_FIELD", "spec.groups"),
        (spec({}), "INVALID_FIELD", "spec.groups[0].resources"),
        (spec(group(resources=[CPU, CPU])), "INVALID_FIELD", "spec.groups[0].resources"),
        (spec(group(name="a"), group(name="a")), "INVALID_FIELD", "spec.groups[1].name"),
        (spec(group(name="1"), group()), "INVALID_FIELD", "spec.groups[1].name"),
        (spec(group(name="x" * 65)), "INVALID_FIELD", "spec.groups[0].name"),
        (spec(group(name="a\nb")), "INVALID_FIELD", "spec.groups[0].name"),
        (spec(group(resources=[{**CPU, "min": 0}])), "INVALID_AMOUNT", "spec.groups[0].resources[0].min"),
        (spec(group(resources=[{**CPU, "min": -1}])), "INVALID_AMOUNT", "spec.groups[0].resources[0].min"),
        (spec(group(resources=[{**CPU, "min": 2, "max": 1}])), "INVALID_AMOUNT", "spec.groups[0].resources[0].max"),
        (spec(group(resources=[{**CPU, "max": -1}])), "INVALID_AMOUNT", "spec.groups[0].resources[0].max"),
        (
            spec(group(resources=[{"resource_type": "gpu", "min": 1}])),
            "UNKNOWN_TYPE",
            "spec.groups[0].resources[0].resource_type",
        ),
        (spec(group(capabilities=[{"require": ["nope"]}])), "UNKNOWN_TYPE", "spec.groups[0].capabilities[0].require"),
        (spec(group(capabilities=[{"forbid": ["nope"]}])), "UNKNOWN_TYPE", "spec.groups[0].capabilities[0].forbid"),
        (spec(group(capabilities=[{"any": ["nope"]}])), "UNKNOWN_TYPE", "spec.groups[0].capabilities[0].any"),
        (
            spec(group(resources=[{**CPU, "capabilities": {"any": ["nope"]}}])),
            "UNKNOWN_TYPE",
            "spec.groups[0].resources[0].capabilities.any",
        ),
        (spec(group(provider_groups={"require": ["rack"]})), "INVALID_UUID", "spec.groups[0].provider_groups.require"),
        (spec(group(), consumer="me"), "INVALID_UUID", "spec.consumer"),
        (spec(group(), project="mine"), "INVALID_UUID", "spec.project"),
        (spec(group(), strategy=99), "INVALID_FIELD", "spec.strategy"),
        (
            spec(group(name="a", distances=[distance(at_least="rack")])),
            "INVALID_FIELD",
            "spec.groups[0].distances[0].from_group",
        ),
        (
            spec(group(name="a"), group(distances=[distance()])),
            "INVALID_FIELD",
            "spec.groups[1].distances[0]",
        ),
        (
            spec(group(name="a"), group(distances=[distance(at_least="moon")])),
            "UNKNOWN_TYPE",
            "spec.groups[1].distances[0].at_least",
        ),
        (
            spec(group(name="a"), group(distances=[distance(at_least="row", at_most="rack")])),
            "INVALID_FIELD",
            "spec.groups[1].distances[0]",
        ),
        (
            spec(group(name="a"), group(distances=[{**distance(at_least="row"), "distance_type": "latency"}])),
            "UNKNOWN_TYPE",
            "spec.groups[1].distances[0].distance_type",
        ),
        (spec(group(), begin=NOW - CLOCK_TOLERANCE_US - 1), "INVALID_WINDOW", "spec.acquire"),
        (spec(group(), begin=NOW + 9, end=NOW + 9), "INVALID_WINDOW", "spec.release"),
        (spec(group(), begin=NOW + 9, end=NOW + 8), "INVALID_WINDOW", "spec.release"),
        (spec(group(), end=NOW), "INVALID_WINDOW", "spec.release"),
        (spec(group(), begin=NOW - SECOND, end=NOW), "INVALID_WINDOW", "spec.release"),
    ],
)
def test_what_cannot_be_meant_is_refused(world: World, message: claim_pb2.ClaimSpec, reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(world, message)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_an_unknown_provider_group_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        parse(world, spec(group(provider_groups={"any": [identifier(2, 9)]})))


def test_a_window_begins_now_and_stays_open_unless_it_says_otherwise(world: World) -> None:
    request = parse(world, spec(group()))
    assert (request.acquire_us, request.release_us) == (NOW, FOREVER)


@pytest.mark.parametrize(("begin", "expected"), [(NOW - CLOCK_TOLERANCE_US, NOW), (NOW, NOW), (NOW + 5, NOW + 5)])
def test_a_clock_that_is_a_little_behind_means_now(world: World, begin: int, expected: int) -> None:
    request = parse(world, spec(group(), begin=begin, end=NOW + SECOND))
    assert (request.acquire_us, request.release_us) == (expected, NOW + SECOND)


def test_everything_that_a_spec_can_say_arrives(world: World) -> None:
    message = spec(
        group(name="a"),
        {
            "name": "b",
            "exclusive": True,
            "resources": [
                {**CPU, "min": 2, "max": 9, "capabilities": {"require": ["avx2"]}},
                {"resource_type": "disk", "min": 3},
            ],
            "capabilities": [{"require": ["ssd"]}, {"forbid": ["vmx"], "any": ["avx2", "ssd"]}],
            "provider_groups": {"require": [GROUP], "forbid": [], "any": [GROUP.upper()]},
            "distances": [distance(at_least="rack", at_most="row")],
        },
        consumer=identifier(4, 1),
        project=identifier(5, 1),
        strategy=claim_pb2.STRATEGY_RANDOM,
    )
    request = parse(world, message)
    first, second = request.demand.groups
    assert (request.consumer, request.project, request.strategy) == (identifier(4, 1), identifier(5, 1), 3)
    assert (first.name, first.exclusive, first.membership.any_of) == ("a", False, ())
    assert [(each.resource_type, each.minimum, each.maximum) for each in second.amounts] == [
        ("cpu", 2, 9),
        ("disk", 3, 0),
    ]
    assert second.amounts[0].capabilities is not None
    assert second.amounts[0].capabilities.require == {"avx2"}
    assert [each.label for each in second.alternatives] == ["ssd", "not vmx and any of avx2, ssd"]
    assert second.membership.require == {GROUP}
    assert second.membership.any_of == (frozenset([GROUP]),)
    [bound] = second.distances
    assert (bound.origin, bound.at_least, bound.at_most, bound.farthest) == (0, 1, 2, 3)
    assert bound.label == "distance failure from a at least rack and at most row"
    assert request.demand.least == {"cpu": 3, "disk": 3}


def test_names_of_groups_are_their_positions_when_they_have_none(world: World) -> None:
    request = parse(world, spec(group(), group(), group(name="x")))
    assert [each.name for each in request.demand.groups] == ["0", "1", "x"]


def test_pack_is_the_default_and_every_claim_has_a_consumer(world: World) -> None:
    requests = [parse(world, spec(group())) for _ in range(2)]
    assert requests[0].strategy == claim_pb2.STRATEGY_PACK
    assert requests[0].consumer != requests[1].consumer


def test_the_same_groups_mean_the_same_demand_until_the_vocabulary_changes(world: World) -> None:
    first = parse(world, spec(group(name="a"))).demand
    assert parse(world, spec(group(name="a"), end=NOW + 5)).demand is first
    assert parse(world, spec(group(name="b"))).demand is not first
    world.remove_group(GROUP)
    assert parse(world, spec(group(name="a"))).demand is not first
