"""`arbitrex bars missing`, and what it reads of the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import logs, series_log
from infra.cli.main import app
from infra.cli.series import length
from infra.kafka import partition_for
from infra.market.calendar import parse_calendar
from infra.series_log import SeriesLog
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.records import (
    Bar,
    BarStatus,
    EventKind,
    FeedEvent,
    Gap,
    LiveBars,
    Progress,
    SymbolSpec,
    TimeframeStart,
    Watermark,
)
from tests.conftest import PARTITIONS
from tests.processors.test_service import recent_ms
from tests.support import Out, environment, produce_all

MINUTE = 60_000
SPEC = SymbolSpec(
    symbol="BTCUSD", feed="sim", shard="a", broker_name="BTCUSD", digits=2, point=0.01,
    calendar=parse_calendar("24/7").to_json(),
)  # fmt: skip


@pytest.fixture
def start() -> int:
    return recent_ms() // 3_600_000 * 3_600_000


def bar(opens: int, timeframe: str = "M1", symbol: str = "BTCUSD") -> Bar:
    return Bar(
        symbol=symbol, feed="sim", timeframe=timeframe, ts_open=opens, ts_close=opens + MINUTE, open=1, high=1, low=1,
        close=1, ask_open=1, ask_high=1, ask_low=1, ask_close=1, tick_volume=1, real_volume=0, spread=0,
        status=BarStatus.FINAL, tick_count=1, first_tick_ts=opens, first_tick_ordinal=0, last_tick_ts=opens,
        last_tick_ordinal=0, rules="",
    )  # fmt: skip


def write_log(settings: Settings, codec: Codec, start: int) -> None:
    """Ten minutes of a series: bars 0, 1 and 5, a gap in 2 and 3, 4 quiet, processed until within 8."""
    world, partition = World(settings.world), partition_for("BTCUSD", PARTITIONS)
    live = LiveBars(
        symbol="BTCUSD", feed="sim", last_ts=start + 5 * MINUTE, last_ordinal=0, coverage_from=start - 2 * MINUTE,
        spec=SPEC, gaps=(Gap(from_=start + 3 * MINUTE, to=start + 3 * MINUTE + 9),),
        timeframes=tuple(TimeframeStart(timeframe=name, from_=0) for name in ("M1", "M5")),
    )  # fmt: skip
    marks = tuple(Watermark(shard=f"sim/{shard}", time=start + at * MINUTE + 500) for shard, at in (("a", 8), ("b", 9)))
    named = {"feed": "sim", "shard": "a", "symbol": "BTCUSD"}
    older = start + 2 * MINUTE
    gap = FeedEvent(time=start, kind=EventKind.GAP, from_=older, to=older + 5, text="", **named)
    changed = FeedEvent(time=start + 1, kind=EventKind.SYMBOL_SPEC, text="digits 1 -> 2", **named)  # type: ignore[arg-type]
    written: dict[str, list[tuple[str, Any]]] = {
        "bars": [(each.key, each) for each in (*(bar(start + n * MINUTE) for n in (0, 1, 5)), bar(start, "M5"))],
        "bars.live": [("BTCUSD", replace(live, last_ts=start)), ("BTCUSD", live), ("ETHUSD", live)],
        "processors.progress": [
            (str(partition), Progress(next_offset=9, watermarks=marks)), ("x", Progress(next_offset=1))
        ],
        "feed.events": [("BTCUSD", gap), ("BTCUSD", changed)],
        "symbols": [("BTCUSD", SPEC)],
    }  # fmt: skip
    for name, records in written.items():
        outs = [
            Out(key, codec.encode(record), getattr(record, "ts_close", start), partition) for key, record in records
        ]
        strangers = [Out(outs[0].key, value, start, partition) for value in (b"rubbish", codec.encode(gap))]
        produce_all(settings, world.topic(name), [*outs, *(strangers if name != "feed.events" else [])])


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, with the settings of the test's world."""
    for name, value in environment(settings).items():
        if name.startswith("ARBITREX_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # it is the process's, and this one is pytest's
    monkeypatch.setattr(series_log, "log", SimpleNamespace(warning=lambda *_, **__: None))
    return lambda *arguments: CliRunner().invoke(app, ["bars", "missing", *arguments])


@pytest.mark.kafka
@pytest.mark.one_broker
def test_every_absent_bar_has_its_reason(settings: Settings, codec: Codec, start: int, ask: Callable[..., Any]) -> None:
    write_log(settings, codec, start)
    done = ask("BTCUSD", "m1", "--from", str(start - 3 * MINUTE + 7), "--json")
    assert done.exit_code == 3, done.stderr
    found = json.loads(done.stdout)
    assert [(row["reason"], row["bars"]) for row in found["missing"]] == [
        ("feed_gap", 1), ("quiet", 2), ("feed_gap", 2), ("quiet", 1), ("quiet", 2)
    ]  # fmt: skip
    assert found["missing"][-1]["to"] == found["to"]
    assert any("processed up to" in note for note in found["notes"])
    assert any("digits 1 -> 2" in note for note in found["notes"])
    done = ask("BTCUSD", "M1", "--from", str(start + 4 * MINUTE), "--to", str(start + 6 * MINUTE))
    assert done.exit_code == 0, done.stderr
    assert "quiet: 1 bar; every tick is in the log, and none made a bar" in done.stdout
    wrong = ask("BTCUSD", "M2", "--from", "1h").exception
    assert isinstance(wrong, UsageError)
    assert "it makes M1 M5" in str(wrong)
    wrong = ask("BTCUSD", "M1", "--from", "1h", "--world", "nowhere").exception
    assert isinstance(wrong, UsageError)
    assert "there is no world nowhere" in str(wrong)


def test_of_tick_bars_none_can_be_missing() -> None:
    wrong = CliRunner().invoke(app, ["bars", "missing", "BTCUSD", "T:1000", "--from", "1h"]).exception
    assert isinstance(wrong, UsageError)
    assert str(wrong).startswith("T:1000 bars have no intervals")
    assert "arbitrex explain BTCUSD T:1000 TIME" in str(wrong)


@pytest.mark.kafka
@pytest.mark.one_broker
def test_a_symbol_that_is_not_there_is_told_with_what_is_near(settings: Settings, codec: Codec, start: int) -> None:
    write_log(settings, codec, start)
    log = SeriesLog(settings, codec)
    assert set(log.specs()) == {"BTCUSD"}
    with pytest.raises(UsageError, match=f"world {settings.world} has no BTCUDS; it has: BTCUSD"):
        log.standing("BTCUDS")


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0 s"), (90_000, "1 min 30 s"), (176_400_000, "2 d 1 h"), (86_400_001, "1 d 1 ms")]
)
def test_lengths(ms: int, text: str) -> None:
    assert length(ms) == text
