"""`lake verify`: a whole lake is found whole, and a tampered one is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from threading import Event

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from infra.cli.main import app
from infra.kafka_log import ends as topic_ends
from infra.lake.layout import TABLES, TICKS
from infra.lake.tables import ends, table_uri
from infra.settings import LakeSettings, Settings
from infra.topics import FEED_EVENTS, RATES, SYMBOLS
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import EventKind, FeedEvent, SymbolSpec
from sinks.kinds import sink_of
from sinks.verification import Verdict, verify
from tests.sinks.records import bar
from tests.sinks.test_runner import fill, now_ms, running
from tests.support import Out, eventually, produce_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lake": LakeSettings(rotate_seconds=0.3)})


def kept(settings: Settings, codec: Codec) -> None:
    """Run the sink until it has the end of every topic."""
    world = World(settings.world)
    wanted = {
        name: {number: end for number, end in topic_ends(settings.kafka, name).items() if end}
        for name in (world.topic(table.topic.name) for table in TABLES)
    }
    with running(settings, sink_of(settings, "lake"), codec):
        eventually(lambda: ends(settings.lake_uri, None, settings.world, 4) == wanted, 60)


def fill_all(settings: Settings, codec: Codec) -> None:
    world = World(settings.world)
    fill(settings, codec, 0, 120)
    event = FeedEvent(time=now_ms(), kind=EventKind.CONNECTED, feed="x", shard="a", text="hello")
    spec = SymbolSpec(symbol="EURUSD", feed="x", shard="a", broker_name="EURUSD", digits=5, point=1e-5)
    for topic, key, record in ((FEED_EVENTS, "@x/a", event), (SYMBOLS, "EURUSD", spec), (RATES, "EURUSD|M1|0", bar(0))):
        produce_all(settings, world.topic(topic.name), [Out(key, codec.encode(record), now_ms(), 0)])
    rubbish = [Out("x", value, now_ms(), 0) for value in (b"rubbish", None)]
    produce_all(settings, world.topic(TICKS.topic.name), rubbish)


def found(settings: Settings, codec: Codec) -> dict[str, list[Verdict]]:
    by_topic: dict[str, list[Verdict]] = {}
    for verdict in verify(settings, codec, Event()):
        by_topic.setdefault(verdict.topic.removeprefix(f"{settings.world}."), []).append(verdict)
    return by_topic


def total(verdicts: Iterable[Verdict], name: str) -> int:
    return sum(getattr(verdict, name) for verdict in verdicts)


def test_a_whole_lake_and_then_one_with_a_row_lost_doubled_and_made_up(
    settings: Settings, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_all(settings, codec)
    kept(settings, codec)
    whole = found(settings, codec)
    assert {name: total(each, "rows") for name, each in whole.items()} == {
        "ticks.clean": 120,
        "ticks.rejected": 120,
        "bars": 120,
        "rates": 1,
        "feed.events": 1,
        "symbols": 1,
    }
    assert total(whole["ticks.clean"], "passed_over") == 2
    assert not [each for some in whole.values() for each in some if each.wrong]
    table = DeltaTable(table_uri(settings.lake_uri, TICKS))
    rows = pl.scan_delta(table).filter(pl.col("symbol") == "EURUSD").sort("source_offset").collect()
    (partition, lost), (_, doubled) = rows.select("source_partition", "source_offset").rows()[3:5]
    table.delete(f"source_partition = {partition} and source_offset = {lost}")
    made_up = rows[5].with_columns(source_offset=pl.lit(99_999, pl.Int64))
    write_deltalake(table, pl.concat([rows[4], made_up]).to_arrow(), mode="append")
    wrong = [each for each in found(settings, codec)["ticks.clean"] if each.wrong]
    assert [(each.partition, each.missing, each.double, each.strange) for each in wrong] == [(partition, 1, 1, 1)]
    assert wrong[0].examples == f"missing: {lost}; double: {doubled}; strange: 99999"
    monkeypatch.setenv("ARBITREX_HOME", str(settings.home))
    monkeypatch.setenv("ARBITREX_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)
    monkeypatch.setenv("ARBITREX_REGISTRY__URL", settings.registry.url)
    answer = CliRunner().invoke(app, ["lake", "verify", "--world", settings.world])
    assert answer.exit_code == 1
    assert f"missing: {lost}" in answer.output
    answer = CliRunner().invoke(app, ["lake", "status", "--json"], env={"ARBITREX_WORLD": settings.world})
    status = json.loads(answer.stdout)
    assert {each["table"]: each["rows"] for each in status["tables"]}["bars"] == 120
    assert set(status["behind"].values()) == {0}


def test_what_a_sink_was_told_to_leave_out_is_not_missing(settings: Settings, codec: Codec) -> None:
    chosen = LakeSettings(rotate_seconds=0.3, topics=("ticks.clean",), symbols=("EUR*",))
    settings = settings.model_copy(update={"lake": chosen})
    fill(settings, codec, 0, 80)
    topic = World(settings.world).topic(TICKS.topic.name)
    with running(settings, sink_of(settings, "lake"), codec):
        eventually(lambda: sum(ends(settings.lake_uri, None, settings.world, 4)[topic].values()) == 80)
    (verdicts,) = found(settings, codec).values()
    assert (total(verdicts, "rows"), total(verdicts, "passed_over")) == (40, 40)
    assert not [each for each in verdicts if each.wrong]
    everything = settings.model_copy(update={"lake": LakeSettings()})
    assert total(found(everything, codec)["ticks.clean"], "missing") == 40
