"""The lake in SQL: views that double nothing, and a command that prints them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.lake.layout import BARS, EVENTS, RATES, SYMBOLS, TICKS, Table
from infra.lake.query import connect
from infra.lake.tables import read_ticks
from schemas.records import Bar, EventKind, FeedEvent, SymbolSpec, Tick
from sinks.lake import LakeSink
from sinks.optimize import optimize
from sinks.sink import Source
from tests.sinks.records import START, bar, batch, tick
from tests.sinks.stores import Store

STEP = 108_000
"""Between two ticks of `tick`."""


def write(store: Store, table: Table, records: Sequence[Tick | Bar | FeedEvent | SymbolSpec], world: str) -> None:
    settings = store.settings
    source = Source(f"{world}.{table.topic.name}", 0)
    with closing(LakeSink(settings.lake_uri, settings.lake.storage_options, world)) as sink:
        first = sink.positions([source]).get(source, 0)
        sink.write(batch(table, records, first=first))
        sink.commit({source: first + len(records)})


def rows(store: Store, sql: str, *worlds: str) -> list[tuple[Any, ...]]:
    settings = store.settings
    with connect(settings.lake_uri, settings.lake.storage_options, worlds or ("main",), only=bool(worlds)) as found:
        return found.execute(sql).fetchall()


def event(kind: EventKind, time: int, to: int | None = None) -> FeedEvent:
    from_ = None if to is None else time
    return FeedEvent(time=time, kind=kind, feed="test", shard="a", symbol="EURUSD", from_=from_, to=to, text="")


def at(number: float) -> int:
    return START + int(number * STEP)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("lake", tmp_path)


def test_an_empty_lake_has_all_views(store: Store) -> None:
    for table in ("ticks", "rejected", "bars", "rates", "events", "symbols", "all_bars", "coverage"):
        assert rows(store, f"select count(*) from {table}") == [(0,)]  # noqa: S608


@pytest.mark.parametrize("kind", ["lake", "lake-s3"])
def test_main_is_preferred_where_it_has_every_tick_and_a_backfill_fills_the_rest(kind: str, tmp_path: Path) -> None:
    store = Store(kind, tmp_path)
    write(store, TICKS, [tick(n, bid=1.0) for n in (*range(10, 15), *range(20, 30))], "main")
    write(store, EVENTS, [event(EventKind.COVERAGE, at(10)), event(EventKind.GAP, at(14.5), at(19.5))], "main")
    write(store, TICKS, [tick(n, bid=2.0) for n in range(40)], "backfill")
    assert rows(store, "select bid, count(*) from ticks group by 1 order by 1") == [(1.0, 15), (2.0, 25)]
    assert rows(store, "select count(distinct ts_event) from ticks") == [(40,)]
    assert rows(store, "select count(*) from all_ticks") == [(55,)]
    assert rows(store, "select bid, count(*) from ticks group by 1 order by 2 desc", "backfill", "main") == [
        (2.0, 40),
        (1.0, 15),
    ]
    assert rows(store, "select distinct bid from ticks", "main") == [(1.0,)]
    spans = rows(store, "select since, until from coverage where world = 'main' order by 1")
    ends = [(at(10), at(14.5)), (at(19.5), at(29) + 1)]
    assert spans == [tuple(datetime.fromtimestamp(ms / 1_000, UTC) for ms in span) for span in ends]


def test_bars_come_once_in_their_last_revision_and_whole_ones_before_those_with_a_gap(store: Store) -> None:
    write(store, EVENTS, [event(EventKind.COVERAGE, START - 60_000)], "main")
    write(store, TICKS, [tick(0), tick(5)], "main")
    gap = bar(3, feed_gap_ms=5_000, close=9.0)
    counted = [replace(bar(0, timeframe="T:5", revision=r), day=START, number=1) for r in (0, 1)]
    write(store, BARS, [bar(0), bar(1), bar(0, revision=1, close=2.0), gap, *counted], "main")
    write(store, BARS, [bar(n, close=5.0) for n in range(-20, 20)], "backfill")
    found = rows(store, "select ts_open, close, revision, world from bars where timeframe = 'M1' order by 1")
    assert len(found) == len({row[0] for row in found})
    assert [row[1:] for row in found if row[3] == "main"] == [(2.0, 1, "main"), (1.1001, 0, "main"), (9.0, 0, "main")]
    assert rows(store, "select revision from bars where timeframe = 'T:5'") == [(1,)]
    assert rows(store, "select count(*) from all_bars") == [(46,)]
    first = rows(store, "select count(*) from bars where ts_open < '2014-05-02 03:06:00Z'")
    assert first == [(20,)]


def test_rates_and_specs_are_the_last_of_the_preferred_world(store: Store) -> None:
    spec = SymbolSpec(symbol="EURUSD", feed="test", shard="a", broker_name="EURUSD", digits=4, point=1e-4)
    for world, digits in (("backfill", 3), ("main", 5)):
        write(store, SYMBOLS, [spec, replace(spec, digits=digits)], world)
        write(store, RATES, [bar(0, close=1.0), bar(0, close=float(digits)), bar(1)], world)
    assert rows(store, "select digits, world from symbols") == [(5, "main")]
    assert rows(store, "select close from rates order by ts_open") == [(5.0,), (1.1001,)]
    assert rows(store, "select time::varchar from symbols") == [("2014-05-02 03:06:40+00",)]


def test_a_window_of_one_symbol_reads_the_files_that_have_it(store: Store) -> None:
    write(store, TICKS, [tick(n) for n in range(3_000)], "main")
    with connect(store.settings.lake_uri, None, ["main"]) as found:
        (plan,) = found.execute(
            "explain analyze select * from ticks where symbol = 'EURUSD' "
            "and ts_event >= '2014-05-04 10:00Z' and ts_event < '2014-05-04 11:00Z' and date = '2014-05-04'"
        ).fetchall()
    assert "Total Files Read: 1" in plan[1]


@pytest.mark.parametrize("name", ["a blank", "brackets [1]", "it's"])
def test_a_lake_may_stand_in_any_folder(tmp_path: Path, name: str) -> None:
    store = Store("lake", tmp_path / name)
    write(store, TICKS, [tick(n) for n in range(10)], "main")
    write(store, TICKS, [tick(n) for n in range(10, 20)], "main")
    uri = store.settings.lake_uri
    assert optimize(uri, None, TICKS, 168).after == 1
    assert rows(store, "select count(*) from ticks") == [(20,)]
    assert len(store.places(TICKS)) == 20
    assert read_ticks(uri, None, "main", "EURUSD", start_ms=at(5), end_ms=at(9)).height == 4
