"""The timeline against one that counts every instant by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mulligan.resource.load import timeline_from
from mulligan.resource.timeline import ALREADY, FOREVER, Timeline

INSTANTS = 24

instants = st.integers(1, INSTANTS - 1)
windows = st.tuples(st.just(ALREADY) | instants, instants | st.just(FOREVER)).filter(lambda each: each[0] < each[1])
uses = st.lists(st.tuples(windows, st.integers(1, 5)), max_size=12)


class Counted:
    """What is in use at each instant, counted one by one."""

    def __init__(self) -> None:
        self.used = [0] * (INSTANTS + 1)

    def add(self, begin: int, end: int, amount: int) -> None:
        for instant in range(begin, min(end, INSTANTS + 1)):
            self.used[instant] += amount

    def peak(self, begin: int, end: int) -> int:
        return max(self.used[begin : min(end, INSTANTS + 1)])


def both(added: list[tuple[tuple[int, int], int]]) -> tuple[Timeline, Counted]:
    timeline, counted = Timeline(), Counted()
    for window, amount in added:
        timeline.add(*window, amount)
        counted.add(*window, amount)
    return timeline, counted


@given(uses, windows)
def test_the_peak_is_the_most_at_one_instant(added: list[tuple[tuple[int, int], int]], window: tuple[int, int]) -> None:
    timeline, counted = both(added)
    assert timeline.peak(*window) == counted.peak(*window)


@given(uses)
def test_steps_are_only_where_the_level_changes(added: list[tuple[tuple[int, int], int]]) -> None:
    timeline, counted = both(added)
    changes = [at for at in range(1, INSTANTS + 1) if counted.used[at] != counted.used[at - 1]]
    assert timeline.starts == [ALREADY, *changes]
    assert timeline.levels == [counted.used[at] for at in timeline.starts]


@given(uses, st.randoms(use_true_random=False))
def test_what_is_taken_back_in_any_order_leaves_nothing(
    added: list[tuple[tuple[int, int], int]], random: object
) -> None:
    timeline, _ = both(added)
    random.shuffle(added)  # type: ignore[attr-defined]
    for window, amount in added:
        timeline.add(*window, -amount)
    assert timeline == Timeline()


@given(uses, instants, windows)
def test_forgetting_the_past_changes_nothing_from_now_on(
    added: list[tuple[tuple[int, int], int]], now: int, window: tuple[int, int]
) -> None:
    timeline, counted = both(added)
    timeline.forget_before(now)
    begin, end = max(window[0], now), max(window[1], now + 1)
    assert timeline.starts[0] == ALREADY
    assert timeline.peak(begin, end) == counted.peak(begin, end)
    assert timeline.next_step() > now


@given(uses, instants)
def test_a_window_taken_back_while_it_runs_frees_the_rest_of_it(
    added: list[tuple[tuple[int, int], int]], now: int
) -> None:
    timeline, counted = both(added)
    timeline.add(ALREADY, FOREVER, 7)
    timeline.forget_before(now)
    timeline.add(ALREADY, FOREVER, -7)
    assert timeline.peak(now, FOREVER) == counted.peak(now, FOREVER)


def test_back_to_back_windows_do_not_add_up() -> None:
    timeline = Timeline()
    timeline.add(10, 20, 5)
    timeline.add(20, 30, 5)
    assert timeline.peak(0, 100) == 5
    assert timeline.peak(20, 30) == 5
    assert timeline.segments() == [(0, 10, 0), (10, 30, 5), (30, FOREVER, 0)]


@given(uses)
def test_the_ledgers_segments_make_the_same_timeline(added: list[tuple[tuple[int, int], int]]) -> None:
    timeline, _ = both(added)
    # The ledger may have a boundary where nothing changes.
    split = [piece for begin, end, level in timeline.segments() for piece in halves(begin, end, level)]
    assert timeline_from([until for _, until, _ in split], [level for _, _, level in split]) == timeline


def halves(begin: int, end: int, level: int) -> list[tuple[int, int, int]]:
    middle = (begin + end) // 2
    return [(begin, middle, level), (middle, end, level)] if begin < middle else [(begin, end, level)]
