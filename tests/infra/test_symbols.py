"""The symbols file: which rule a symbol has, and what is said of a wrong one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.market.calendar import default_calendar, parse_calendar
from infra.symbols import Symbols, years_around
from schemas.errors import SettingsError

YEARS = (2025, 2026)
FILE = """
symbols:
  XAUEUR:
    calendar: fx
  XAU*:
    calendar: Sun-Thu 18:05-16:58 America/New_York
    holidays:
      - 2025-12-25
      - 2025-12-24 13:45/17:00
  "*.US":
    calendar: XNYS
    extra: [2025-12-27 10:00/11:00]
  EUR*:
    holidays: ["2025-12-25"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "symbols.yaml"


def read(path: Path, text: str) -> Symbols:
    path.write_text(text, "utf-8")
    return Symbols.read(path)


def test_the_first_pattern_counts_and_without_one_the_usual(path: Path) -> None:
    symbols = read(path, FILE)
    assert symbols.calendar("XAUEUR", YEARS) == parse_calendar("fx")
    gold = symbols.calendar("XAUUSD", YEARS)
    assert [str(span) for span in gold.holidays] == ["2025-12-24 13:45/17:00", "2025-12-25"]
    assert gold.zone.name == "America/New_York"
    assert symbols.calendar("xauusd", YEARS) == default_calendar("xauusd")
    assert symbols.calendar("BTCUSD", YEARS) == parse_calendar("24/7")


def test_without_hours_of_its_own_a_rule_adds_to_the_usual(path: Path) -> None:
    euro = read(path, FILE).calendar("EURUSD", YEARS)
    assert euro.hours == parse_calendar("fx").hours
    assert [str(span) for span in euro.holidays] == ["2025-12-25"]


def test_a_librarys_calendar_is_had_for_the_years_and_with_the_brokers_extra_hours(path: Path) -> None:
    apple = read(path, FILE).calendar("AAPL.US", YEARS)
    assert (apple.name, apple.years) == ("XNYS", YEARS)
    assert apple.is_open(int(datetime(2025, 12, 27, 15, 30, tzinfo=UTC).timestamp() * 1_000))
    assert parse_calendar(apple.to_json()) == apple


def test_no_file_has_no_rules() -> None:
    assert Symbols.read(None).calendar("XAUUSD", YEARS) == parse_calendar("metals")


def test_a_producer_takes_holidays_of_the_year_before_to_two_years_on() -> None:
    assert years_around(int(datetime(2025, 12, 31, 23, 59, tzinfo=UTC).timestamp() * 1_000)) == (2024, 2027)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("symbols: [", "is no YAML"),
        ("- a", "the whole file"),
        ("symbol: {}", "symbol: Extra inputs are not permitted"),
        ("symbols: {A: {calender: fx}}", "symbols: A: calender"),
        ("symbols: {A: fx}", "symbols: A: "),
        ("symbols: {A: {calendar: }}", "symbols: A: calendar: "),
        ("symbols: {A: {calendar: 'Mon 09:00-10:00'}}", "A: hours need one time zone"),
        ("symbols: {A: {holidays: [2025-02-30]}}", "A: not a local date"),
        ("symbols: {A: {extra: ['2025-02-03 13:00/12:00']}}", "A: the span '2025-02-03 13:00/12:00' ends before"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_pattern(path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(path, text)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"ARBITREX_SYMBOLS_FILE={path}: ")
    assert "\n" not in str(caught.value)


def test_a_library_that_lacks_the_name_is_told_with_the_pattern(path: Path) -> None:
    symbols = read(path, "symbols: {A*: {calendar: XNYX}}")
    with pytest.raises(SettingsError, match=r"symbols\.yaml: A\*: no calendar is called 'XNYX'"):
        symbols.calendar("AAPL", YEARS)


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Symbols.read(path)
