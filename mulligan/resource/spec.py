"""Turns a ClaimSpec into what the planner understands; every way in which one can be wrong is refused here."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass

from mulligan.api.resource.v1 import claim_pb2
from mulligan.clock import SECOND, from_timestamp
from mulligan.errors import InvalidArgument, NotFound
from mulligan.ids import new_id, parse_id
from mulligan.resource.demand import Amount, Capabilities, Demand, GroupDemand
from mulligan.resource.distance import Distance, Membership
from mulligan.resource.inventory import MAX_AMOUNT
from mulligan.resource.timeline import FOREVER
from mulligan.resource.vocabulary import Vocabulary

MAX_GROUPS = 16
MAX_RESOURCES = 64
MAX_CONSTRAINTS = 256
MAX_GROUP_NAME_CHARACTERS = 64

# A claim may begin this long before the service's own now, because clocks differ; it then begins now.
CLOCK_TOLERANCE_US = 60 * SECOND

_REMEMBERED_DEMANDS = 1024

_STRATEGIES = frozenset(claim_pb2.Strategy.values())

_CANONICAL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


@dataclass(slots=True)
class Request:
    """A valid ClaimSpec. The window is [acquire_us, release_us); FOREVER is open-ended."""

    demand: Demand
    consumer: str
    # Empty: the token's project.
    project: str
    acquire_us: int
    release_us: int
    strategy: int


class SpecParser:
    """Validates specs. Claims mostly repeat a few shapes, so what a spec's groups mean is remembered."""

    def __init__(self, vocabulary: Vocabulary, provider_groups: Container[str]) -> None:
        """Both are read when a shape is first seen: call `forget` when they change."""
        self._vocabulary = vocabulary
        self._provider_groups = provider_groups
        self._demands: OrderedDict[tuple[bytes, ...], Demand] = OrderedDict()

    def forget(self) -> None:
        """What was remembered no longer holds."""
        self._demands.clear()

    def parse(self, spec: claim_pb2.ClaimSpec, now: int) -> Request:
        """Raises InvalidArgument (any INVALID_ reason, UNKNOWN_TYPE), NotFound for an unknown provider group."""
        acquire, release = parse_window(spec, now)
        if spec.strategy not in _STRATEGIES:
            raise InvalidArgument(f"there is no strategy {spec.strategy}", field="spec.strategy")
        return Request(
            demand=self._demand(spec),
            consumer=canonical_id(spec.consumer, "spec.consumer") if spec.consumer else new_id(),
            project=canonical_id(spec.project, "spec.project") if spec.project else "",
            acquire_us=acquire,
            release_us=release,
            strategy=spec.strategy or claim_pb2.STRATEGY_PACK,
        )

    def _demand(self, spec: claim_pb2.ClaimSpec) -> Demand:
        if not 1 <= len(spec.groups) <= MAX_GROUPS:
            raise InvalidArgument(f"a claim has 1 to {MAX_GROUPS} groups", field="spec.groups")
        key = tuple([group.SerializeToString() for group in spec.groups])
        demand = self._demands.get(key)
        if demand is None:
            demand = self._demands[key] = self._parse_groups(spec.groups)
            if len(self._demands) > _REMEMBERED_DEMANDS:
                self._demands.popitem(last=False)
        else:
            self._demands.move_to_end(key)
        return demand

    def _parse_groups(self, messages: Sequence[claim_pb2.RequestGroup]) -> Demand:
        names: list[str] = []
        groups = []
        for index, message in enumerate(messages):
            field = f"spec.groups[{index}]"
            groups.append(self._parse_group(message, _group_name(message, index, names, field), names, field))
            names.append(groups[-1].name)
        least: dict[str, int] = {}
        for group in groups:
            for amount in group.amounts:
                least[amount.resource_type] = least.get(amount.resource_type, 0) + amount.minimum
        if max(least.values(), default=0) > MAX_AMOUNT:
            raise _invalid_amount("the groups ask for more together than 63 bits hold; ask for less", "spec.groups")
        return Demand(tuple(groups), least)

    def _parse_group(
        self, message: claim_pb2.RequestGroup, name: str, before: Sequence[str], field: str
    ) -> GroupDemand:
        if not message.resources and not message.exclusive:
            raise InvalidArgument(f"{field}.resources is empty; ask for something", field=f"{field}.resources")
        if len(message.resources) > MAX_RESOURCES:
            raise InvalidArgument(f"{field} has more than {MAX_RESOURCES} resources", field=f"{field}.resources")
        _check_count(len(message.capabilities) + len(message.distances), field)
        amounts = tuple(
            self._parse_amount(each, f"{field}.resources[{at}]") for at, each in enumerate(message.resources)
        )
        if len({amount.resource_type for amount in amounts}) < len(amounts):
            raise InvalidArgument(f"{field} has a resource type twice; add them up", field=f"{field}.resources")
        return GroupDemand(
            name=name,
            amounts=amounts,
            alternatives=tuple(
                self._parse_capabilities(each, f"{field}.capabilities[{at}]")
                for at, each in enumerate(message.capabilities)
            ),
            membership=self._parse_membership(message.provider_groups, f"{field}.provider_groups"),
            distances=tuple(
                self._parse_distance(each, before, f"{field}.distances[{at}]")
                for at, each in enumerate(message.distances)
            ),
            exclusive=message.exclusive,
        )

    def _parse_amount(self, message: claim_pb2.ResourceConstraint, field: str) -> Amount:
        self._vocabulary.require_resource_type(message.resource_type, f"{field}.resource_type")
        if message.min <= 0:
            raise _invalid_amount(f"{field}.min must be at least 1, not {message.min}", f"{field}.min")
        if message.max < 0 or 0 < message.max < message.min:
            raise _invalid_amount(f"{field}.max must be 0 or at least min {message.min}", f"{field}.max")
        capabilities = (
            self._parse_capabilities(message.capabilities, f"{field}.capabilities")
            if message.HasField("capabilities")
            else None
        )
        return Amount(message.resource_type, message.min, message.max, capabilities)

    def _parse_capabilities(self, message: claim_pb2.CapabilityConstraint, field: str) -> Capabilities:
        parts = [("require", message.require), ("forbid", message.forbid), ("any", message.any)]
        for part, codes in parts:
            _check_count(len(codes), f"{field}.{part}")
            self._vocabulary.require_capabilities(codes, f"{field}.{part}")
        return Capabilities(*(frozenset(codes) for _, codes in parts))

    def _parse_membership(self, message: claim_pb2.ProviderGroupConstraint, field: str) -> Membership:
        require = self._parse_group_ids(message.require, f"{field}.require")
        forbid = self._parse_group_ids(message.forbid, f"{field}.forbid")
        any_of = self._parse_group_ids(message.any, f"{field}.any")
        return Membership(require, forbid, (any_of,) if any_of else ())

    def _parse_group_ids(self, ids: Collection[str], field: str) -> frozenset[str]:
        _check_count(len(ids), field)
        parsed = frozenset(canonical_id(each, field) for each in ids)
        for each in parsed:
            if each not in self._provider_groups:
                raise NotFound(
                    f"{field}: there is no provider group {each} here; ListProviderGroups tells which there are",
                    metadata={"provider_group": each},
                )
        return parsed

    def _parse_distance(self, message: claim_pb2.DistanceConstraint, before: Sequence[str], field: str) -> Distance:
        if message.from_group not in before:
            raise InvalidArgument(
                f"{field}.from_group must be the name of a group that stands before this one,"
                f" not {message.from_group[:64]!r}",
                field=f"{field}.from_group",
            )
        kind = message.distance_type
        farthest = len(self._vocabulary.positions(kind, f"{field}.distance_type")) - 1
        if not message.at_least and not message.at_most:
            raise InvalidArgument(f"{field} needs at_least or at_most", field=field)
        bounds = [f"{word} {at}" for word, at in (("at least", message.at_least), ("at most", message.at_most)) if at]
        parsed = Distance(
            origin=before.index(message.from_group),
            distance_type=kind,
            at_least=self._position(kind, message.at_least, 0, f"{field}.at_least"),
            at_most=self._position(kind, message.at_most, farthest, f"{field}.at_most"),
            farthest=farthest,
            label=f"distance {kind} from {message.from_group} {' and '.join(bounds)}",
        )
        if parsed.at_least > parsed.at_most:
            raise InvalidArgument(f"{field}: at_least is farther than at_most; swap them", field=field)
        return parsed

    def _position(self, distance_type: str, position: str, default: int, field: str) -> int:
        return self._vocabulary.position(distance_type, position, field) if position else default


