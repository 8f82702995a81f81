"""`arbitrex feed`: what shards have written, as a person reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli.main import app
from infra.kafka import partition_for
from infra.settings import ProducerSettings, Settings
from infra.shards import shards
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.records import Control, ControlKind, Cursor, EventKind, FeedEvent, SymbolSpec
from tests.conftest import PARTITIONS
from tests.support import Out, environment, produce_all, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


@pytest.fixture
def feed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name, value in environment(settings).items():
        if name.startswith("ARBITREX_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(app, ["feed", *arguments])


def written(settings: Settings, world: World, codec: Codec, *, age_ms: int = 0) -> int:
    """Two shards: london is up to date but for ``age_ms``, tokyo has been silent for an hour."""
    now = time.time_ns() // 1_000_000 - age_ms
    marks, cursors = [], []
    for shard, symbol, at in (("london", "EURUSD", now), ("tokyo", "USDJPY", now - 3_600_000)):
        mark = Control(kind=ControlKind.WATERMARK, feed="icm", shard=shard, time=at)
        marks.append(Out(f"@icm/{shard}", codec.encode(mark), at, partition_for(symbol, PARTITIONS)))
        cursor = Cursor(feed="icm", shard=shard, symbol=symbol, last_msc=at)
        cursors.append(Out(f"icm/{symbol}", codec.encode(cursor), at, partition_for(symbol, PARTITIONS)))
    facts: list[dict[str, Any]] = [
        {"kind": EventKind.CONNECTED, "shard": "london", "text": "Terminal A"},
        {"kind": EventKind.GAP, "shard": "tokyo", "symbol": "USDJPY", "from_": now - 9_000, "to": now, "text": "lost"},
    ]
    events = [FeedEvent(time=now, feed="icm", **each) for each in facts]
    produce_all(settings, world.topic("ticks.raw"), marks)
    produce_all(settings, world.topic("producers.cursors"), cursors)
    produce_all(settings, world.topic("feed.events"), [Out("k", codec.encode(e), e.time) for e in events])
    return now


def test_status_names_the_shard_that_is_silent(
    settings: Settings, world: World, codec: Codec, feed: Callable[..., Any]
) -> None:
    now = written(settings, world, codec)
    shown = feed("status")
    assert shown.exit_code == 3
    assert "icm/london" in shown.output
    assert "Terminal A" in shown.output
    london, tokyo = json.loads(feed("status", "--json").output)
    assert (london["watermark"], london["symbols"], london["link"]) == (now, ["EURUSD"], "connected")
    assert tokyo["newest"] == now - 3_600_000
    assert tokyo["watermark"] in {None, now - 3_600_000}


def test_events_and_gaps_tell_the_story(
    settings: Settings, world: World, codec: Codec, feed: Callable[..., Any]
) -> None:
    written(settings, world, codec)
    told = [json.loads(line) for line in feed("events", "--json").output.splitlines()]
    assert [each["kind"] for each in told] == ["connected", "gap"]
    lost = feed("gaps", "--from", "1h", "--json")
    assert lost.exit_code == 3
    assert [json.loads(line)["symbol"] for line in lost.output.splitlines()] == ["USDJPY"]
    assert feed("gaps", "--symbol", "EURUSD").exit_code == 0


def test_a_shard_that_is_gone_is_retired_and_one_that_writes_is_not(
    settings: Settings, world: World, codec: Codec, feed: Callable[..., Any]
) -> None:
    written(settings, world, codec)
    for shard, says in (("icm/london", "stop its producer"), ("icm/paris", "choose from icm/london, icm/tokyo")):
        refused = feed("retire", shard, "--yes").exception
        assert isinstance(refused, UsageError)
        assert says in str(refused)
    assert feed("retire", "icm/tokyo", "--yes").exit_code == 0
    message = read_all(settings, world.topic("ticks.raw"))
    records = {m.partition(): codec.decode(m.value() or b"") for m in message if m.key() == b"@icm/tokyo"}
    last = records[partition_for("USDJPY", PARTITIONS)]
    assert isinstance(last, Control)
    assert last.kind == ControlKind.RETIRED
    assert json.loads(feed("status", "--json").output)[1]["retired"]


def test_symbols_are_spread_by_their_ticks_and_stay_where_they_are_once_it_is_even(
    settings: Settings, world: World, codec: Codec, feed: Callable[..., Any], tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    busy = {f"S{number}": 400 if number < 4 else 3 for number in range(12)}

    def specified(owners: dict[str, str]) -> None:
        specs = [
            SymbolSpec(symbol=s, feed="icm", shard=owners[s], broker_name=f"{s}.r", digits=5, point=1e-5) for s in busy
        ]
        produce_all(settings, world.topic("symbols"), [Out(spec.symbol, codec.encode(spec), now) for spec in specs])

    ticks = [Out(symbol, b"its number is what counts", now) for symbol in busy for _ in range(busy[symbol])]
    produce_all(settings, world.topic("ticks.raw"), ticks)
    specified(dict.fromkeys(busy, "london"))
    shown = feed("spread", "london,tokyo", "--feed", "icm", "--from", "1h")
    path = tmp_path / "shards.yaml"
    path.write_text(shown.output, "utf-8")
    found = {n: s.producer.symbols for n, s in shards(Settings(producer=ProducerSettings(shards_file=path))).items()}
    assert sorted(name for names in found.values() for name in names) == sorted(f"{symbol}.r" for symbol in busy)
    assert all(sum(f"S{n}.r" in names for n in range(4)) == 2 for names in found.values())
    specified({name.removesuffix(".r"): shard for shard, names in found.items() for name in names})
    assert feed("spread", "london,tokyo", "--feed", "icm", "--from", "1h").output == shown.output
    assert isinstance(feed("spread", "london", "--feed", "nobody").exception, UsageError)
