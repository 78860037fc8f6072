"""Which of the providers that fit is taken, and the traps of a search that skips what it believes hopeless."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.resource.planner import MAX_COST, Planner, Scope, _Search
from mulligan.resource.timeline import FOREVER
from mulligan.resource.world import World
from tests.unit.resource_world import Naive, Use, chosen_by, identifier, world_of

NOW = 100
REGION = identifier(1, 0)
X, Y, Z = (identifier(2, number) for number in range(3))
PACK, SPREAD, RANDOM = claim_pb2.STRATEGY_PACK, claim_pb2.STRATEGY_SPREAD, claim_pb2.STRATEGY_RANDOM


def providers(
    capacities: list[int], groups: list[list[str]] | None = None, spans: dict[str, int] | None = None
) -> Naive:
    """Providers with cpu only."""
    naive = Naive(spans=spans or {})
    for number, capacity in enumerate(capacities):
        has = provider_pb2.Inventory(resource_type="cpu", total=capacity, min_unit=1, max_unit=100, step_size=1)
        has.allocation_ratio = 1.0
        mine = groups[number] if groups else []
        naive.configs[identifier(3, number)] = provider_pb2.ProviderConfig(inventories=[has], groups=mine)
        naive.regions[identifier(3, number)] = REGION
    return naive


def spec(*amounts: int, **distance: str) -> claim_pb2.ClaimSpec:
    """Groups of cpu; the last has the distance from the first."""
    message = claim_pb2.ClaimSpec()
    for number, amount in enumerate(amounts):
        group = message.groups.add(name=f"g{number}")
        group.resources.add(resource_type="cpu", min=amount)
    if distance:
        message.groups[-1].distances.add(from_group="g0", distance_type="failure", **distance)
    return message


def plan(world: World, wanted: claim_pb2.ClaimSpec, strategy: int, end: int = FOREVER) -> tuple[str, ...]:
    """Numbers of the providers; none when it does not fit."""
    planner = Planner(world, Random(7))
    placements = planner.plan(world.specs.parse(wanted, NOW).demand, Scope([REGION]), NOW, end, strategy)
    return chosen_by(placements or [])


def numbers(chosen: list[tuple[str, ...]]) -> list[int]:
    return [int(each[0][-12:]) for each in chosen]


@pytest.mark.parametrize("size", [3, 150])
def test_pack_fills_one_provider_before_the_next(size: int) -> None:
    world = world_of(providers([4] * size), NOW)
    assert numbers([plan(world, spec(1), PACK) for _ in range(10)]) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [3, 150])
def test_spread_takes_the_next_in_turn(size: int) -> None:
    world = world_of(providers([4] * size), NOW)
    assert numbers([plan(world, spec(1), SPREAD) for _ in range(size + 2)]) == [*range(size), 0, 1]


def test_spread_skips_what_is_full_and_goes_on_behind_it() -> None:
    world = world_of(providers([2, 1, 2, 2]), NOW)
    taken = Counter(numbers([plan(world, spec(1), SPREAD) for _ in range(7)]))
    assert taken == {0: 2, 1: 1, 2: 2, 3: 2}
    assert plan(world, spec(1), SPREAD) == ()


def test_random_takes_any_and_misses_none() -> None:
    world = world_of(providers([1] * 70), NOW)
    taken = numbers([plan(world, spec(1), RANDOM) for _ in range(70)])
    assert sorted(taken) == list(range(70))
    assert plan(world, spec(1), RANDOM) == ()


def test_the_special_is_kept_for_those_who_ask_for_it() -> None:
    naive = providers([4, 4])
    naive.configs[identifier(3, 0)].capabilities.append("ssd")
    assert numbers([plan(world_of(naive, NOW), spec(1), PACK)]) == [1]


def test_a_gap_between_reservations_is_found_among_many_that_are_booked() -> None:
    naive = providers([4] * 100)
    for provider in naive.configs:
        naive.uses.append(Use(provider, "cpu", 4, NOW + 10, NOW + 20))
        if provider != identifier(3, 90):
            naive.uses.append(Use(provider, "cpu", 4, NOW + 30, NOW + 40))
    world, wanted = world_of(naive, NOW), spec(4)
    wanted.acquire.FromMicroseconds(NOW + 30)
    planner = Planner(world)
    placements = planner.plan(world.specs.parse(wanted, NOW).demand, Scope([REGION]), NOW + 30, NOW + 40, PACK)
    assert chosen_by(placements or []) == (identifier(3, 90),)


def test_use_that_ended_makes_room_without_anybody_saying_so() -> None:
    naive = providers([4])
    naive.uses.append(Use(identifier(3, 0), "cpu", 4, 0, NOW + 10))
    world = world_of(naive, NOW)
    assert plan(world, spec(1), PACK) == ()
    world.advance(NOW + 10)
    assert plan(world, spec(1), PACK) == (identifier(3, 0),)


def test_a_provider_out_of_service_takes_nothing() -> None:
    naive = providers([4, 4])
    naive.out.add(identifier(3, 0))
    assert numbers([plan(world_of(naive, NOW), spec(1), PACK)]) == [1]


def test_providers_without_groups_are_near_to_themselves_only_and_not_alike() -> None:
    naive = providers([3, 3])
    naive.uses.append(Use(identifier(3, 0), "cpu", 2, 0, NOW + 1000))
    # The first has room for g0, but then g1 has none there; the second has room for both.
    assert plan(world_of(naive, NOW), spec(1, 2, at_most="local"), PACK) == (identifier(3, 1),) * 2


def test_one_group_is_blamed_for_a_distance_only_when_it_alone_is_in_the_way() -> None:
    spans = {X: 0, Y: 1, Z: 0}
    naive = providers([3, 3, 2], [[X, Y], [Y, Z], [X]], spans)
    # From the first provider nothing is far enough away; from the second, which is in Y too, the third is.
    assert plan(world_of(naive, NOW), spec(3, 2, at_least="row"), PACK) == (identifier(3, 1), identifier(3, 2))


@pytest.mark.parametrize("strategy", [PACK, SPREAD])
def test_what_a_claim_costs_hardly_grows_with_the_providers(strategy: claim_pb2.Strategy) -> None:
    costs = {}
    for size in (500, 10_000):
        naive = providers([4] * size)
        world = world_of(naive, NOW)
        for provider in list(world.providers.values())[:-1]:
            world.use(provider, ((0, 4),), 0, FOREVER)
        # All but the last are full; the first looks at them learn it.
        assert numbers([plan(world, spec(1), strategy) for _ in range(2)]) == [size - 1] * 2
        costs[size] = calls_of(lambda world=world: plan(world, spec(1), strategy))  # type: ignore[misc]
    assert costs[10_000] < 1.5 * costs[500]


def calls_of(work: Callable[[], object]) -> int:
    """How many function calls it takes."""
    calls = [0]

    def count(frame: object, event: str, argument: object) -> None:
        calls[0] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls[0]


def test_groups_that_cannot_be_far_enough_apart_are_refused_without_trying_every_pair() -> None:
    racks = [identifier(2, 10 + number) for number in range(50)]
    groups = [[X, racks[number // 40]] for number in range(2000)]
    naive = providers([4] * 2000, groups, {X: 2, **dict.fromkeys(racks, 0)})
    world, wanted = world_of(naive, NOW), spec(1, 1, at_least="site")
    search = _Search(world, Random(1), world.specs.parse(wanted, NOW).demand, Scope([REGION]), 0, FOREVER, PACK, None)
    assert search.place(0) is not None
    assert search.cost < 4000


def test_a_search_without_hope_ends() -> None:
    racks = [identifier(2, 10 + number) for number in range(7)]
    naive = providers([4] * 700, [[racks[number // 100]] for number in range(700)], dict.fromkeys(racks, 0))
    wanted = spec(*[1] * 9)
    for number in range(1, 9):
        for origin in range(number):
            wanted.groups[number].distances.add(from_group=f"g{origin}", distance_type="failure", at_least="rack")
    world = world_of(naive, NOW)
    search = _Search(world, Random(1), world.specs.parse(wanted, NOW).demand, Scope([REGION]), 0, FOREVER, PACK, None)
    assert search.place(0) is not None
    assert search.cost < MAX_COST + 2000
    assert not world.usage()
