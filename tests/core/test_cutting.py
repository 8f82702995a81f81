"""Ticks are cut into the same bars however they are handed over."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.counts import Counted, Measure, measure_of, order_of
from processors.core.cutting import cut
from schemas.errors import SettingsError

WEIGHTS = st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 1.1, 1e9, 1e300]) | st.floats(0, 1e6), max_size=80)


def one_by_one(weights: list[float], size: float) -> tuple[list[int], float]:
    ends, total = [], 0.0
    for at, weight in enumerate(weights):
        total += weight
        if total >= size:
            ends.append(at + 1)
            total = 0.0
    return ends, total


@given(weights=WEIGHTS, size=st.floats(0.001, 5_000), splits=st.lists(st.integers(0, 80)), repeat=st.integers(1, 60))
def test_any_split_gives_the_cuts_of_a_plain_loop(
    weights: list[float], size: float, splits: list[int], repeat: int
) -> None:
    weights = weights * repeat
    places = sorted({0, len(weights), *(at for at in splits if at < len(weights))})
    ends, carried = [], 0.0
    for start, stop in pairwise(places):
        found, carried = cut(np.array(weights[start:stop]), size, carried)
        ends += [start + end for end in found]
    assert (ends, carried) == one_by_one(weights, size)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("T:1000", Measure("T:1000", Counted.TICKS, 1_000)),
        ("V:0.5", Measure("V:0.5", Counted.VOLUME, 0.5)),
        ("N:1000000", Measure("N:1000000", Counted.VALUE, 1e6)),
    ],
)
def test_a_name_says_what_is_counted(name: str, measure: Measure) -> None:
    assert measure_of(name) == measure


@pytest.mark.parametrize("name", ["T:0", "V:x", "T:1.5", "T:01", "V:1.0", "V:0.0", "X:5", "T:", "T:2000000000", "V:-1"])
def test_a_bad_name_is_explained(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        measure_of(name)


def test_names_have_one_order() -> None:
    names = ["M1", "D1", "MN1", "T:9", "T:10", "V:2", "N:0.5", "N:5"]
    assert sorted(sorted(names), key=order_of) == names
