"""The CSV layout, and what a crash between any two of its steps leaves behind."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.lake.layout import BARS, RATES, TICKS
from infra.paths import encoded
from schemas.errors import ComponentError, StoreError
from sinks import files
from sinks.csv import CSV, text
from sinks.files import FileSink
from sinks.journal import Journal
from sinks.sink import Source
from tests.sinks.records import START, bar, batch, tick
from tests.sinks.stores import csv_rows

SOURCE = Source("main.ticks.clean", 0)
BARS_SOURCE = Source("main.bars", 0)
RATES_SOURCE = Source("main.rates", 0)


class PowerCutError(Exception):
    pass


def test_files_and_metadata_stand_where_the_first_users_look(tmp_path: Path) -> None:
    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        sink.positions([SOURCE, BARS_SOURCE, RATES_SOURCE])
        sink.write(batch(TICKS, [tick(0), tick(0, "con")]))
        sink.write(batch(BARS, [bar(0), bar(0, timeframe="H4"), bar(0, timeframe="MN1")]))
        sink.write(batch(RATES, [bar(0)]))
        sink.commit({SOURCE: 2, BARS_SOURCE: 3, RATES_SOURCE: 1})
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv"))
    assert found == [
        "ohlcv/EURUSD/H4/2014-05.bars.000001.csv",
        "ohlcv/EURUSD/M1/2014-05-02.bars.000001.csv",
        "ohlcv/EURUSD/M1/2014-05-02.rates.000001.csv",
        "ohlcv/EURUSD/MN1/2014.bars.000001.csv",
        "ticks/%63on/2014-05-02.000001.csv",
        "ticks/EURUSD/2014-05-02.000001.csv",
    ]
    header, line = (tmp_path / found[-1]).read_text("utf-8").splitlines()
    assert header.startswith("time,symbol,bid,ask,last,volume,flags,ordinal,feed,server_time,")
    assert line.startswith("2014-05-02T03:06:40.000Z,EURUSD,1.1,1.1002,0.0,0.0,6,0,test,2014-05-02T05:06:40.000,")
    record = json.loads((tmp_path / "metadata" / "000001.json").read_text("utf-8"))
    assert record["sources"][2] == {"topic": "main.ticks.clean", "partition": 0, "from": None, "to": 2, "rows": 2}
    assert {file["path"] for file in record["files"]} == set(found)


def test_a_folder_of_the_first_format_goes_on_and_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before, closing(FileSink(tmp_path, "main", CSV)) as sink:
        before.setattr(files, "FORMAT", 1)
        before.setitem(files._FOLDERS, RATES.name, "rates")
        sink.positions([RATES_SOURCE])
        sink.write(batch(RATES, [bar(0)]))
        sink.commit({RATES_SOURCE: 1})
    (old,) = (tmp_path / "rates").rglob("*.csv")
    content = old.read_bytes()
    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        assert sink.positions([RATES_SOURCE]) == {RATES_SOURCE: 1}
        sink.write(batch(RATES, [bar(1)], first=1))
        sink.commit({RATES_SOURCE: 2})
    assert old.read_bytes() == content
    assert [row["offset"] for row in csv_rows(tmp_path, RATES)] == ["1"]


def test_count_bars_have_a_folder_that_every_system_takes(tmp_path: Path) -> None:
    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        sink.positions([SOURCE])
        sink.write(batch(BARS, [replace(bar(0, timeframe="T:1000"), day=START, number=7)]))
        sink.commit({SOURCE: 1})
    (row,) = csv.DictReader((tmp_path / "ohlcv/EURUSD/T%3A1000/2014-05-02.bars.000001.csv").read_text().splitlines())
    assert (row["day"], row["number"]) == ("2014-05-02T03:06:40.000Z", "7")


@pytest.mark.parametrize("step", ["record", "first file", "second file"])
def test_a_commit_cut_off_at_any_step_is_finished_or_undone(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = Path.rename, ["record", "first file", "second file"].index(step)

    def cut(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise PowerCutError
        left -= 1
        return rename(path, target)

    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        sink.positions([SOURCE])
        sink.write(batch(TICKS, [tick(0), tick(1, "GBPUSD")]))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", cut)
            with pytest.raises(PowerCutError):
                sink.commit({SOURCE: 2})
    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        landed = sink.positions([SOURCE])
        rows = list(csv_rows(tmp_path, TICKS))
        assert (landed, len(rows)) == (({}, 0) if step == "record" else ({SOURCE: 2}, 2))
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == []


def test_data_without_its_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ticks").mkdir()
    with pytest.raises(ComponentError, match="no metadata"), closing(FileSink(tmp_path, "main", CSV)) as sink:
        sink.positions([SOURCE])


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    with closing(FileSink(tmp_path, "main", CSV)) as sink:
        sink.positions([SOURCE])
        sink.write(batch(TICKS, [tick(0)]))
        place = tmp_path / "ticks" / "EURUSD" / "2014-05-02.000001.csv"
        place.parent.mkdir(parents=True)
        place.write_text("mine")
        with pytest.raises(ComponentError, match="in the way"):
            sink.commit({SOURCE: 1})
        assert place.read_text() == "mine"


def test_a_folder_that_cannot_be_used_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError), closing(Journal(tmp_path / "file" / "raw", frozenset())) as journal:
        journal.open()


@given(st.lists(st.floats(allow_infinity=False, allow_nan=False), min_size=1, max_size=20))
def test_prices_read_back_exactly(prices: list[float]) -> None:
    records = [tick(n, bid=price) for n, price in enumerate(prices)]
    lines = text(TICKS, TICKS.rows(batch(TICKS, records).rows, "main")).decode()
    assert [float(row["bid"]) for row in csv.DictReader(lines.splitlines())] == prices


@given(st.text(max_size=60))
def test_encoded_names_are_safe_on_every_system(name: str) -> None:
    made = encoded(name) if name.isprintable() else "%"
    assert made
    assert not set(made) & set('<>:"/\\|?* ')
    assert not made.endswith(".")
    assert not made.startswith(".")
    assert len(made) <= 120
