"""Use of one thing over time: a step function of whole amounts, from now on for ever."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from mulligan.clock import LAST_INSTANT

# Stands for "already": a window that has begun starts here, so that the past needs no steps.
ALREADY = 0

# Stands for "open-ended"; no window ends later.
FOREVER = LAST_INSTANT


class Timeline:
    """Step function: `levels[i]` is in use from `starts[i]` until the next start. Half-open; ends come before starts.

    Instants are microseconds since the epoch; `starts[0]` is always ALREADY. Neighbouring levels differ.
    """

    __slots__ = ("levels", "starts")

    def __init__(self, starts: list[int] | None = None, levels: list[int] | None = None) -> None:
        """Takes over the lists; nothing in use when there are none."""
        self.starts = starts or [ALREADY]
        self.levels = levels or [0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeline) and self.starts == other.starts and self.levels == other.levels

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Timeline({list(zip(self.starts, self.levels, strict=True))})"

    def peak(self, begin: int, end: int) -> int:
        """The most in use at one instant of [begin, end)."""
        levels = self.levels
        if len(levels) == 1:
            return levels[0]
        starts = self.starts
        return max(levels[bisect_right(starts, begin) - 1 : bisect_left(starts, end)])

    def add(self, begin: int, end: int, amount: int) -> None:
        """Uses `amount` more in [begin, end); a negative amount takes back what was added."""
        first = self._cut(begin) if begin > ALREADY else 0
        last = self._cut(end) if end < FOREVER else len(self.starts)
        levels = self.levels
        for index in range(first, last):
            levels[index] += amount
        if last < len(levels):
            self._join(last)
        if first:
            self._join(first)

    def forget_before(self, now: int) -> None:
        """Drops the steps that are over; what is in use at `now` counts as in use already."""
        index = bisect_right(self.starts, now) - 1
        if index > 0:
            del self.starts[:index], self.levels[:index]
            self.starts[0] = ALREADY

    def next_step(self) -> int:
        """When the level next changes; FOREVER if it never does."""
        return self.starts[1] if len(self.starts) > 1 else FOREVER

    def segments(self) -> list[tuple[int, int, int]]:
        """(from, until, level) of every step."""
        ends = [*self.starts[1:], FOREVER]
        return list(zip(self.starts, ends, self.levels, strict=True))

    def _cut(self, at: int) -> int:
        """Index of the step that starts at `at`, made when there is none."""
        index = bisect_left(self.starts, at)
        if index == len(self.starts) or self.starts[index] != at:
            self.starts.insert(index, at)
            self.levels.insert(index, self.levels[index - 1])
        return index

    def _join(self, index: int) -> None:
        """Removes the step at `index` when nothing changes there."""
        if self.levels[index] == self.levels[index - 1]:
            del self.starts[index], self.levels[index]
