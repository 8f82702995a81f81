from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infra.market.zones import ServerZone
from producers.files import opening, text
from producers.files.days import Day, TickDay, digits, holes, in_order
from producers.files.discovery import Found, Wanted, discover
from producers.files.layouts import recognise
from producers.files.stream import month_or
from producers.files.times import find_form
from producers.terminal import TICK_DTYPE
from schemas.errors import SourceError, UsageError

Row = tuple[int, float, float]
HOUR = 3_600_000
DAY = 24 * HOUR


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1_000)


def clock(time: int, pattern: str) -> str:
    """A reading, with ``%3f`` for the milliseconds."""
    moment = datetime.fromtimestamp(time // 1_000, UTC)
    return moment.strftime(pattern.replace("%3f", f"{time % 1_000:03}"))


START = ms("2024-05-01")
ROWS: list[Row] = [
    (START + at, round(1.07 + n / 1e5, 5), round(1.0701 + n / 1e5, 5))
    for n, at in enumerate([5, 5, 1_000, HOUR, DAY - 1, DAY, DAY + 7, 2 * DAY + HOUR])
]


def metatrader(rows: list[Row], separator: str = "\t") -> str:
    lines = [separator.join(("<DATE>", "<TIME>", "<BID>", "<ASK>", "<LAST>", "<VOLUME>", "<FLAGS>"))]
    lines += [
        clock(time, f"%Y.%m.%d{separator}%H:%M:%S.%3f") + separator.join(["", f"{bid:.5f}", f"{ask:.5f}", "", "", "6"])
        for time, bid, ask in rows
    ]
    return "\r\n".join(lines) + "\r\n"


def metatrader_commas(rows: list[Row]) -> str:
    lines = [clock(time, "%Y.%m.%d,%H:%M:%S.%3f") + f",{bid},{ask},," for time, bid, ask in rows]
    return "\n".join(["DATE,TIME,BID,ASK,LAST,VOLUME", *lines])


def histdata(rows: list[Row]) -> str:
    return "\n".join(clock(time, "%Y%m%d %H%M%S%3f") + f",{bid:.6f},{ask:.6f},0" for time, bid, ask in rows)


def truefx(rows: list[Row]) -> str:
    return "".join(f"EUR/USD,{clock(time, '%Y%m%d %H:%M:%S.%3f')},{bid},{ask}\n" for time, bid, ask in rows)


def jforex(rows: list[Row]) -> str:
    lines = [f"{clock(time, '%d.%m.%Y %H:%M:%S.%3f')},{ask},{bid},1.5,0.75" for time, bid, ask in rows]
    return "\n".join(["Gmt time,Ask,Bid,AskVolume,BidVolume", *lines])


def jforex_local(rows: list[Row]) -> str:
    lines = [
        f"{clock(time + 2 * HOUR, '%d.%m.%Y %H:%M:%S.%3f')} GMT+0200,{ask},{bid},1.5,0.75" for time, bid, ask in rows
    ]
    return "\n".join(["Local time,Ask,Bid,AskVolume,BidVolume", *lines])


def dukascopy_node(rows: list[Row]) -> str:
    return "\n".join(["timestamp,askPrice,bidPrice,askVolume,bidVolume", *(f"{t},{a},{b},1,1" for t, b, a in rows)])


def named(rows: list[Row]) -> str:
    lines = [clock(time, '"%Y-%m-%dT%H:%M:%S.%3fZ"') + f';"EURUSD"; {bid};{ask}' for time, bid, ask in rows]
    return "\n".join(['Timestamp;"Symbol";Bid;Ask', *lines])


WRITERS = {
    "EURUSD_202405010000_202405032359.csv": (metatrader, "MetaTrader", None),
    "EURUSD-ticks.csv": (metatrader_commas, "MetaTrader", None),
    "DAT_ASCII_EURUSD_T_202405.csv": (histdata, "HistData", "UTC-5"),
    "EURUSD-2024-05.csv": (truefx, "TrueFX", "UTC"),
    "EURUSD_Ticks_01.05.2024-03.05.2024.csv": (jforex, "Dukascopy", "UTC"),
    "EURUSD_Ticks_2024.05.01_2024.05.03.csv": (jforex_local, "Dukascopy", "UTC"),
    "eurusd-tick-2024-05-01-2024-05-03.csv": (dukascopy_node, "Dukascopy", "UTC"),
    "some quotes.csv": (named, "CSV", "UTC"),
}


def read(found: Found) -> list[tuple[int, float, float]]:
    loaded = [day.load() for day in found.days]
    assert not any(day.malformed for day in loaded)
    ticks = np.concatenate([day.ticks for day in loaded])
    return [(int(t["time_msc"]), float(t["bid"]), float(t["ask"])) for t in ticks]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
def test_each_format_is_found_said_and_read(tmp_path: Path, name: str, packed: str) -> None:
    write, title, zone = WRITERS[name]
    path = tmp_path / (name + packed if packed == ".gz" else name.removesuffix(".csv") + packed or name)
    content = write(ROWS)
    if packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
            archive.writestr(name.replace(".csv", ".txt"), "a report")
    elif packed:
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path = tmp_path / name
        path.write_text(content, newline="")
    found = discover([tmp_path])
    assert [each.split(" ")[0] for each in found.formats] == [title]
    assert found.zone == zone
    assert {day.symbol for day in found.days} == {"EURUSD"} or name == "some quotes.csv"
    assert [day.day for day in found.days][:3] == [date(2024, 5, 1), date(2024, 5, 2), date(2024, 5, 3)]
    assert read(found) == ROWS
    assert digits(found.days[0].load().ticks["bid"]) == 5
    assert all(set(day.load().ticks["flags"].tolist()) == {6} for day in found.days[:3]), "days can be read again"


@given(
    st.sampled_from([metatrader, metatrader_commas, histdata, truefx, jforex, jforex_local, dukascopy_node, named]),
    st.lists(
        st.tuples(st.integers(0, 40 * DAY), st.integers(10, 10**9), st.integers(10, 10**9)), min_size=1, max_size=30
    ),
    st.integers(1, 300),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_ticks_come_back_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    write: object,
    drawn: list[tuple[int, int, int]],
    size: int,
) -> None:
    rows = [(START + at, bid / 1e5, ask / 1e5) for at, bid, ask in sorted(drawn)]
    path = tmp_path_factory.getbasetemp() / "EURUSD_2024.csv"
    path.write_text(write(rows), newline="")  # type: ignore[operator]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", max(size, 120))
        read_back = read(discover([path]))
    assert [t for t, _, _ in read_back] == [t for t, _, _ in rows]
    assert np.allclose([row[1:] for row in read_back], [row[1:] for row in rows], rtol=0, atol=6e-6)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_text_may_be_marked_as_of_another_encoding(tmp_path: Path, encoding: str, *, packed: bool) -> None:
    path = tmp_path / ("EURUSD_20240501.csv" + (".gz" if packed else ""))
    content = ("\ufeff" if encoding == "utf-16-be" else "") + metatrader(ROWS)
    path.write_bytes(gzip.compress(content.encode(encoding)) if packed else content.encode(encoding))
    assert read(discover([path])) == ROWS


def test_an_empty_price_of_metatrader_is_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD.r_202405010000_202405010001.csv"
    path.write_text(
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\n"
        "2024.05.01\t00:00:01.000\t1.07\t1.08\n"
        "2024.05.01\t00:00:02\t\t1.09\t\t\n"
        "2024.05.01\t00:00:03.500\t1.06\t\t\t\n"
        "2024.05.01\t00:00:04.000\t\t\t1.065\t2\n"
    )
    (day,) = discover([path]).days
    assert (day.symbol, day.broker_name) == ("EURUSD.r", "EURUSD.r")
    ticks = day.load().ticks
    assert ticks[["bid", "ask", "last", "volume_real", "flags"]].tolist() == [
        (1.07, 1.08, 0, 0, 6),
        (1.07, 1.09, 0, 0, 4),
        (1.06, 1.09, 0, 0, 2),
        (1.06, 1.09, 1.065, 2, 24),
    ]
    assert (ticks["time_msc"] - START).tolist() == [1_000, 2_000, 3_500, 4_000]


def test_lines_that_are_no_ticks_are_counted_and_named(tmp_path: Path) -> None:
    lines = metatrader(ROWS[:2]).splitlines()
    bad = [
        ("2024.05.01\t00:00:01", "2 fields, not 4 to 7"),
        ("2024.05.01\t25:00:01.000\t1.1\t1.2\t\t\t6", "not a time"),
        ("2024.05.01\t00:00:01.000\tx\t1.2\t\t\t6", "not a number"),
        ("2024.05.01\t00:00:01.000\tnan\t1.2\t\t\t6", "not a number"),
        ("2024.05.01\t00:00:01.000\t1_0\t1.2\t\t\t6", "not a number"),
        ("2024.05.01\t00:00:01.000\t\t\t\t\t6", "no price"),
        ("1964.05.01\t00:00:01.000\t1.1\t1.2\t\t\t6", "a time before 1970 or after 2099"),
    ]
    path = tmp_path / "EURUSD_20240501.csv"
    path.write_text("\r\n".join([*lines[:2], "", *(line for line, _ in bad), lines[2]]))
    (day,) = discover([path]).days
    loaded = day.load()
    assert len(loaded.ticks) == 2
    assert [(line.line, line.reason) for line in loaded.malformed] == [(n + 4, why) for n, (_, why) in enumerate(bad)]
    assert str(loaded.malformed[1]).startswith(f"{path}:5: not a time: ")


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60), max_size=20))
@example(["2024.05.01\t00:00:01.000\t1e999\t1.2\t\t\t6", "2024.05.01\t00:00:01.000\t1.1\t1.2\t\t\t-1e99"])
def test_rubbish_is_never_more_than_malformed(lines: list[str]) -> None:
    layout = recognise(Path("x"), metatrader(ROWS))
    assert layout is not None
    lines = [line.replace("\n", " ") for line in lines]
    block = text.parse(Path("x"), lines, 1, layout, dict.fromkeys(("bid", "ask", "last"), 0.0))
    assert sum(bool(line.strip()) for line in lines) <= len(block.ticks) + len(block.malformed) <= len(lines)
    assert np.isfinite(block.ticks["bid"]).all()


