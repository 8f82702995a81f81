from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli.main import app


def test_a_brokers_symbols_are_listed_with_their_names_and_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "symbols.yaml"
    file.write_text('feeds: {sim: {XAUUSD: GOLD, "GBP*": "EUR*"}}\nsymbols: {GOLD: {calendar: 24/7}}\n')
    monkeypatch.setenv("ARBITREX_SYMBOLS_FILE", str(file))
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["symbols", "GOLD,EURUSD,GBPUSD,BTCUSD", "--json"])
    rows = {row["broker_name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert {name: (row["symbol"], row["rule"], row["collides"]) for name, row in rows.items()} == {
        "EURUSD": ("EURUSD", None, True),
        "GBPUSD": ("EURUSD", "GBP*: EUR*", True),
        "XAUUSD": ("GOLD", "XAUUSD: GOLD", False),
        "BTCUSD": ("BTCUSD", None, False),
    }
    assert rows["XAUUSD"]["calendar"] == "GOLD"
    assert result.exit_code == 1, "two of one name"
