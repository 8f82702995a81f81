"""`arbitrex lake query` as people and programs call it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.lake.layout import TICKS
from infra.settings import Settings
from schemas.errors import UsageError
from tests.lake.test_query import write
from tests.sinks.records import tick
from tests.sinks.stores import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path))
    write(Store("lake", tmp_path), TICKS, [tick(n, bid=0.1 + 0.2) for n in range(150)], "main")
    return tmp_path


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lake", "query", *arguments])


def test_a_table_for_people_is_cut_and_says_so(home: Path) -> None:
    assert Settings(home=home).lake_uri == str(home / "lake")
    shown = ask("select symbol, ts_event from ticks order by 2").stdout
    assert "2014-05-02 03:06:40.000Z" in shown
    assert "the first 100 rows" in shown
    assert "the first" not in ask("select count(*) from ticks").stdout


@pytest.mark.usefixtures("home")
def test_programs_get_every_row_exactly() -> None:
    rows = list(
        csv.DictReader(ask("select ts_event, bid from ticks order by 1", "--format", "csv").stdout.splitlines())
    )
    assert len(rows) == 150
    assert rows[0] == {"ts_event": "2014-05-02T03:06:40Z", "bid": "0.30000000000000004"}
    (line,) = ask("select ts_recv, server_time from ticks limit 1", "--format", "json").stdout.splitlines()
    assert json.loads(line) == {"ts_recv": "2014-05-02T03:06:40.000250Z", "server_time": "2014-05-02T05:06:40"}
    assert ask("select bid from ticks where false", "--format", "csv").stdout == "bid\n"


def test_files_appear_whole(home: Path) -> None:
    for name in ("a.parquet", "a.csv", "a.json"):
        done = ask("select symbol, ts_event, bid from ticks", "--out", str(home / name))
        assert (done.exit_code, done.stderr) == (0, f"150 rows in {home / name}\n")
    assert pl.read_parquet(home / "a.parquet")["bid"].unique().to_list() == [0.1 + 0.2]
    assert len((home / "a.csv").read_text().splitlines()) == 151
    assert len((home / "a.json").read_text().splitlines()) == 150
    assert not list(home.glob("*.partial"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("sql", "more", "message"),
    [
        ("select * frm ticks", (), "syntax error"),
        ("", ("--format", "csv"), "no answer"),
        ("select 1", ("--out", "x.xlsx"), "give a name that ends in"),
    ],
)
def test_what_cannot_be_done_is_said(sql: str, more: tuple[str, ...], message: str) -> None:
    done = ask(sql, *more)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