def bi5(rows: list[tuple[int, int, int]]) -> bytes:
    return lzma.compress(b"".join(struct.pack(">3I2f", t, a, b, 1.5, 0.75) for t, a, b in rows), lzma.FORMAT_ALONE)


def hour(folder: Path, number: int, content: bytes, symbol: str = "EURUSD") -> Path:
    path = folder / symbol / "2024" / "04" / "01" / f"{number:02}h_ticks.bi5"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_dukascopys_hours_are_a_day_and_what_is_not_there_is_a_hole(tmp_path: Path) -> None:
    hour(tmp_path, 0, bi5([(0, 107_001, 107_000), (3_599_999, 107_003, 107_002)]))
    hour(tmp_path, 1, b"")
    hour(tmp_path, 3, bi5([(5, 107_005, 107_004), (4_000_000, 1, 1)]))
    found = discover([tmp_path])
    (day,) = found.days
    assert (day.symbol, day.day, found.zone) == ("EURUSD", date(2024, 5, 1), "UTC")
    loaded = day.load()
    assert loaded.ticks[["time_msc", "bid", "ask"]].tolist() == [
        (START, 1.07, 1.07001),
        (START + HOUR - 1, 1.07002, 1.07003),
        (START + 3 * HOUR + 5, 1.07004, 1.07005),
    ]
    assert [str(line.reason) for line in loaded.malformed] == ["not a time of this hour"]
    assert [span for _, span in holes(found.days, day.start)] == [(START + 2 * HOUR, START + 3 * HOUR)]
    assert (day.start, day.end) == (START, START + 4 * HOUR)


