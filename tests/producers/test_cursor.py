from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.cursor import Cursor, Page, first_page, from_record, next_page, take, to_record
from producers.terminal import TICK_DTYPE, Ticks

FIRST_SECOND = 1_700_000_000
PRICES = st.sampled_from([1.0, 1.1, float("nan")])


def history(moments: list[tuple[int, float, float]]) -> Ticks:
    ticks = np.zeros(len(moments), TICK_DTYPE)
    for row, (offset, bid, ask) in zip(ticks, sorted(moments, key=lambda m: m[0]), strict=True):
        row["time_msc"] = FIRST_SECOND * 1_000 + offset
        row["time"] = row["time_msc"] // 1_000
        row["bid"], row["ask"] = bid, ask
    return ticks


def answer(ticks: Ticks, page: Page) -> Ticks:
    """What a terminal says: forward from the whole second, at most so many."""
    start = np.searchsorted(ticks["time"], page.second)
    return ticks[start : start + page.count]


def same(one: Ticks, other: Ticks) -> bool:
    return one.tobytes() == other.tobytes()


MOMENTS = st.lists(st.tuples(st.integers(0, 2_500), PRICES, PRICES), max_size=80)


@given(MOMENTS, st.integers(1, 7), st.lists(st.integers(0, 80), max_size=8), st.data())
def test_any_paging_of_a_growing_history_gives_each_tick_once_and_in_order(
    moments: list[tuple[int, float, float]], count: int, grown: list[int], data: st.DataObject
) -> None:
    ticks = history(moments)
    cursor = Cursor(FIRST_SECOND * 1_000 - 1)
    taken: list[Ticks] = []
    for visible in [*sorted(grown), len(ticks)]:
        seen = ticks[:visible]
        page: Page | None = first_page(cursor, count)
        while page is not None:
            rows = answer(seen, page)
            fresh, cursor = take(cursor, rows, rows["time_msc"])
            taken.append(rows[fresh])
            page = next_page(page, rows, cursor, count)
            if data.draw(st.booleans(), label="restart"):  # all that survives is the record
                record = to_record(cursor, last_msc=7, feed="f", shard="s", symbol="X")
                cursor = from_record(record, cursor.last_msc)
    assert same(np.concatenate([*taken, ticks[:0]]), ticks)


def test_a_second_that_outgrows_a_page_is_asked_for_twice_as_many() -> None:
    ticks = history([(offset, 1.0, 1.0) for offset in range(10)])
    page = Page(FIRST_SECOND, 4)
    assert next_page(page, answer(ticks, page), Cursor(FIRST_SECOND * 1_000 + 3, {b"": 1}), 4) == Page(FIRST_SECOND, 8)


def test_ticks_that_come_late_into_the_last_millisecond_are_taken() -> None:
    first, second = history([(5, 1.0, 1.1)]), history([(5, 1.0, 1.1), (5, 1.0, 1.1), (5, 1.0, 1.2)])
    _, cursor = take(Cursor(0), first, first["time_msc"])
    rows, cursor = take(cursor, second, second["time_msc"])
    assert [row["ask"] for row in second[rows]] == [1.1, 1.2]
    assert cursor.taken == 3


def test_what_is_older_than_the_cursor_is_not_taken_again() -> None:
    old = history([(4, 1.0, 1.0)])
    rows, cursor = take(Cursor(FIRST_SECOND * 1_000 + 5), old, old["time_msc"])
    assert not len(rows)
    assert cursor == Cursor(FIRST_SECOND * 1_000 + 5)
