"""What every sink must do, whatever it writes to. A new sink adds itself to `tests.sinks.stores`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from infra.lake.layout import BARS, RATES, REJECTED, TABLES, TICKS
from schemas.errors import FencedError
from tests.sinks.records import SYMBOLS, bar, batch, tick
from tests.sinks.stores import STORES, Store
from tests.support import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path)


def test_an_empty_store_says_nothing_of_any_source(store: Store) -> None:
    with store.sink() as sink:
        assert sink.positions([store.source(table, n) for table in TABLES for n in range(3)]) == {}


def test_what_is_committed_is_there_once_and_so_are_the_offsets(store: Store) -> None:
    sources = [store.source(table) for table in (TICKS, REJECTED, BARS, RATES)]
    ends = dict(zip(sources, (105, 10, 4, 2), strict=True))
    with store.sink() as sink:
        sink.positions(sources)
        sink.write(batch(TICKS, (tick(n, SYMBOLS[n % 4]) for n in range(100))))
        sink.write(batch(REJECTED, (tick(n) for n in range(10))))
        sink.write(batch(BARS, [bar(0), bar(1), bar(0, revision=1), bar(0, timeframe="MN1")]))
        sink.write(batch(RATES, [bar(0), bar(1)]))
        sink.commit(ends)
        assert sink.positions(sources) == ends
    with store.sink() as sink:
        assert sink.positions(sources) == ends
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(100))
    assert store.places(REJECTED) == [("EURUSD", 0, n) for n in range(10)]
    assert store.places(BARS) == [("EURUSD", 0, n) for n in range(4)]
    assert store.places(RATES) == [("EURUSD", 0, n) for n in range(2)]


def test_what_is_written_but_not_committed_is_nowhere_and_forgotten(store: Store) -> None:
    source = store.source(TICKS)
    with store.sink() as sink:
        sink.positions([source])
        sink.write(batch(TICKS, (tick(n) for n in range(5))))
        assert store.places(TICKS) == []
        assert sink.positions([source]) == {}
        sink.write(batch(TICKS, (tick(n) for n in range(3))))
        sink.commit({source: 3})
        assert store.places(TICKS) == [("EURUSD", 0, n) for n in range(3)]


def test_a_commit_that_is_tried_again_after_it_landed_lands_once(store: Store) -> None:
    source = store.source(TICKS)
    with store.sink() as sink:
        sink.positions([source])
        for _ in range(2):
            sink.write(batch(TICKS, (tick(n) for n in range(5))))
            sink.commit({source: 5})
        sink.write(batch(TICKS, (tick(n) for n in range(5, 7)), first=5))
        sink.commit({source: 7})
        assert store.places(TICKS) == [("EURUSD", 0, n) for n in range(7)]


def test_offsets_move_without_rows(store: Store) -> None:
    source = store.source(TICKS, 3)
    with store.sink() as sink:
        sink.positions([source])
        sink.commit({source: 12})
        assert sink.positions([source]) == {source: 12}
        assert store.places(TICKS) == []


def test_partitions_are_apart(store: Store) -> None:
    sources = [store.source(TICKS, n) for n in range(3)]
    with store.sink() as sink:
        sink.positions(sources)
        for number, source in enumerate(sources):
            sink.write(batch(TICKS, [tick(number)], partition=number))
            sink.commit({source: 1})
        assert sink.positions(sources) == dict.fromkeys(sources, 1)
        assert store.places(TICKS) == [("EURUSD", n, 0) for n in range(3)]


def test_of_two_sinks_that_want_the_same_source_one_is_fenced(store: Store) -> None:
    source = store.source(TICKS)
    with store.sink() as first, store.sink() as second:
        first.positions([source])
        if store.exclusive:
            with pytest.raises(FencedError):
                second.positions([source])
        else:
            second.positions([source])
            second.write(batch(TICKS, (tick(n) for n in range(4))))
            second.commit({source: 4})
            first.write(batch(TICKS, (tick(n) for n in range(3))))
            with pytest.raises(FencedError, match=r"main\.ticks\.clean/0"):
                first.commit({source: 3})
            assert store.places(TICKS) == [("EURUSD", 0, n) for n in range(4)]


def test_worlds_are_beside_each_other(store: Store) -> None:
    other = Store(store.kind, store.home, "replay-1")
    for each, count in ((store, 3), (other, 5)):
        source = each.source(TICKS)
        with each.sink() as sink:
            assert sink.positions([source]) == {}
            sink.write(batch(TICKS, (tick(n) for n in range(count))))
            sink.commit({source: count})
    assert (len(store.places(TICKS)), len(other.places(TICKS))) == (3, 5)


@pytest.mark.parametrize("symbol", ["", "EUR/USD", "50%", "日経225", "NULL", "con", "a.", "..", "#AAPL!", "x" * 300])
@pytest.mark.parametrize("kind", [kind for kind in STORES if kind != "lake-s3"])  # names no file after a symbol
def test_odd_symbols_come_back_whole(kind: str, symbol: str, tmp_path: Path) -> None:
    store = Store(kind, tmp_path)
    source = store.source(TICKS)
    with store.sink() as sink:
        sink.positions([source])
        sink.write(batch(TICKS, [tick(0, symbol), tick(1, "EURUSD"), tick(2, "eurusd"), tick(3, "EurUSD")]))
        sink.commit({source: 4})
        assert store.places(TICKS) == sorted([(symbol, 0, 0), ("EURUSD", 0, 1), ("eurusd", 0, 2), ("EurUSD", 0, 3)])


@pytest.mark.parametrize("kind", ["lake", "csv", "redis"])  # the others: tests.acceptance.sinks
def test_killed_hard_at_any_moment_every_record_is_there_once(kind: str, tmp_path: Path) -> None:
    store = Store(kind, tmp_path)
    total, chance = 2_100 if kind == "redis" else 210, random.Random(11)
    command = [sys.executable, "-m", "tests.sinks.writer", store.name, str(total)]
    found, kills = environment(store.settings), 0
    while kills < 60:
        with subprocess.Popen(command, cwd=ROOT, env=found, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            try:
                process.wait(chance.uniform(0.0, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            else:
                assert process.returncode == 0
                break
    assert kills > 1
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(total))
    assert store.places(BARS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(total))
