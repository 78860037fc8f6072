"""The planner against one that tries everything."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mulligan.api.resource.v1 import claim_pb2, provider_pb2
from mulligan.resource.funnel import Funnel
from mulligan.resource.planner import Planner, Scope
from tests.unit.resource_world import (
    CAPABILITIES,
    POSITIONS,
    RESOURCES,
    Naive,
    Use,
    chosen_by,
    identifier,
    window_of,
    world_of,
)

NOW = 100
REGIONS = [identifier(1, number) for number in range(2)]
GROUPS = [identifier(2, number) for number in range(4)]
STRATEGIES = [claim_pb2.STRATEGY_PACK, claim_pb2.STRATEGY_SPREAD, claim_pb2.STRATEGY_RANDOM]

some_capabilities = st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=2)
some_groups = st.lists(st.sampled_from(GROUPS), unique=True, max_size=2)
begins = st.sampled_from([0, NOW, NOW + 10, NOW + 20])
ends = st.sampled_from([NOW + 10, NOW + 20, NOW + 30])


@st.composite
def inventories(draw: st.DrawFn, kind: str) -> provider_pb2.Inventory:
    total = draw(st.integers(1, 8))
    step, least = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
    most = draw(st.integers(max(least, step), 9))
    reserved = draw(st.integers(0, total))
    ratio = draw(st.sampled_from([1.0, 1.5]))
    return provider_pb2.Inventory(
        resource_type=kind,
        total=total,
        reserved=reserved,
        min_unit=least,
        max_unit=most,
        step_size=step,
        allocation_ratio=ratio,
    )


@st.composite
def worlds(draw: st.DrawFn) -> Naive:
    naive = Naive(spans={group: draw(st.integers(0, len(POSITIONS) - 1)) for group in GROUPS})
    kinds = [
        (
            draw(st.lists(st.sampled_from(CAPABILITIES), unique=True)),
            [draw(inventories(kind)) for kind in RESOURCES if draw(st.integers(0, 3))],
        )
        for _ in range(2)
    ]
    for number in range(draw(st.integers(1, 5))):
        provider = identifier(3, number)
        capabilities, has = draw(st.sampled_from(kinds))
        naive.regions[provider] = draw(st.sampled_from(REGIONS))
        naive.configs[provider] = provider_pb2.ProviderConfig(
            capabilities=capabilities,
            inventories=has,
            groups=draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=3)),
        )
        if draw(st.integers(0, 7)) == 0:
            naive.out.add(provider)
    for _ in range(draw(st.integers(0, 6))):
        add_use(draw, naive)
    return naive


def add_use(draw: st.DrawFn, naive: Naive) -> None:
    """One more use, if there is room for it."""
    provider = draw(st.sampled_from(sorted(naive.configs)))
    kinds = sorted(naive.capacities(provider))
    begin, end = draw(begins), draw(ends)
    if kinds and begin < end:
        kind = draw(st.sampled_from(kinds))
        free = naive.free(provider, kind, begin, end)
        if free > 0:
            naive.uses.append(Use(provider, kind, draw(st.integers(1, free)), begin, end))


@st.composite
def request_groups(draw: st.DrawFn, number: int) -> claim_pb2.RequestGroup:
    exclusive = draw(st.integers(0, 3)) == 0
    group = claim_pb2.RequestGroup(name=f"g{number}", exclusive=exclusive)
    for kind in draw(st.lists(st.sampled_from(RESOURCES), unique=True, min_size=1, max_size=3)):
        least = draw(st.integers(1, 5))
        wanted = group.resources.add(resource_type=kind, min=least)
        if exclusive and draw(st.booleans()):
            wanted.max = draw(st.integers(least, 9))
        if draw(st.integers(0, 5)) == 0:
            wanted.capabilities.require.extend(draw(some_capabilities))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        group.capabilities.add(
            require=draw(some_capabilities), forbid=draw(some_capabilities), any=draw(some_capabilities)
        )
    if draw(st.integers(0, 3)) == 0:
        group.provider_groups.require.extend(draw(some_groups))
        group.provider_groups.forbid.extend(draw(some_groups))
        group.provider_groups.any.extend(draw(some_groups))
    if number and draw(st.booleans()):
        nearest, farthest = sorted([draw(st.sampled_from(range(len(POSITIONS)))) for _ in range(2)])
        bounds = draw(st.sampled_from(["at_least", "at_most", "both"]))
        group.distances.add(
            from_group=f"g{draw(st.integers(0, number - 1))}",
            distance_type="failure",
            at_least=POSITIONS[nearest] if bounds != "at_most" else "",
            at_most=POSITIONS[farthest] if bounds != "at_least" else "",
        )
    return group


@st.composite
def specs(draw: st.DrawFn, most_groups: int = 3) -> claim_pb2.ClaimSpec:
    spec = claim_pb2.ClaimSpec(groups=[draw(request_groups(at)) for at in range(draw(st.integers(1, most_groups)))])
    begin = draw(st.sampled_from([0, 0, 10, 15]))
    if begin:
        spec.acquire.FromMicroseconds(NOW + begin)
    if draw(st.booleans()):
        spec.release.FromMicroseconds(NOW + begin + draw(st.sampled_from([5, 10])))
    return spec


scopes = st.sampled_from([REGIONS, REGIONS[:1], REGIONS[1:]])


@settings(deadline=None)
@given(worlds(), specs(), scopes, st.sampled_from(STRATEGIES))
def test_a_claim_is_placed_when_there_is_any_way_to(
    naive: Naive, spec: claim_pb2.ClaimSpec, regions: list[str], strategy: claim_pb2.Strategy
) -> None:
    world = world_of(naive, NOW)
    before = {provider: dict(uses) for provider, uses in world.usage().items()}
    request = world.specs.parse(spec, NOW)
    planner = Planner(world, Random(1))
    begin, end = window_of(spec, NOW)
    placements = planner.plan(request.demand, Scope(regions), begin, end, strategy)
    ways = naive.plans(spec, set(regions), begin, end)
    if placements is None:
        assert not ways
    else:
        assert chosen_by(placements) in ways
        planner.undo(placements, begin, end)
    assert world.usage() == before


@st.composite
def spread_worlds(draw: st.DrawFn) -> Naive:
    """Providers that are alike but for their groups, with little room."""
    naive = Naive(spans={group: draw(st.integers(0, len(POSITIONS) - 1)) for group in GROUPS})
    for number in range(draw(st.integers(1, 6))):
        provider = identifier(3, number)
        naive.regions[provider] = REGIONS[0]
        has = [provider_pb2.Inventory(resource_type="cpu", total=3, max_unit=9, allocation_ratio=1.0)]
        has[0].min_unit = has[0].step_size = 1
        naive.configs[provider] = provider_pb2.ProviderConfig(
            inventories=has, groups=draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=3))
        )
        if draw(st.integers(0, 3)) == 0:
            naive.uses.append(Use(provider, "cpu", draw(st.integers(1, 3)), 0, NOW + 20))
    return naive


@st.composite
def spread_specs(draw: st.DrawFn) -> claim_pb2.ClaimSpec:
    """Groups that hang on each other by distances."""
    spec = claim_pb2.ClaimSpec()
    for number in range(draw(st.integers(2, 4))):
        group = spec.groups.add(name=f"g{number}")
        group.resources.add(resource_type="cpu", min=draw(st.integers(1, 2)))
        for origin in range(number):
            if draw(st.booleans()):
                bounds = sorted(draw(st.tuples(*[st.sampled_from(range(len(POSITIONS)))] * 2)))
                which = draw(st.sampled_from(["at_least", "at_most", "both"]))
                group.distances.add(
                    from_group=f"g{origin}",
                    distance_type="failure",
                    at_least=POSITIONS[bounds[0]] if which != "at_most" else "",
                    at_most=POSITIONS[bounds[1]] if which != "at_least" else "",
                )
    return spec


@settings(deadline=None)
@given(spread_worlds(), spread_specs(), st.sampled_from(STRATEGIES))
def test_groups_keep_their_distances_when_there_is_any_way_to(
    naive: Naive, spec: claim_pb2.ClaimSpec, strategy: claim_pb2.Strategy
) -> None:
    world = world_of(naive, NOW)
    demand = world.specs.parse(spec, NOW).demand
    placements = Planner(world, Random(1)).plan(demand, Scope(REGIONS), *window_of(spec, NOW), strategy)
    ways = naive.plans(spec, set(REGIONS), *window_of(spec, NOW))
    assert (chosen_by(placements) in ways) if placements else not ways


@settings(deadline=None)
@given(worlds(), st.lists(specs(2), min_size=2, max_size=6), st.sampled_from(STRATEGIES))
def test_claims_one_after_the_other_never_take_more_than_there_is(
    naive: Naive, wanted: list[claim_pb2.ClaimSpec], strategy: claim_pb2.Strategy
) -> None:
    world = world_of(naive, NOW)
    planner, scope = Planner(world, Random(1)), Scope(REGIONS)
    for spec in wanted:
        begin, end = window_of(spec, NOW)
        placements = planner.plan(world.specs.parse(spec, NOW).demand, scope, begin, end, strategy)
        assert (placements is not None) == bool(naive.plans(spec, set(REGIONS), begin, end))
        for placement in placements or []:
            for position, amount in placement.needs:
                kind = placement.provider.profile.inventories[position].resource_type
                assert naive.free(placement.provider.id, kind, begin, end) >= amount
                naive.uses.append(Use(placement.provider.id, kind, amount, begin, end))


@settings(deadline=None)
@given(worlds(), specs(1), scopes)
async def test_the_funnel_of_one_group_ends_with_the_providers_that_fit(
    naive: Naive, spec: claim_pb2.ClaimSpec, regions: list[str]
) -> None:
    world = world_of(naive, NOW)
    begin, end = window_of(spec, NOW)
    demand = world.specs.parse(spec, NOW).demand
    [explained] = await Funnel(world, demand, Scope(regions), begin, end).run()
    left = [step.left for step in explained.funnel]
    assert left == sorted(left, reverse=True)
    assert left[0] == sum(region in regions for region in naive.regions.values())
    assert left[-1] == len(naive.plans(spec, set(regions), begin, end))
