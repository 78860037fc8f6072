"""What a provider has of one resource type, and how much of it one claim may take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from mulligan.api.resource.v1 import provider_pb2
from mulligan.errors import InvalidArgument

# The largest amount that Postgres and protobuf can hold.
MAX_AMOUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Inventory:
    """A valid inventory with its defaults filled in; `capacity` is what all claims together may use at one instant."""

    resource_type: str
    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    capacity: int

    def refusal(self, amount: int) -> str:
        """Why one claim cannot take this amount, whatever is free; empty when it can."""
        if amount < self.min_unit:
            return f"less than min_unit {self.min_unit}"
        if amount > self.max_unit:
            return f"more than max_unit {self.max_unit}"
        if amount % self.step_size:
            return f"no multiple of step_size {self.step_size}"
        return f"more than the capacity {self.capacity}" if amount > self.capacity else ""


def capacity_of(total: int, reserved: int, ratio: float) -> int:
    """floor((total - reserved) * ratio), with the ratio as the decimal that it is written as: 0.29 of 100 is 29."""
    return math.floor((total - reserved) * Fraction(str(ratio)))


def parse_inventories(messages: Iterable[provider_pb2.Inventory], field: str) -> tuple[Inventory, ...]:
    """Valid inventories in order of resource type; raises InvalidArgument (INVALID_INVENTORY) for contradictions."""
    parsed = [parse_inventory(message, f"{field}[{index}]") for index, message in enumerate(messages)]
    seen: set[str] = set()
    for inventory in parsed:
        if inventory.resource_type in seen:
            raise invalid_inventory(f"{inventory.resource_type} is given twice; give each resource type once", field)
        seen.add(inventory.resource_type)
    return tuple(sorted(parsed, key=lambda each: each.resource_type))


def parse_inventory(message: provider_pb2.Inventory, field: str) -> Inventory:
    """One inventory with its defaults; raises InvalidArgument (INVALID_INVENTORY)."""
    numbers = (message.total, message.reserved, message.min_unit, message.max_unit, message.step_size)
    if min(numbers) < 0:
        raise invalid_inventory("amounts must not be negative", field)
    if not math.isfinite(message.allocation_ratio) or message.allocation_ratio < 0:
        raise invalid_inventory("allocation_ratio must be a number above 0; 0 means 1.0", field)
    ratio = message.allocation_ratio or 1.0
    if message.total < 1:
        raise invalid_inventory("total must be at least 1; leave the resource type out when there is none", field)
    if message.reserved > message.total:
        raise invalid_inventory(f"reserved {message.reserved} is more than total {message.total}", field)
    capacity = capacity_of(message.total, message.reserved, ratio)
    if capacity > MAX_AMOUNT:
        raise invalid_inventory(f"the capacity {capacity} does not fit 63 bits; use a smaller ratio or unit", field)
    min_unit, max_unit = message.min_unit or 1, message.max_unit or message.total
    step_size = message.step_size or 1
    _check_units(min_unit, max_unit, step_size, field)
    return Inventory(
        message.resource_type, message.total, message.reserved, min_unit, max_unit, step_size, ratio, capacity
    )


def _check_units(min_unit: int, max_unit: int, step_size: int, field: str) -> None:
    if min_unit > max_unit:
        raise invalid_inventory(f"min_unit {min_unit} is more than max_unit {max_unit}", field)
    if -(-min_unit // step_size) * step_size > max_unit:
        raise invalid_inventory(
            f"no multiple of step_size {step_size} lies between min_unit {min_unit} and max_unit {max_unit}", field
        )


def invalid_inventory(why: str, field: str) -> InvalidArgument:
    """The refusal of an inventory."""
    return InvalidArgument(f"{field}: {why}", reason="INVALID_INVENTORY", field=field)
