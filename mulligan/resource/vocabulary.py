"""The codes that everyone in a shard agrees on: what exists, and what a code may look like."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mulligan.api.resource.v1 import vocabulary_pb2
from mulligan.errors import InvalidArgument

_CODE = re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)*")
MAX_CODE_CHARACTERS = 64
MAX_UNIT_CHARACTERS = 32
MAX_POSITIONS = 32


class Vocabulary:
    """Provider types, resource types with their units, capabilities, distance types with their positions."""

    __slots__ = ("capabilities", "distance_types", "provider_types", "resource_types")

    def __init__(self) -> None:
        """Nothing is defined."""
        self.provider_types: set[str] = set()
        self.resource_types: dict[str, str] = {}
        self.capabilities: set[str] = set()
        # Positions are ordered from near to far.
        self.distance_types: dict[str, tuple[str, ...]] = {}

    def add(self, other: Vocabulary) -> None:
        """Takes over what is not known yet."""
        self.provider_types |= other.provider_types
        self.capabilities |= other.capabilities
        self.resource_types = {**other.resource_types, **self.resource_types}
        self.distance_types = {**other.distance_types, **self.distance_types}

    def remove(self, other: Vocabulary) -> None:
        """Drops the codes of `other`."""
        self.provider_types -= other.provider_types
        self.capabilities -= other.capabilities
        for code in other.resource_types:
            self.resource_types.pop(code, None)
        for code in other.distance_types:
            self.distance_types.pop(code, None)

    def require_provider_type(self, code: str, field: str) -> None:
        """Raises InvalidArgument (UNKNOWN_TYPE) when it is not defined."""
        if code not in self.provider_types:
            raise unknown_type("provider type", code, field)

    def require_resource_type(self, code: str, field: str) -> None:
        """Raises InvalidArgument (UNKNOWN_TYPE) when it is not defined."""
        if code not in self.resource_types:
            raise unknown_type("resource type", code, field)

    def require_capabilities(self, codes: Iterable[str], field: str) -> None:
        """Raises InvalidArgument (UNKNOWN_TYPE) when one is not defined."""
        for code in codes:
            if code not in self.capabilities:
                raise unknown_type("capability", code, field)

    def positions(self, distance_type: str, field: str) -> tuple[str, ...]:
        """The positions of a distance type; raises InvalidArgument (UNKNOWN_TYPE) when it is not defined."""
        if distance_type not in self.distance_types:
            raise unknown_type("distance type", distance_type, field)
        return self.distance_types[distance_type]

    def position(self, distance_type: str, position: str, field: str) -> int:
        """Index of a position; raises InvalidArgument (UNKNOWN_TYPE) when the distance type has no such one."""
        positions = self.positions(distance_type, field)
        if position not in positions:
            raise InvalidArgument(
                f"{field}: {distance_type} has no position {position[:64]!r}; it has {', '.join(positions)}",
                reason="UNKNOWN_TYPE",
                field=field,
            )
        return positions.index(position)

    def to_message(self) -> vocabulary_pb2.Vocabulary:
        """Everything in order, as it goes over the wire."""
        return vocabulary_pb2.Vocabulary(
            provider_types=sorted(self.provider_types),
            capabilities=sorted(self.capabilities),
            resource_types=[
                vocabulary_pb2.ResourceType(code=code, unit=unit) for code, unit in sorted(self.resource_types.items())
            ],
            distance_types=[
                vocabulary_pb2.DistanceType(code=code, positions=positions)
                for code, positions in sorted(self.distance_types.items())
            ],
        )


def parse_vocabulary(message: vocabulary_pb2.Vocabulary) -> Vocabulary:
    """A vocabulary from the wire; raises InvalidArgument (INVALID_FIELD) for anything that is no code."""
    parsed = Vocabulary()
    parsed.provider_types = {check_code(code, "vocabulary.provider_types") for code in message.provider_types}
    parsed.capabilities = {check_code(code, "vocabulary.capabilities") for code in message.capabilities}
    for kind in message.resource_types:
        if len(kind.unit) > MAX_UNIT_CHARACTERS or not (kind.unit.isprintable() and kind.unit.strip()):
            raise InvalidArgument(
                f"{kind.code[:64]!r} needs a unit of at most {MAX_UNIT_CHARACTERS} characters, such as bytes or cores",
                field="vocabulary.resource_types.unit",
            )
        parsed.resource_types[check_code(kind.code, "vocabulary.resource_types.code")] = kind.unit
    for distance in message.distance_types:
        code = check_code(distance.code, "vocabulary.distance_types.code")
        parsed.distance_types[code] = _positions(code, list(distance.positions))
    return parsed


def check_code(code: str, field: str) -> str:
    """The code itself; raises InvalidArgument unless it is lower-case words joined by dots."""
    if len(code) > MAX_CODE_CHARACTERS or not _CODE.fullmatch(code):
        raise InvalidArgument(
            f"{field} has {code[:64]!r}; a code is lower-case words joined by dots, such as cpu.x86.avx2,"
            f" of at most {MAX_CODE_CHARACTERS} characters",
            field=field,
        )
    return code


def unknown_type(kind: str, code: str, field: str) -> InvalidArgument:
    """The refusal of a code that nobody defined."""
    return InvalidArgument(
        f"{field}: there is no {kind} {code[:64]!r} here; GetVocabulary tells which there are",
        reason="UNKNOWN_TYPE",
        field=field,
    )


def _positions(code: str, positions: list[str]) -> tuple[str, ...]:
    field = "vocabulary.distance_types.positions"
    if not 2 <= len(positions) <= MAX_POSITIONS:
        raise InvalidArgument(f"{code} needs 2 to {MAX_POSITIONS} positions, ordered from near to far", field=field)
    if len(set(positions)) != len(positions):
        raise InvalidArgument(f"{code} has a position twice; give each position once, from near to far", field=field)
    return tuple(check_code(position, field) for position in positions)
