from __future__ import annotations

import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.market.zones import ServerZone
from producers.cursor import Cursor
from producers.files import days, lean
from producers.files.days import TickDay, in_order
from producers.files.discovery import Wanted, discover
from producers.importer import misplaced
from schemas.errors import SourceError, UsageError
from tests.acceptance import oracle

DAY = date(2014, 5, 1)
MIDNIGHT = 1_398_902_400_000


def write(folder: Path, text: str, symbol: str = "eurusd", day: str = "20140501") -> TickDay:
    path = folder / "tick" / symbol / f"{day}_quote.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{day}_{symbol}_tick_quote.csv", text)
    found = lean.recognise(path)
    assert found is not None
    assert (found.symbol, found.day) == (symbol.upper(), date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}"))
    return found


def test_times_are_floored_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    day = write(tmp_path, "0,1.1,1.2\r\n60.0022,1.3,1.4\n60.9,1.5,1.6\r\n86399999.999,1.7,1.8").load()
    assert (day.ticks["time_msc"] - MIDNIGHT).tolist() == [0, 60, 60, 86_399_999]
    assert day.ticks["bid"].tolist() == [1.1, 1.3, 1.5, 1.7]
    assert day.ticks["ask"].tolist() == [1.2, 1.4, 1.6, 1.8]
    assert set(day.ticks["flags"].tolist()) == {6}
    assert not day.malformed


def test_lines_that_are_no_ticks_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    file = write(
        tmp_path, "1,1.1,1.2\r\nx,1,2\r\n2,1.1\r\n3,nan,1\r\n-1,1,1\r\n86400000,1,1\r\n1_0,1,1\r\n4,1.3,1.4\r\n\r\n"
    )
    day = file.load()
    assert (day.ticks["time_msc"] - MIDNIGHT).tolist() == [1, 4]
    assert [(bad.line, bad.reason) for bad in day.malformed] == [
        (2, "not a number"),
        (3, "2 fields, not 3"),
        (4, "not a number"),
        (5, "not a time of this day"),
        (6, "not a time of this day"),
        (7, "not a number"),
    ]
    assert str(day.malformed[0]) == f"{file.path}:2: not a number: 'x,1,2'"


@given(
    st.lists(
        st.tuples(st.floats(0, 86_399_999), st.floats(0.0001, 1e6), st.floats(0.0001, 1e6)).map(
            lambda row: tuple(round(x, 5) for x in row)
        )
        | st.sampled_from(["", "garbage", "1,2", "1,2,3,4", ",,", "5,1.0,"]),
        max_size=20,
    )
)
def test_quick_and_careful_reading_agree(lines: list[tuple[float, ...] | str]) -> None:
    data = "\n".join(line if isinstance(line, str) else ",".join(map(str, line)) for line in lines).encode()
    quick = lean._quick(data)
    careful, malformed = lean._careful(Path("x"), data)
    good = [line for line in lines if not isinstance(line, str)]
    assert careful.rows() == good
    assert len(malformed) == sum(isinstance(line, str) and bool(line) for line in lines)
    if quick is not None:
        assert quick.rows() == careful.rows()
        assert not malformed


def test_lines_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    day = write(tmp_path, "5,1.5,1.5\n3,1.3,1.3\n5,1.6,1.6\n4,1.4,1.4\n").load()
    ticks, _, reordered = in_order(day.ticks, ServerZone.parse("UTC"))
    assert ticks["bid"].tolist() == [1.3, 1.4, 1.5, 1.6]
    assert reordered == 2


def test_a_zip_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    file = write(tmp_path, "1,1,1\n")
    file.path.write_bytes(b"PK nonsense")
    with pytest.raises(SourceError, match=r"20140501_quote\.zip cannot be read"):
        file.load()
    whole = write(tmp_path, "1,1,1\n" * 1_000).path
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(SourceError, match="cannot be read"):
        file.load()


def test_files_are_found_by_symbol_and_day_and_minutes_are_ignored(tmp_path: Path) -> None:
    late, early = write(tmp_path, "", day="20140502"), write(tmp_path, "")
    other = write(tmp_path, "", "audusd")
    minute = tmp_path / "minute" / "eurusd" / "20140501_quote.zip"
    minute.parent.mkdir(parents=True)
    minute.write_bytes(early.path.read_bytes())
    found = discover([tmp_path])
    assert list(found.days) == [other, early, late]
    assert list(found.ignored) == [minute]
    with pytest.raises(UsageError, match="no tick file"):
        discover([minute])
    with pytest.raises(UsageError, match="does not exist"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="same day of GOLD"):
        discover([tmp_path], Wanted("GOLD"))


@given(st.integers(0, 6), st.lists(st.integers(1, 10**9), min_size=1))
def test_digits_are_those_the_prices_were_written_with(places: int, numbers: list[int]) -> None:
    numbers = [*numbers, numbers[0] * 10 + 1]
    prices = np.array([float(f"{number / 10**places:.{places}f}") for number in numbers])
    assert days.digits(prices) == places


def test_files_before_what_was_published_are_misplaced_unless_an_import_published_them(tmp_path: Path) -> None:
    first, second = write(tmp_path, ""), write(tmp_path, "", day="20140502")
    utc, cursor = ServerZone.parse("UTC"), Cursor(second.midnight + 5)
    assert misplaced([first, second], None, set(), utc) == []
    assert misplaced([first, second], cursor, {second.midnight}, utc) == [first]
    assert misplaced([first, second], cursor, {first.midnight, second.midnight}, utc) == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "count", "digits"),
    [
        ("forex/oanda/tick/eurusd", 321_559, 5),
        ("forex/oanda/tick/nzdusd", 274_268, 5),
        ("forex/fxcm/tick/eurusd", 675_401, 5),
        ("cfd/oanda/tick/xauusd", 219_809, 3),
    ],
)
def test_real_files_are_read_to_the_last_line(folder: str, count: int, digits: int) -> None:
    if not oracle.DATA.exists():
        pytest.skip(f"no {oracle.DATA}")
    read = [day.load() for day in discover([oracle.DATA / folder]).days]
    assert sum(len(day.ticks) for day in read) == count
    assert not any(day.malformed or in_order(day.ticks, ServerZone.parse("UTC"))[2] for day in read)
    assert days.digits(read[0].ticks["bid"]) == digits