def parse_window(spec: claim_pb2.ClaimSpec, now: int) -> tuple[int, int]:
    """[acquire, release) in microseconds; raises InvalidArgument (INVALID_WINDOW).

    An acquire time up to CLOCK_TOLERANCE_US before `now` counts as now; before that it is refused.
    """
    acquire = from_timestamp(spec.acquire, "spec.acquire") if spec.HasField("acquire") else now
    release = from_timestamp(spec.release, "spec.release") if spec.HasField("release") else FOREVER
    if acquire < now - CLOCK_TOLERANCE_US:
        raise _invalid_window("spec.acquire is in the past; leave it out to begin now", "spec.acquire")
    acquire = max(acquire, now)
    if release <= acquire:
        raise _invalid_window("spec.release must be later than spec.acquire and than now", "spec.release")
    return acquire, release


def canonical_id(text: str, field: str) -> str:
    """The canonical form of a UUID, at little cost when it has it; raises InvalidArgument (INVALID_UUID)."""
    return text if _CANONICAL_ID(text) else parse_id(text, field)


def _group_name(message: claim_pb2.RequestGroup, index: int, before: Collection[str], field: str) -> str:
    name = message.name or str(index)
    if len(name) > MAX_GROUP_NAME_CHARACTERS or not name.isprintable():
        raise InvalidArgument(
            f"{field}.name must have at most {MAX_GROUP_NAME_CHARACTERS} printable characters", field=f"{field}.name"
        )
    if name in before:
        raise InvalidArgument(f"{field}.name: another group is called {name!r} too", field=f"{field}.name")
    return name


def _check_count(count: int, field: str) -> None:
    if count > MAX_CONSTRAINTS:
        raise InvalidArgument(f"{field} has more than {MAX_CONSTRAINTS} constraints", field=field)


def _invalid_amount(message: str, field: str) -> InvalidArgument:
    return InvalidArgument(message, reason="INVALID_AMOUNT", field=field)


def _invalid_window(message: str, field: str) -> InvalidArgument:
    return InvalidArgument(message, reason="INVALID_WINDOW", field=field)
