from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra import kafka_log
from infra.settings import ProducerSettings, Settings, SimulatorSettings
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Control, ControlKind, Tick
from tests.support import ROOT, Child, environment, eventually, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


def with_names(settings: Settings, path: Path, rules: str, feed: str = "sim") -> Settings:
    path.write_text(f"feeds: {{{feed}: {rules}}}\n")
    producer = ProducerSettings(feed=feed, symbols=("EURUSD", "GBPUSD"), poll_ms=20)
    simulator = SimulatorSettings(start="2026-03-05T08:00:00Z", speed=600)
    return settings.model_copy(update={"symbols_file": path, "producer": producer, "simulator": simulator})


def refused(settings: Settings) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "producer", "--shard", "a"],
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    return done.stderr


def test_a_feeds_symbols_have_canonical_names_that_no_other_may_have(
    settings: Settings, codec: Codec, tmp_path: Path
) -> None:
    path = tmp_path / "symbols.yaml"
    topic = World(settings.world).topic("ticks.raw")
    with Child(with_names(settings, path, '{GBPUSD: CABLE, "EUR*": "E*"}'), "producer", "--shard", "a"):
        eventually(lambda: sum(kafka_log.ends(settings.kafka, topic).values()) > 1_000)
    messages = read_all(settings, topic)
    records = [codec.decode(message.value() or b"") for message in messages]
    assert {record.symbol for record in records if isinstance(record, Tick)} == {"EUSD", "CABLE"}
    assert {m.key() for m, r in zip(messages, records, strict=True) if isinstance(r, Tick)} == {b"EUSD", b"CABLE"}
    specs = [r.spec for r in records if isinstance(r, Control) and r.kind == ControlKind.SYMBOL_SPEC]
    assert {(spec.symbol, spec.broker_name) for spec in specs if spec} == {("EUSD", "EURUSD"), ("CABLE", "GBPUSD")}

    same = refused(with_names(settings, path, '{"*": X}'))
    assert "EURUSD and GBPUSD would all be called X" in same
    other = refused(with_names(settings, path, '{GBPUSD: CABLE, "EUR*": "E*"}', feed="second"))
    assert f"in world {settings.world} is feed sim's: give feed second's another name or world (in the symbols" in other
