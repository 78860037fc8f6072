"""Capacities and units, and the inventories that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest

from mulligan.api.resource.v1.provider_pb2 import Inventory
from mulligan.errors import InvalidArgument
from mulligan.resource.inventory import capacity_of, parse_inventories, parse_inventory


@pytest.mark.parametrize(
    ("total", "reserved", "ratio", "capacity"),
    [
        (24, 0, 16.0, 384),
        (137438953472, 268435456, 1.5, 205755777024),
        (100, 0, 0.29, 29),
        (10, 0, 1.1, 11),
        (10, 1, 0.99, 8),
        (3, 3, 1.0, 0),
        (2**62, 0, 1.0, 2**62),
        (10**18 + 1, 0, 1.0, 10**18 + 1),
    ],
)
def test_the_capacity_is_what_the_decimals_say(total: int, reserved: int, ratio: float, capacity: int) -> None:
    assert capacity_of(total, reserved, ratio) == capacity


def test_defaults_are_filled_in() -> None:
    inventory = parse_inventory(Inventory(resource_type="memory", total=64), "inventories[0]")
    assert (inventory.min_unit, inventory.max_unit, inventory.step_size, inventory.allocation_ratio) == (1, 64, 1, 1.0)
    assert inventory.capacity == 64


@pytest.mark.parametrize(
    "fields",
    [
        {"total": 0},
        {"total": -10},
        {"total": 10, "reserved": 11},
        {"total": 10, "reserved": -1},
        {"total": 10, "min_unit": -1},
        {"total": 10, "max_unit": -1},
        {"total": 10, "step_size": -1},
        {"total": 10, "min_unit": 6, "max_unit": 5},
        {"total": 10, "min_unit": 11},
        {"total": 10, "step_size": 11},
        {"total": 10, "min_unit": 3, "max_unit": 5, "step_size": 6},
        {"total": 10, "allocation_ratio": -1.0},
        {"total": 10, "allocation_ratio": float("nan")},
        {"total": 10, "allocation_ratio": float("inf")},
        {"total": 2**62, "allocation_ratio": 4.0},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_inventory(Inventory(resource_type="memory", **fields), "inventories[0]")
    assert refused.value.reason == "INVALID_INVENTORY"
    assert refused.value.field == "inventories[0]"


def test_a_resource_type_is_given_once() -> None:
    twice = [Inventory(resource_type="memory", total=1), Inventory(resource_type="memory", total=2)]
    with pytest.raises(InvalidArgument) as refused:
        parse_inventories(twice, "inventories")
    assert refused.value.reason == "INVALID_INVENTORY"


@pytest.mark.parametrize(
    ("amount", "why"),
    [(8, ""), (32, ""), (4, "min_unit"), (40, "max_unit"), (12, "step_size"), (24, "")],
)
def test_units_bound_what_one_claim_may_take(amount: int, why: str) -> None:
    message = Inventory(resource_type="memory", total=64, min_unit=8, max_unit=32, step_size=8)
    refusal = parse_inventory(message, "inventories[0]").refusal(amount)
    assert why in refusal
    assert bool(why) == bool(refusal)
