"""The providers that could take a request group, in the order of a strategy.

What that costs hardly grows with their number: see the maxima that the index keeps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain
from random import Random

from mulligan.api.resource.v1 import claim_pb2
from mulligan.resource.demand import Needs
from mulligan.resource.distance import Membership, Surroundings
from mulligan.resource.index import BEST, BLOCK_SIZE, NOW, WORST, Cell, Free, Pool, tighten_block, tighten_cell
from mulligan.resource.model import Provider
from mulligan.resource.timeline import ALREADY, FOREVER

PACK, SPREAD, RANDOM = claim_pb2.STRATEGY_PACK, claim_pb2.STRATEGY_SPREAD, claim_pb2.STRATEGY_RANDOM

# Providers that are free at some time but not in the window: after this many in vain, the rest wait until those
# that are free all the time were looked at.
PATIENCE = 32

# What each provider (cell, block) has free of a needed resource, and how much is needed.
_Columns = list[tuple[list[int], int]]


class Match:
    """A pool and what is needed of a provider in it."""

    __slots__ = ("blocks", "cells", "needs", "pool", "scarce_first")

    def __init__(self, pool: Pool, needs: Needs) -> None:
        self.pool = pool
        self.needs = needs
        # What takes most of its resource is looked at first: it is the likeliest to be short.
        capacities = pool.profile.capacities
        checks = self.scarce_first = tuple(sorted(needs, key=lambda need: -need[1] / capacities[need[0]]))
        # By the kind of free amount; the lists are those of the pool, so they are always up to date.
        self.cells = [_columns(pool.cell_free, checks, kind) for kind in (NOW, BEST, WORST)]
        self.blocks = [_columns(pool.block_free, checks, kind) for kind in (NOW, BEST, WORST)]


# A match, with the cell and slot to begin at.
_Start = tuple[Match, int, int]


def candidates(
    matches: Sequence[Match], where: Membership, begin: int, end: int, strategy: int, random: Random
) -> Iterator[tuple[Provider, Needs]]:
    """Every provider that has room in [begin, end) and satisfies `where`; one may come more than once.

    Pack: always in the same order, so that one provider is filled before the next is begun. Spread: from the one
    after the last that was taken. Random: from anywhere.
    """
    search = _Scan(where, begin, end)
    if begin == ALREADY and end == FOREVER:
        # What is free at the worst moment is free in this window, and the other way round.
        yield from search.run(_starts(matches, strategy, random), WORST)
        return
    kind = NOW if begin == ALREADY else BEST
    starts = _starts(matches, strategy, random)
    search.patience = PATIENCE
    yield from search.run(starts, kind)
    if search.patience < 0:
        yield from search.run(starts, WORST)
        search.patience = len(matches) * BLOCK_SIZE**3  # without end
        yield from search.run(starts, kind)


def has_room(provider: Provider, needs: Needs, begin: int, end: int) -> bool:
    """Whether the provider has that much free at every instant of [begin, end)."""
    capacities = provider.profile.capacities
    for position, amount in needs:
        use = provider.uses[position]
        if use is not None and use.peak(begin, end) + amount > capacities[position]:
            return False
    return True


def _starts(matches: Sequence[Match], strategy: int, random: Random) -> Sequence[_Start]:
    """The pools in order, and where to begin in each."""
    if strategy == PACK:
        return [(match, 0, 0) for match in matches]
    if strategy == SPREAD:
        ordered = sorted(matches, key=lambda match: match.pool.rounds) if len(matches) > 1 else matches
        return [(match, *match.pool.turn) for match in ordered]
    # A pool's chance to be first is its share of the providers.
    ordered = sorted(matches, key=lambda match: random.random() ** (1 / match.pool.size), reverse=True)
    return [(match, *_anywhere(match.pool, random)) for match in ordered]


def _anywhere(pool: Pool, random: Random) -> tuple[int, int]:
    number = random.randrange(len(pool.cells))
    return number, random.randrange(len(pool.cells[number].providers) or 1)


class _Scan:
    """Walks pools for providers with room."""

    __slots__ = ("around", "begin", "end", "patience", "where")

    def __init__(self, where: Membership, begin: int, end: int) -> None:
        self.where = where
        self.around = where if isinstance(where, Surroundings) else None
        self.begin = begin
        self.end = end
        # How many more providers may turn out to have no room in the window.
        self.patience = 0

    def run(self, starts: Sequence[_Start], kind: int) -> Iterator[tuple[Provider, Needs]]:
        """Each pool once around; ends early when the patience does. `kind` is the free amount to go by."""
        for match, start, slot in starts:
            for cell in self._cells(match, start, kind):
                found = False
                for provider in self._providers(cell, match, slot if cell.number == start else 0, None, kind):
                    found = True
                    yield provider, match.needs
                if self.patience < 0:
                    return
                if not found:
                    for position, _ in match.needs:
                        tighten_cell(cell, position, kind)
            if slot and self._admits(match.pool.cells[start]):
                for provider in self._providers(match.pool.cells[start], match, 0, slot, kind):
                    yield provider, match.needs

    def _cells(self, match: Match, start: int, kind: int) -> Iterator[Cell]:
        """Cells in which some provider may have room, from `start` around to the one before it."""
        pool, columns = match.pool, match.cells[kind]
        numbers = _numbers_within(pool, self.where, self.around)
        if numbers is None:
            found = _numbers_with_room(match, kind, start)
        else:
            first = bisect_left(numbers, start)
            found = (number for number in chain(numbers[first:], numbers[:first]) if _enough(columns, number))
        anywhere = self.around is None and numbers is None and not self.where.forbid
        for number in found:
            if anywhere or self._admits(pool.cells[number]):
                yield pool.cells[number]

    def _admits(self, cell: Cell) -> bool:
        return self.where.admits(cell.groups) if self.around is None else self.around.admits_cell(cell)

    def _providers(self, cell: Cell, match: Match, first: int, last: int | None, kind: int) -> Iterator[Provider]:
        needs = match.scarce_first
        columns = _columns(cell.free, needs, kind)
        column, least = columns.pop(0)
        for slot, free in enumerate(column[first:last], first):
            if free < least or (columns and not _enough(columns, slot)):
                continue
            provider = cell.providers[slot]
            if kind != WORST and not has_room(provider, needs, self.begin, self.end):
                self.patience -= 1
                if self.patience < 0:
                    return
            elif self.around is None or self.around.admits_provider(provider):
                yield provider


def _columns(free: Free, needs: Needs, kind: int) -> _Columns:
    return [(free[position][kind], amount) for position, amount in needs]


def _enough(columns: _Columns, number: int) -> bool:
    for free, amount in columns:  # noqa: SIM110 -- a generator would take twice the time, here of all places
        if free[number] < amount:
            return False
    return True


def _numbers_with_room(match: Match, kind: int, start: int) -> Iterator[int]:
    """Numbers of the cells with room, block by block, from `start` around to the one before it."""
    cells, blocks, count = match.cells[kind], match.blocks[kind], len(match.pool.cells)
    first_block, block_count = start // BLOCK_SIZE, -(-count // BLOCK_SIZE)
    for step in range(block_count + 1):
        block = (first_block + step) % block_count
        if _enough(blocks, block):
            first, last = block * BLOCK_SIZE, min((block + 1) * BLOCK_SIZE, count)
            if step == 0:
                first = start
            elif step == block_count:
                last = min(start, last)
            found = False
            for number in range(first, last):
                if _enough(cells, number):
                    found = True
                    yield number
            if not found:
                for position, _ in match.needs:
                    tighten_block(match.pool, block, position, kind)


def _numbers_within(pool: Pool, where: Membership, around: Surroundings | None) -> list[int] | None:
    """The cells of the smallest group that a provider must be in; None: there is no such group."""
    if not where.require and not where.any_of and (around is None or not around.near):
        return None
    choices = [pool.cells_within(frozenset((group,))) for group in where.require]
    choices += [pool.cells_within(any_of) for any_of in where.any_of]
    for near, origin in around.near if around is not None else ():
        if near:
            choices.append(pool.cells_within(near))
        else:  # near to itself only
            choices.append([origin.cell.number] if origin.cell is not None and origin.cell.pool is pool else [])
    return min(choices, key=len)
