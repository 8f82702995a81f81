"""Small files become few, in order, while others read and write; the lake is proved against its topics."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from infra.lake.layout import BARS, EVENTS, TICKS
from infra.lake.tables import open_table, table_uri
from schemas.errors import StoreError
from schemas.records import EventKind, FeedEvent
from sinks import delta_files
from sinks import optimize as module
from sinks.lake import LakeSink
from sinks.optimize import optimize
from sinks.sink import Source
from tests.sinks.records import START, SYMBOLS, bar, batch, tick
from tests.sinks.stores import Store

LATER = datetime.fromtimestamp(START / 1_000, UTC) + timedelta(days=30)
SOURCE = Source("main.ticks.clean", 0)


def fill(store: Store, commits: int, each: int = 20, first: int = 0) -> None:
    settings = store.settings
    with closing(LakeSink(settings.lake_uri, settings.lake.storage_options, "main")) as sink:
        sink.positions([SOURCE])
        for at in range(first, first + commits * each, each):
            sink.write(batch(TICKS, (tick(n % 700, SYMBOLS[n % 4]) for n in range(at, at + each)), first=at))
            sink.commit({SOURCE: at + each})


def run(store: Store, now: datetime = LATER) -> module.Outcome:
    settings = store.settings
    return optimize(settings.lake_uri, settings.lake.storage_options, TICKS, 168, now=lambda: now)


def files(store: Store) -> list[str]:
    handle = open_table(store.settings.lake_uri, store.settings.lake.storage_options, TICKS)
    assert handle is not None
    return handle.file_uris()


@pytest.mark.parametrize("kind", ["lake", "lake-s3"])
def test_a_day_that_is_over_becomes_one_file_in_order_and_says_where_the_sink_goes_on(
    kind: str, tmp_path: Path
) -> None:
    store = Store(kind, tmp_path)
    fill(store, 12)
    before = store.places(TICKS)
    outcome = run(store)
    assert (outcome.rows, outcome.after, len(files(store))) == (240, outcome.after, outcome.after)
    assert outcome.before > outcome.after
    assert store.places(TICKS) == before
    assert run(store).before == 0
    with store.sink() as sink:
        assert sink.positions([SOURCE]) == {SOURCE: 240}
    if kind == "lake":
        (first, *_) = sorted(files(store))
        rows = pl.read_parquet(first, hive_partitioning=False)
        assert rows.equals(rows.sort(TICKS.order))
        table = DeltaTable(table_uri(store.settings.lake_uri, TICKS))
        found = pl.scan_delta(table).filter(pl.col("symbol") == "XAU/USD").collect()
        assert found.height == 60
    fill(store, 1, first=240)
    assert run(store).before > 0
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(260))


def test_a_day_that_is_filled_is_left_until_its_files_are_many(tmp_path: Path) -> None:
    store, today = Store("lake", tmp_path), datetime.fromtimestamp(START / 1_000, UTC)
    fill(store, 5)
    assert run(store, today).before == 0
    fill(store, 5, first=100)
    assert run(store, today).before == 10
    assert len(files(store)) == 1


def test_chunks_and_files_are_cut_where_they_are_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", 70)
    monkeypatch.setattr(module, "_FILE_ROWS", 120)
    store = Store("lake", tmp_path)
    fill(store, 10)
    outcome = run(store)
    assert (outcome.rows, outcome.after) == (200, 2)
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(200))
    rows = pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in sorted(files(store)))
    assert rows.equals(rows.sort(TICKS.order))


def test_rows_without_a_symbol_and_every_revision_stay(tmp_path: Path) -> None:
    store = Store("lake", tmp_path)
    event = {"time": START, "kind": EventKind.CONNECTED, "feed": "test", "shard": "a", "text": ""}
    with store.sink() as sink:
        sources = [store.source(EVENTS), store.source(BARS)]
        sink.positions(sources)
        for n in range(3):
            symbols = (None, "EURUSD")
            sink.write(batch(EVENTS, [FeedEvent(symbol=s, **event) for s in symbols], first=2 * n))  # type: ignore[arg-type]
            sink.write(batch(BARS, [bar(0, revision=n)], first=n))
            sink.commit(dict(zip(sources, (2 * n + 2, n + 1), strict=True)))
    for table in (EVENTS, BARS):
        optimize(store.settings.lake_uri, None, table, 168, now=lambda: LATER)
    assert sorted(store.places(BARS)) == [("EURUSD", 0, n) for n in range(3)]
    events = pl.read_delta(table_uri(store.settings.lake_uri, EVENTS))
    assert events["symbol"].sort().to_list() == [None] * 3 + ["EURUSD"] * 3


def test_sinks_go_on_while_files_are_put_together_and_nothing_is_read_twice(tmp_path: Path) -> None:
    store = Store("lake", tmp_path)
    fill(store, 10)
    done, seen = threading.Event(), [0]

    def read() -> None:
        while not done.is_set():
            places = store.places(TICKS)
            assert len(places) == len(set(places))
            seen[0] = max(seen[0], len(places))

    def work() -> None:
        while not done.is_set():
            run(store)

    threads = [threading.Thread(target=each) for each in (read, work, work)]
    for thread in threads:
        thread.start()
    try:
        fill(store, 40, first=200)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    run(store)
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(1_000))
    assert seen[0] > 200


def test_of_two_that_put_the_same_files_together_the_second_is_left(tmp_path: Path) -> None:
    store = Store("lake", tmp_path)
    fill(store, 10)
    uri = store.settings.lake_uri
    stale = open_table(uri, None, TICKS)
    assert stale is not None
    waiting = list(module.parts(stale, LATER.date()))
    DeltaTable(table_uri(uri, TICKS)).optimize.compact()  # another tool's
    outcome = module.Outcome()
    for part in waiting:
        module._Rewrite(uri, None, TICKS, stale).run(part, outcome)
    assert (outcome.before, outcome.conflicts) == (0, len(waiting))
    assert store.places(TICKS) == sorted((SYMBOLS[n % 4], 0, n) for n in range(200))


def test_a_sink_that_stood_still_writes_its_files_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("lake", tmp_path)
    with store.sink() as sink:
        sink.positions([SOURCE])
        with monkeypatch.context() as patch:
            patch.setattr(delta_files, "_STALE_SECONDS", -1)
            sink.write(batch(TICKS, [tick(0)]))
            with pytest.raises(StoreError, match="stood still"):
                sink.commit({SOURCE: 1})
        sink.write(batch(TICKS, [tick(0)]))
        sink.commit({SOURCE: 1})
    assert store.places(TICKS) == [("EURUSD", 0, 0)]
