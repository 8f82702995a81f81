from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from infra.spreading import cost, spread

SHARDS = ["a", "b", "c"]
costs = st.dictionaries(st.text("EURUSDJPY", min_size=1, max_size=4), st.floats(0.000_1, 0.06), min_size=1, max_size=40)
owners = st.dictionaries(st.text("EURUSDJPY", min_size=1, max_size=4), st.sampled_from([*SHARDS, "gone"]), max_size=40)


def loads(found: dict[str, str], each: dict[str, float]) -> list[float]:
    return [sum(each[symbol] for symbol in found if found[symbol] == shard) for shard in SHARDS]


@given(costs, owners)
def test_it_is_even_and_once_it_is_it_stays(each: dict[str, float], before: dict[str, str]) -> None:
    found = spread(each, SHARDS, before)
    assert found.keys() == each.keys()
    assert spread(each, SHARDS, found) == found, "the next time nothing moves"
    total = loads(found, each)
    heaviest, lightest = max(total), min(total)
    smallest = min(each[symbol] for symbol, shard in found.items() if total[SHARDS.index(shard)] == heaviest)
    assert heaviest - lightest <= max(0.1 * heaviest, smallest / 0.95) + 1e-9


def test_a_new_shard_takes_over_and_the_least_moves() -> None:
    each = {f"S{number}": 0.01 for number in range(30)}
    before = spread(each, ["a", "b"], {})
    after = spread(each, SHARDS, before)
    assert sorted(Counter(after.values()).values()) == [10, 10, 10]
    assert sum(before[symbol] != after[symbol] for symbol in each) == 10


def test_a_quiet_symbol_costs_a_probe_and_a_busy_one_a_fetch_each_time() -> None:
    assert cost(0, 0.1) < cost(1, 0.1) < cost(100, 0.1) < 0.0602
    assert cost(0, 0.1) * 100 < cost(10, 0.1)
