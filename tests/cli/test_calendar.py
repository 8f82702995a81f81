"""`arbitrex calendar` without a stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli.main import app
from schemas.errors import SettingsError, UsageError

SYMBOLS = """
symbols:
  XAU*:
    calendar: Sun-Thu 18:05-16:58 America/New_York
    holidays: [2025-12-25, 2025-12-24 13:45/17:00]
  "*.US": {calendar: XNYS}
  BAD: {calendar: XNYX}
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "symbols.yaml").write_text(SYMBOLS, "utf-8")
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path))
    monkeypatch.setenv("ARBITREX_SYMBOLS_FILE", str(tmp_path / "symbols.yaml"))


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["calendar", *arguments])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.output


def asked(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(*arguments, "--json"))
    return found


def test_a_week_end() -> None:
    lines = [line.strip() for line in ask("EURUSD", "--at", "2025-03-08T12:00Z").splitlines()]
    assert lines == [
        "EURUSD is closed at Sat 2025-03-08 12:00 UTC (Sat 2025-03-08 07:00 America/New_York): market_closed",
        "calendar      fx (America/New_York), usual for such a symbol",
        "closed since  Fri 2025-03-07 22:00 UTC (Fri 2025-03-07 17:00 America/New_York)",
        "next open     Sun 2025-03-09 21:00 UTC (Sun 2025-03-09 17:00 America/New_York), in 1 d 9 h",
        "next close    Fri 2025-03-14 21:00 UTC (Fri 2025-03-14 17:00 America/New_York), in 6 d 9 h",
    ]


def test_the_symbols_file_is_named_and_holidays_are() -> None:
    text = ask("XAUUSD", "--at", "2025-12-24T19:00Z")
    assert "closed" in text.splitlines()[0]
    assert "holiday 2025-12-24 13:45/17:00" in text
    assert "its own hours (America/New_York), XAU* in " in text


def test_for_programs() -> None:
    found = asked("AAPL.US", "--at", "2025-11-28T18:30Z")
    assert (found["open"], found["reason"], found["calendar"]["name"]) == (False, "holiday", "XNYS")
    assert (found["at"], found["since"]) == ("2025-11-28T18:30:00Z", "2025-11-28T18:00:00Z")
    assert (found["next_open"], found["next_close"]) == ("2025-12-01T14:30:00Z", "2025-12-01T21:00:00Z")


def test_a_range_lists_all_of_it_on_both_clocks() -> None:
    found = asked("EURUSD", "--from", "2025-03-07T21:00", "--to", "2025-03-10")
    assert [(span["from"], span["reason"]) for span in found["spans"]] == [
        ("2025-03-07T21:00:00Z", "open"), ("2025-03-07T22:00:00Z", "market_closed"), ("2025-03-09T21:00:00Z", "open")
    ]  # fmt: skip
    assert found["spans"][-1]["to"] == "2025-03-10T00:00:00Z"
    table = ask("EURUSD", "--from", "2025-03-07T21:00", "--to", "2025-03-10")
    assert "Sun 2025-03-09 21:00   Sun 2025-03-09 17:00" in table


def test_a_market_that_never_closes() -> None:
    found = asked("BTCUSD", "--at", "2025-12-25")
    assert (found["open"], found["since"], found["next_close"], found["next_open"]) == (True, None, None, None)


def test_holidays_are_taken_for_the_years_asked_about() -> None:
    assert asked("AAPL.US", "--at", "2013-12-25T15:00Z")["reason"] == "holiday"
    assert asked("AAPL.US", "--from", "2031-12-25", "--to", "2032-01-02")["notes"] == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["EURUSD", "--at", "now", "--from", "1h"], UsageError, "not both"),
        (["EURUSD", "--to", "now"], UsageError, "give --from"),
        (["EURUSD", "--at", "noon"], UsageError, "not a time: 'noon'"),
        (["EURUSD", "--from", "2025-01-02", "--to", "2025-01-01"], UsageError, "must come after the start"),
        (["BAD"], SettingsError, "symbols.yaml: BAD: no calendar is called 'XNYX'"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text.replace(".", r"\.")):
        ask(*arguments)
