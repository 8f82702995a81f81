"""The lake as its readers see it: our functions, and tools that know nothing of us."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from infra.lake.layout import BARS, EVENTS, REJECTED, TABLES, TICKS
from infra.lake.storage import filesystem, revealed
from infra.lake.tables import drop_world, ends, last_revisions, next_tick, read_bars, read_ticks, table_uri
from schemas.columns import dtypes
from schemas.errors import FencedError, StoreError
from schemas.records import Bar, EventKind, FeedEvent
from sinks.lake import LakeSink
from sinks.sink import Source
from tests.sinks.records import START, bar, batch, tick

MAIN = Source("main.ticks.clean", 0)
MAIN_BARS = Source("main.bars", 1)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


@pytest.fixture
def sink(uri: str) -> Iterator[LakeSink]:
    with closing(LakeSink(uri, None, "main")) as sink:
        sink.positions([MAIN, MAIN_BARS])
        yield sink


def test_a_lake_that_is_not_there_reads_as_empty(uri: str) -> None:
    ticks = read_ticks(uri, None, "main", "EURUSD", start_ms=0, end_ms=2**60)
    bars = read_bars(uri, None, "main", "EURUSD", "M1", start_ms=0, end_ms=2**60)
    assert (ticks.height, bars.height) == (0, 0)
    assert dict(ticks.schema).items() >= dtypes("Tick").items()
    assert dict(bars.schema).items() >= dtypes("Bar").items()
    assert ends(uri, None, "main", 4) == {f"main.{table.topic.name}": {} for table in TABLES}
    assert drop_world(uri, None, "main") == 0


def test_where_a_symbols_next_tick_may_be_is_known_without_reading_any(uri: str, sink: LakeSink) -> None:
    def found(symbol: str, start: int, end: int = 2**60, world: str = "main") -> int | None:
        return next_tick(uri, None, world, symbol, start_ms=start, end_ms=end)

    assert found("EURUSD", 0) is None
    day = 86_400_000
    one, other = tick(0), replace(tick(0), ts_event=START + 4_000 * day)
    for number, each in enumerate((one, other)):
        sink.write(batch(TICKS, [each]))
        sink.commit({MAIN: number + 1})
    assert found("EURUSD", -(2**60)) == found("EURUSD", 0) == one.ts_event
    assert found("EURUSD", one.ts_event) == one.ts_event
    assert found("EURUSD", one.ts_event + 1) == found("EURUSD", other.ts_event) == other.ts_event
    assert found("EURUSD", one.ts_event + 1, other.ts_event) is None
    assert found("EURUSD", other.ts_event + 1) is None
    assert found("GBPUSD", 0) is None
    assert found("EURUSD", 0, world="other") is None


def test_ticks_come_back_as_they_were_in_order_and_by_half_open_window(uri: str, sink: LakeSink) -> None:
    written = [tick(n, ordinal=o, ts_recv=START * 1_000 + 123_456) for n in range(2_000) for o in (0, 1)]
    sink.write(batch(TICKS, [*reversed(written), tick(1, "GBPUSD")]))
    sink.commit({MAIN: 4_001})
    found = read_ticks(uri, None, "main", "EURUSD", start_ms=written[10].ts_event, end_ms=written[3_000].ts_event)
    assert found.select(dtypes("Tick").keys()).rows(named=True) == [
        {name: getattr(each, name) for name in dtypes("Tick")} for each in written[10:3_000]
    ]
    assert found["world"].unique().to_list() == ["main"]
    assert found["source_offset"].to_list() == [3_999 - n for n in range(10, 3_000)]


def test_a_bar_comes_in_its_last_revision_and_the_table_holds_all(uri: str, sink: LakeSink) -> None:
    sink.write(batch(BARS, [bar(0), bar(1), bar(0, timeframe="M5"), bar(1, revision=1, close=2.0)], partition=1))
    sink.commit({MAIN_BARS: 4})
    sink.write(batch(BARS, [bar(0, revision=1), bar(0, revision=2, close=3.0)], partition=1, first=4))
    sink.commit({MAIN_BARS: 6})
    found = read_bars(uri, None, "main", "EURUSD", "M1", start_ms=0, end_ms=2**60)
    assert found.select("revision", "close", "status").rows() == [(2, 3.0, "revised"), (1, 2.0, "revised")]
    assert DeltaTable(table_uri(uri, BARS)).count() == 6
    last = last_revisions(pl.scan_delta(table_uri(uri, BARS)).filter(pl.col("timeframe") == "M1")).sort("ts_open")
    assert last.select("revision", "close").collect().rows() == [(2, 3.0), (1, 2.0)]


def test_a_count_bar_is_found_where_its_last_revision_opens(uri: str, sink: LakeSink) -> None:
    def counted(number: int, opens: int, revision: int = 0) -> Bar:
        name = {"timeframe": "T:5", "day": START, "number": number}
        return replace(bar(0), ts_open=START + opens, ts_close=START + opens + 9, revision=revision, **name)  # type: ignore[arg-type]

    before, after = [counted(0, 0), counted(1, 10), counted(2, 30)], [counted(1, 8, 1), counted(2, 8, 1)]
    sink.write(batch(BARS, [*before, *after]))
    sink.commit({MAIN_BARS: 5})
    found = read_bars(uri, None, "main", "EURUSD", "T:5", start_ms=START + 5, end_ms=START + 10)
    assert found.select("number", "revision").rows() == [(1, 1), (2, 1)]
    assert read_bars(uri, None, "main", "EURUSD", "T:5", start_ms=START + 10, end_ms=START + 50).height == 0


def test_worlds_are_dropped_one_by_one_and_may_begin_again(uri: str, sink: LakeSink) -> None:
    other = Source("other.ticks.clean", 0)
    with closing(LakeSink(uri, None, "other")) as second:
        second.positions([other])
        second.write(batch(TICKS, [tick(n) for n in range(5)]))
        second.commit({other: 5})
        sink.write(batch(TICKS, [tick(n) for n in range(3)]))
        sink.commit({MAIN: 3})
        assert drop_world(uri, None, "other") == 5
        assert read_ticks(uri, None, "other", "EURUSD", start_ms=0, end_ms=2**60).height == 0
        assert read_ticks(uri, None, "main", "EURUSD", start_ms=0, end_ms=2**60).height == 3
        assert ends(uri, None, "other", 4)["other.ticks.clean"] == {}
        assert ends(uri, None, "main", 4)["main.ticks.clean"] == {0: 3}
        second.write(batch(TICKS, [tick(5)], first=5))
        with pytest.raises(FencedError):
            second.commit({other: 6})
        assert second.positions([other]) == {}
        second.write(batch(TICKS, [tick(0)]))
        second.commit({other: 1})
    assert read_ticks(uri, None, "other", "EURUSD", start_ms=0, end_ms=2**60).height == 1


def test_other_tools_read_it_as_it_is(uri: str, sink: LakeSink) -> None:
    written = [tick(n) for n in range(1_500)]
    sink.write(batch(TICKS, written))
    sink.commit({MAIN: 1_500})
    table = DeltaTable(table_uri(uri, TICKS))
    files = table.file_uris()
    assert len(files) == 3  # two days and a bit: a file each
    first = datetime.fromtimestamp(START / 1_000, UTC)
    frame = pl.scan_delta(table_uri(uri, TICKS)).filter(pl.col("date") == first.date()).collect()
    assert frame["ts_event"][0] == first
    assert frame["server_time"][0] == datetime.fromtimestamp(START / 1_000 + 7_200, UTC).replace(tzinfo=None)
    with duckdb.connect() as connection:
        counted = connection.execute(
            "select count(*), sum(bid), min(ts_event)::varchar from read_parquet(?)", [files]
        ).fetchone()
    assert counted is not None
    assert counted[0] == 1_500
    assert counted[1] == pytest.approx(sum(each.bid for each in written))
    arrow = table.scan(predicate="symbol = 'EURUSD'").read_all()
    assert arrow.num_rows == 1_500


def test_pandas_reads_it_as_it_is(uri: str, sink: LakeSink) -> None:
    pandas = pytest.importorskip("pandas")
    sink.write(batch(TICKS, [tick(n) for n in range(10)]))
    sink.commit({MAIN: 10})
    frame = DeltaTable(table_uri(uri, TICKS)).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 10


def test_statistics_cover_what_readers_prune_by_and_nothing_else(uri: str, sink: LakeSink) -> None:
    sink.write(batch(TICKS, [tick(0, "AUDUSD"), tick(0, "USDJPY"), tick(1)]))
    sink.commit({MAIN: 3})
    log = (Path(uri) / "ticks" / "_delta_log" / f"{1:020}.json").read_text("utf-8")
    added = next(json.loads(line)["add"] for line in log.splitlines() if "add" in json.loads(line))
    stats = json.loads(added["stats"])
    assert stats["numRecords"] == 3
    assert (stats["minValues"]["symbol"], stats["maxValues"]["symbol"]) == ("AUDUSD", "USDJPY")
    assert set(stats["minValues"]) == {"symbol", "ts_event", "source_partition", "source_offset"}


def test_a_log_torn_by_a_power_cut_steps_back_with_rows_and_offsets_together(uri: str, sink: LakeSink) -> None:
    for number in range(105):  # past a checkpoint
        sink.write(batch(TICKS, [tick(number)], first=number))
        sink.commit({MAIN: number + 1})
    log = Path(uri) / "ticks" / "_delta_log"
    checkpoint, last = next(log.glob("*.checkpoint.parquet")), max(log.glob("*[0-9].json"))
    for damage in (b"", last.read_bytes()[:100]):
        for file in (checkpoint, last):
            if file.exists():
                file.write_bytes(damage)
        with closing(LakeSink(uri, None, "main")) as again:
            offset = again.positions([MAIN])[MAIN]
            rows = read_ticks(uri, None, "main", "EURUSD", start_ms=0, end_ms=2**60)
            assert (offset, rows.height) == (104, 104)
            again.write(batch(TICKS, [tick(104)], first=104))
            again.commit({MAIN: 105})


def test_a_table_of_an_older_schema_gets_the_new_columns(uri: str, sink: LakeSink) -> None:
    shutil.rmtree(Path(uri) / "ticks")
    older = {name: kind for name, kind in TICKS.schema.items() if name != "correction"}
    DeltaTable.create(
        table_uri(uri, TICKS), pl.DataFrame(schema=older).to_arrow().schema, partition_by=["world", "date"]
    )
    assert sink.positions([MAIN]) == {}
    sink.write(batch(TICKS, [tick(0)]))
    sink.commit({MAIN: 1})
    assert read_ticks(uri, None, "main", "EURUSD", start_ms=0, end_ms=2**60)["correction"].to_list() == [False]


def test_a_folder_that_is_no_table_is_an_error_of_ours(uri: str) -> None:
    log = Path(uri) / "ticks" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("rubbish")
    with pytest.raises(StoreError, match="cannot be read"):
        read_ticks(uri, None, "main", "EURUSD", start_ms=0, end_ms=1)


def test_what_the_library_says_in_several_coloured_lines_is_one() -> None:
    said = "Kernel error -> S3 error\n\x1b[31m↳\x1b[0m GET http://…: refused\n   \x1b[31m↳\x1b[0m URL scheme"
    assert (
        str(StoreError(f"no table: {said}")) == "no table: Kernel error -> S3 error: GET http://…: refused: URL scheme"
    )


def test_secrets_are_revealed_to_the_library_only() -> None:
    options = {"AWS_SECRET_ACCESS_KEY": SecretStr("hush")}
    assert revealed(options) == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(options)


@given(st.lists(st.integers(-62_135_596_800_000, 253_402_300_799_999), min_size=1, max_size=20))
def test_times_keep_every_millisecond(times: list[int]) -> None:
    records = [tick(0, ts_event=at, server_time=at, ts_recv=at * 1_000 + 999) for at in times]
    rows = TICKS.rows(batch(TICKS, records).rows, "main")
    back = rows.select(TICKS.integers()).sort("ts_event")
    assert back["ts_event"].to_list() == sorted(times)
    assert back["server_time"].to_list() == sorted(times)
    assert back["ts_recv"].to_list() == [at * 1_000 + 999 for at in sorted(times)]


def test_a_day_may_be_absent_but_not_impossible() -> None:
    frame = pl.DataFrame([asdict(bar(0, day=day)) for day in (None, START, 2**60)])
    assert frame.select(BARS.unfit()).to_series().to_list() == [False, False, True]


def test_every_table_says_what_it_holds() -> None:
    assert [table.name for table in TABLES] == ["ticks", "rejected", "bars", "rates", "events", "symbols"]
    assert "reason" in REJECTED.schema
    assert "reason" not in TICKS.schema


@given(st.lists(st.tuples(st.sampled_from(["B", "A", "é", ""]), st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_rows_come_in_the_tables_order_however_they_came(places: list[tuple[str, int, int]]) -> None:
    records = [tick(number, symbol, ordinal=ordinal) for symbol, number, ordinal in places]
    rows = TICKS.rows(batch(TICKS, records).rows, "main")
    assert rows.equals(rows.sort(TICKS.order, maintain_order=True))
    assert sorted(rows["source_offset"]) == list(range(len(places)))


def test_events_of_no_symbol_come_first() -> None:
    kind = {"kind": EventKind.CLOCK, "feed": "x", "shard": "a", "text": ""}
    records = [FeedEvent(time=START + n, symbol=symbol, **kind) for n, symbol in enumerate(("B", None, "A", None))]  # type: ignore[arg-type]
    rows = EVENTS.rows(batch(EVENTS, records).rows, "main")
    assert rows["symbol"].to_list() == [None, None, "A", "B"]


class Hiccups(BaseHTTPRequestHandler):
    """An S3 server that refuses four times in a row, then has every object."""

    def do_HEAD(self) -> None:
        self.server.refused += 1  # type: ignore[attr-defined]
        self.send_response(503 if self.server.refused < 5 else 200)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "7")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_reader_does_not_see_that_s3_refuses_for_a_moment() -> None:
    with HTTPServer(("127.0.0.1", 0), Hiccups) as server:
        server.refused = 0  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
            "access_key_id": "a",
            "region": "us-east-1",
        }
        options["secret_access_key"] = "b"  # noqa: S105
        secrets = {name: SecretStr(value) for name, value in options.items()}
        assert filesystem("s3://lake/main", secrets).get_file_info("ticks").size == 7
        server.shutdown()
