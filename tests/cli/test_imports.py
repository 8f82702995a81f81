from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli.main import app
from schemas.errors import UsageError

METATRADER = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n2024.05.01\t00:00:01.000\t1.07\t1.08\t\t\t6\n"
TRUEFX = "EUR/USD,20240501 00:00:01.000,1.07,1.08\n"


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (
            METATRADER,
            [],
            "MetaTrader ticks, separated by tabs: these files do not say by which clock they go: give --zone",
        ),
        (TRUEFX, ["--zone", "New_York+7"], "TrueFX ticks: these files go by UTC, not by New_York+7: leave --zone out"),
        (TRUEFX, ["--into", "main"], "an import needs a world of its own"),
        (TRUEFX, ["--columns", "bid:b"], "--columns: 'bid:b' is not MEANING=COLUMN; meanings are time, date, bid"),
        ("hello\n", [], "is no tick file: those are MetaTrader's tick exports, Dukascopy"),
    ],
)
def test_what_is_missing_or_wrong_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, options: list[str], said: str
) -> None:
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path))
    file = tmp_path / "EURUSD_20240501.csv"
    file.write_text(content)
    result = CliRunner().invoke(app, ["import", str(file), "--feed", "f", *options])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