@given(st.lists(st.tuples(st.integers(0, HOUR - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=50))
def test_any_hour_of_dukascopys_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    path = hour(tmp_path_factory.getbasetemp() / "bi5", 7, bi5(rows), "USDJPY")
    (day,) = discover([path]).days
    ticks = day.load().ticks
    assert ticks["time_msc"].tolist() == [START + 7 * HOUR + time for time, _, _ in rows]
    assert ticks["ask"].tolist() == [ask / 1_000 for _, ask, _ in rows]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "cannot be read"),
        (bi5([(1, 2, 3)] * 400)[:-9], "cut short"),
        (lzma.compress(b"123", lzma.FORMAT_ALONE), "3 bytes are no rows"),
        (lzma.compress(bytes(80_000_000), lzma.FORMAT_ALONE, preset=0), "more than an hour can have"),
    ],
)
def test_a_damaged_hour_is_a_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    (day,) = discover([hour(tmp_path, 0, content)]).days
    with pytest.raises(SourceError, match=said):
        day.load()


def test_dukascopys_decimals_are_asked_for_where_they_are_not_known(tmp_path: Path) -> None:
    hour(tmp_path, 0, bi5([(0, 123_457, 123_456)]), "USA500IDXUSD")
    with pytest.raises(UsageError, match="--digits"):
        discover([tmp_path])
    (day,) = discover([tmp_path], Wanted("US500", digits=3)).days
    assert (day.symbol, day.broker_name) == ("US500", "USA500IDXUSD")
    assert day.load().ticks["bid"].tolist() == [123.456]


