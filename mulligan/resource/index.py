"""Providers in the order in which the planner looks for room, with what lets it skip most of them.

    Pool   providers of one region and one profile
    Cell   up to 64 of them that are in the same provider groups
    Block  64 cells of a pool, in order

For each resource a cell, and a block, know a bound on what any one provider of theirs has free (now, at the best
moment to come, at the worst). What is too little for a request at one level is not looked into. Bounds rise at once;
they are lowered where a look inside was in vain, so that claims do not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakValueDictionary

from mulligan.resource.inventory import Inventory
from mulligan.resource.model import Profile, Provider

CELL_SIZE = 64
BLOCK_SIZE = 64

_REMEMBERED_UNIONS = 1024

# What a provider out of placement has free: too little for any request.
NOTHING = -1

# Which free amount: at this moment, at the best moment from now on, at the worst.
NOW, BEST, WORST = 0, 1, 2
_KINDS = (NOW, BEST, WORST)

# By position of the resource, then kind: a list of amounts.
Free = list[tuple[list[int], list[int], list[int]]]


def _free(resources: int) -> Free:
    return [([], [], []) for _ in range(resources)]


class Cell:
    """Up to 64 providers alike in region, profile and groups."""

    __slots__ = ("free", "groups", "number", "pool", "providers")

    def __init__(self, pool: Pool, number: int, groups: frozenset[str]) -> None:
        self.pool = pool
        self.number = number
        self.groups = groups
        self.providers: list[Provider] = []
        # By slot: what the provider has free.
        self.free = _free(len(pool.profile.inventories))


class Pool:
    """Providers of one region and profile."""

    __slots__ = (
        "_cells_of_group",
        "_cells_within",
        "block_free",
        "cell_free",
        "cells",
        "open_cells",
        "profile",
        "region",
        "rounds",
        "size",
        "turn",
    )

    def __init__(self, region: str, profile: Profile) -> None:
        self.region = region
        self.profile = profile
        self.cells: list[Cell] = []
        # Number of providers.
        self.size = 0
        # Cells with room for another provider, by groups.
        self.open_cells: dict[frozenset[str], Cell] = {}
        # Numbers of the cells that are in a provider group, and in any of several, in order.
        self._cells_of_group: dict[str, list[int]] = {}
        self._cells_within: dict[frozenset[str], list[int]] = {}
        # Where the strategy that spreads goes on (cell, slot), and how often it began anew.
        self.turn = (0, 0)
        self.rounds = 0
        # By number of the cell or block: one provider of it has at most this much free.
        self.cell_free = _free(len(profile.inventories))
        self.block_free = _free(len(profile.inventories))

    def providers(self) -> Iterator[Provider]:
        """All of them, in order."""
        for cell in self.cells:
            yield from cell.providers

    def cells_within(self, groups: frozenset[str]) -> list[int]:
        """Numbers of the cells that are in any of the groups, in order."""
        found = self._cells_within.get(groups)
        if found is None:
            if len(self._cells_within) >= _REMEMBERED_UNIONS:
                self._cells_within.clear()
            numbers = {number for group in groups for number in self._cells_of_group.get(group, ())}
            found = self._cells_within[groups] = sorted(numbers)
        return found

    def cell_for(self, groups: frozenset[str]) -> Cell:
        """A cell of these groups with room for a provider."""
        cell = self.open_cells.get(groups)
        if cell is None or len(cell.providers) >= CELL_SIZE:
            cell = self.open_cells[groups] = Cell(self, len(self.cells), groups)
            self.cells.append(cell)
            for group in groups:
                self._cells_of_group.setdefault(group, []).append(cell.number)
            self._cells_within.clear()
            _append(self.cell_free)
            if cell.number % BLOCK_SIZE == 0:
                _append(self.block_free)
        return cell


class Index:
    """All pools of a shard."""

    def __init__(self) -> None:
        # Grows when a pool comes or goes: whoever keeps a list of pools asks for a new one then.
        self.version = 0
        self._profiles: WeakValueDictionary[tuple[object, ...], Profile] = WeakValueDictionary()
        self._pools: dict[tuple[str, Profile], Pool] = {}

    def profile(self, provider_type: str, capabilities: frozenset[str], inventories: tuple[Inventory, ...]) -> Profile:
        """The one instance of all profiles that are the same."""
        key = (provider_type, capabilities, inventories)
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = Profile(*key)
        return profile

    def pools(self) -> list[Pool]:
        """All pools, in the order in which they were made."""
        return list(self._pools.values())

    def insert(self, provider: Provider) -> None:
        """Puts a provider where its region, profile and groups say."""
        key = (provider.region, provider.profile)
        pool = self._pools.get(key)
        if pool is None:
            pool = Pool(*key)
            pool.rounds = min((each.rounds for each in self._pools.values()), default=0)
            self._pools[key] = pool
            self.version += 1
        cell = pool.cell_for(provider.groups)
        provider.cell, provider.slot = cell, len(cell.providers)
        cell.providers.append(provider)
        pool.size += 1
        _append(cell.free)
        self.refresh(provider)

    def remove(self, provider: Provider) -> None:
        """Takes a provider out; the last of its cell takes its place."""
        cell = provider.cell
        assert cell is not None, "only what was inserted can be removed"
        pool, last = cell.pool, cell.providers.pop()
        for values in cell.free:
            for kind in _KINDS:
                values[kind].pop()
        if last is not provider:
            cell.providers[provider.slot] = last
            last.slot = provider.slot
            self.refresh(last)
        provider.cell, provider.slot = None, -1
        pool.open_cells[cell.groups] = cell
        pool.size -= 1
        if not pool.size:
            del self._pools[pool.region, pool.profile]
            self.version += 1

    def refresh(self, provider: Provider, positions: Sequence[int] | None = None) -> None:
        """Notes what the provider has free after its state, or its use of the resources at `positions`, changed."""
        cell = provider.cell
        if cell is None:
            return
        slot, pool, number = provider.slot, cell.pool, cell.number
        capacities, uses, placeable = provider.profile.capacities, provider.uses, provider.placeable
        for at in range(len(uses)) if positions is None else positions:
            use = uses[at]
            if not placeable:
                now = best = worst = NOTHING
            elif use is None:
                now = best = worst = capacities[at]
            else:
                levels = use.levels
                now = best = worst = capacities[at] - levels[0]
                if len(levels) > 1:
                    best, worst = capacities[at] - min(levels), capacities[at] - max(levels)
            of_now, of_best, of_worst = cell.free[at]
            of_now[slot], of_best[slot], of_worst[slot] = now, best, worst
            # Mostly none rises, as claims take: then three looks are all that it costs.
            cells_now, cells_best, cells_worst = pool.cell_free[at]
            if now > cells_now[number]:
                _raise(now, cells_now, pool.block_free[at][NOW], number)
            if best > cells_best[number]:
                _raise(best, cells_best, pool.block_free[at][BEST], number)
            if worst > cells_worst[number]:
                _raise(worst, cells_worst, pool.block_free[at][WORST], number)


def _append(free: Free) -> None:
    for values in free:
        for kind in _KINDS:
            values[kind].append(NOTHING)


def _raise(value: int, cells: list[int], blocks: list[int], number: int) -> None:
    """Raises the bounds of a cell and its block to what one provider has free."""
    cells[number] = value
    if value > blocks[number // BLOCK_SIZE]:
        blocks[number // BLOCK_SIZE] = value


def tighten_cell(cell: Cell, position: int, kind: int) -> None:
    """Lowers the bound of a cell to what its providers have free."""
    cell.pool.cell_free[position][kind][cell.number] = max(cell.free[position][kind], default=NOTHING)


def tighten_block(pool: Pool, block: int, position: int, kind: int) -> None:
    """Lowers the bound of a block to that of its cells."""
    cells = pool.cell_free[position][kind][block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
    pool.block_free[position][kind][block] = max(cells)