@pytest.mark.parametrize("kind", ["utc", "naive", "epoch", "text"])
def test_parquet_with_named_columns(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "EURUSD_2024.parquet"
    times = pl.Series("ts", [time for time, _, _ in ROWS], pl.Int64)
    moments = times.cast(pl.Datetime("ms"))
    column = {
        "utc": moments.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        "naive": moments,
        "epoch": times,
        "text": moments.dt.to_string("%Y-%m-%d %H:%M:%S%.3f"),
    }[kind]
    frame = pl.DataFrame({"ts": column, "b": [b for _, b, _ in ROWS], "a": [a for _, _, a in ROWS]})
    frame = pl.concat([frame, pl.DataFrame({"ts": [None], "b": [1.0], "a": [1.0]}, schema=frame.schema)])
    frame.write_parquet(path)
    found = discover([path], Wanted(columns={"bid": "b", "ask": "a"}))
    assert found.zone == (None if kind in {"naive", "text"} else "UTC")
    loaded = [day.load() for day in found.days]
    rows = [(int(t["time_msc"]), float(t["bid"]), float(t["ask"])) for day in loaded for t in day.ticks]
    assert rows == ROWS
    assert [line.reason for day in loaded for line in day.malformed] == ["not a time"]
    with pytest.raises(UsageError, match="no column 'bb'; there are ts, b, a"):
        discover([path], Wanted(columns={"bid": "bb", "ask": "a"}))


def test_what_is_refused_and_why(tmp_path: Path) -> None:
    bars = tmp_path / "bars.csv"
    bars.write_text(
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n2024.05.01\t00:00:00\t1\t1"
    )
    with pytest.raises(UsageError, match="holds bars, not ticks"):
        discover([bars])
    (tmp_path / "ticks.csv").write_text(truefx(ROWS))
    assert discover([tmp_path]).ignored == [bars], "in a folder it is passed over"
    bars.unlink()
    (tmp_path / "ticks.csv").unlink()
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Sir,\n")
    with pytest.raises(UsageError, match=r"no tick files in .*Dukascopy"):
        discover([tmp_path])
    (tmp_path / "a.csv").write_text(histdata(ROWS))
    (tmp_path / "b.csv").write_text(jforex(ROWS))
    with pytest.raises(UsageError, match="different clocks"):
        discover([tmp_path])


def test_several_files_of_one_symbol_follow_one_another_or_are_refused(tmp_path: Path) -> None:
    (tmp_path / "EURUSD_1_2024.csv").write_text(metatrader(ROWS[:3]), newline="")
    (tmp_path / "EURUSD_2_2024.csv").write_text(metatrader(ROWS[3:]), newline="")
    found = discover([tmp_path], Wanted("EURUSD"))
    assert read(found) == ROWS
    assert [span for _, span in holes(found.days, found.days[0].start)] == [(ROWS[2][0] + 1, ROWS[3][0])]
    (tmp_path / "EURUSD_3_2024.csv").write_text(metatrader(ROWS[4:]), newline="")
    with pytest.raises(UsageError, match="both have EURUSD at 2024-05-01"):
        discover([tmp_path], Wanted("EURUSD"))


def test_a_file_whose_days_are_out_of_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD_2024.csv"
    path.write_text(metatrader([ROWS[0], ROWS[5], ROWS[3], ROWS[7]]), newline="")
    with pytest.raises(SourceError, match="out of order: a tick of 2024-05-01 01:00:00"):
        read(discover([path]))


@pytest.mark.parametrize(
    ("written", "absolute"),
    [
        ("2024.05.01 13:14:15.678", False), ("2024-05-01T13:14:15.678", False), ("20240501 131415678", False),
        ("01.05.2024 13:14:15.678", False), ("20240501 13:14:15.678", False), ("2024/05/01 13:14:15.678", False),
        ("2024-05-01T13:14:15.678Z", True), ("2024-05-01 15:14:15.678901+02:00", True),
        ("01.05.2024 15:14:15.678 GMT+0200", True), ("1714569255.678", True), ("1714569255678", True),
        ("1714569255678999", True), ("1714569255678999999", True), ("1714569255678.9", True),
    ],
)  # fmt: skip
def test_ways_to_write_a_moment(written: str, *, absolute: bool) -> None:
    form = find_form(written)
    assert form is not None
    assert form.absolute is absolute
    frame = pl.DataFrame({"t": [written, "x", None, ""]}).select(form.milliseconds(pl.col("t")))
    assert frame["t"].to_list() == [ms("2024-05-01T13:14:15.678"), None, None, None]


@pytest.mark.parametrize("text", ["", "1.0701", "yesterday", "01/05/2024 10:00:00", "13:14:15"])
def test_what_is_no_moment(text: str) -> None:
    assert find_form(text) is None


def test_a_month_that_was_over_is_whole_and_one_that_was_not_ends_with_its_last_tick() -> None:
    first, friday, thursday = ms("2024-05-01T00:00:03"), ms("2024-05-31T16:59:58"), ms("2024-05-30T23:00:00")
    assert month_or(first, friday, (2024, 5)) == (ms("2024-05-01"), ms("2024-06-01"))
    assert month_or(first, thursday, (2024, 5)) == (ms("2024-05-01"), thursday + 1)
    assert month_or(first, friday, None) == (first, friday + 1)
    assert month_or(first, ms("2024-06-28T16:59:58"), (2024, 6))[0] == first, "named for another month"


def span_day(*spans: tuple[int, int]) -> TickDay:
    day = datetime.fromtimestamp(spans[0][0] / 1_000, UTC).date()
    return TickDay(Path("x"), "S", day, lambda: Day(np.zeros(0, TICK_DTYPE)), "S", spans)


@given(st.lists(st.tuples(st.integers(0, 4 * DAY), st.integers(1, DAY)), min_size=1, max_size=8), st.integers(0, DAY))
def test_holes_and_spans_together_are_all_there_is(drawn: list[tuple[int, int]], since: int) -> None:
    days = []
    reached = 0
    for start, length in sorted(drawn):
        begin = max(start, reached)
        end = min(begin + length, (begin // DAY + 1) * DAY)
        days.append(span_day((begin, end)))
        reached = end
    found = [span for _, span in holes(days, since)]
    pieces = sorted([*found, *(span for day in days for span in day.spans if span[1] > since)])
    if reached > since:
        assert min(pieces)[0] <= since
        assert all(first[1] == second[0] for first, second in pairwise(pieces))
    assert all(start // DAY == (end - 1) // DAY for start, end in found), "cut at midnights"


def test_the_hour_that_a_clock_shows_twice_comes_after_itself() -> None:
    athens = ServerZone.parse("Europe/Athens")
    truth = np.arange(ms("2025-10-25T23:30"), ms("2025-10-26T02:30"), 600_000)
    ticks = np.zeros(len(truth), TICK_DTYPE)
    ticks["time_msc"] = athens.to_server(truth)
    _, times, behind = in_order(ticks, athens)
    assert times.tolist() == truth.tolist()
    assert behind == 0
    swapped = np.concatenate([ticks[1::-1], ticks[2:]])
    assert in_order(swapped, athens)[1].tolist() == truth.tolist()


def test_a_long_file_is_read_once_and_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD_2024.csv"
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    with path.open("w") as file:
        file.write("time,bid,ask\n")
        for number in range(200_000):
            file.write(f"{begin + timedelta(seconds=20 * number):%Y-%m-%d %H:%M:%S},1.1,1.2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "BLOCK_BYTES", 1 << 18)
        found = discover([path])
        assert sum(len(day.load().ticks) for day in found.days) == 200_000
    assert len(found.days) == 47
