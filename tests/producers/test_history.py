"""``arbitrex rates`` and ``arbitrex backfill`` against the simulated terminal: killed, they end as if they were not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from infra import kafka_log, provision
from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.worlds import World
from producers.simulated.faults import Faults
from producers.simulated.history import History
from producers.simulated.market import Market
from producers.simulated.rates import RatesStore
from schemas.codec import Codec
from schemas.records import Bar, Control, ControlKind, EventKind, FeedEvent, Tick
from tests.support import ROOT, environment, eventually, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]

FROM, TO = "2025-10-24T10:00", "2025-10-25T16:00"
ZONE = ServerZone.parse("New_York+7")


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1_000)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "infra.cli", *arguments]


def run(settings: Settings, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        command(*arguments),
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def killed(settings: Settings, topic: str, arguments: Sequence[str], times: int, more: int) -> None:
    """Start a command and kill it when the topic has got ``more`` records, some times over."""
    name = World(settings.world).topic(topic)

    def count() -> int:
        there = name in provision.world_topics(settings)
        return sum(kafka_log.ends(settings.kafka, name).values()) if there else 0

    for _ in range(times):
        before = count()
        process = subprocess.Popen(command(*arguments), env=environment(settings), cwd=ROOT, stderr=subprocess.DEVNULL)
        eventually(lambda: count() > before + more or process.poll() is not None, 60)  # noqa: B023
        process.kill()
        process.wait()


def stored(timeframe: str, symbol: str) -> list[tuple[object, ...]]:
    """The bars that the simulated server has, by UTC opening."""
    store = RatesStore(History(Market(Settings().simulator.seed), Faults()))
    start, end = ms(FROM), ms(TO)
    rows = store.between(symbol, timeframe, start, end - 1, now=2**42, zone=ZONE)
    opens, closes = bounds(timeframe, ZONE.to_utc(rows["time"] * 1_000), ZONE)
    return [
        (symbol, timeframe, opened, closed, *row[1:5], row[5], row[6])
        for opened, closed, row in zip(opens.tolist(), closes.tolist(), rows.tolist(), strict=True)
        if start <= opened and closed <= end
    ]


def test_killed_rates_end_with_each_bar_once(settings: Settings, codec: Codec) -> None:
    arguments = (
        *("rates", "--symbols", "EURUSD,BTC*", "--timeframes", "1H,M1,H4", "--from", FROM, "--to", TO),
        *("--workers", "2", "--world", settings.world),
    )
    killed(settings, "rates", arguments, 1, 200)
    run(settings, *arguments)
    bars = [codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic("rates"))]
    found = [
        (b.symbol, b.timeframe, b.ts_open, b.ts_close, b.open, b.high, b.low, b.close, b.tick_volume, b.spread)
        for b in bars
        if isinstance(b, Bar)
    ]
    expected = [row for symbol in ("EURUSD", "BTCUSD") for tf in ("H1", "M1", "H4") for row in stored(tf, symbol)]
    assert len(found) == len(set(found)), "no bar stands twice"
    assert sorted(found) == sorted(expected)
    assert {b.revision for b in bars if isinstance(b, Bar)} == {0}
    events = [codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic("feed.events"))]
    told = [e.text for e in events if isinstance(e, FeedEvent) and e.kind == EventKind.HISTORY]
    assert any(text.startswith("rates of EURUSD H1: ") for text in told)


def test_a_killed_backfill_ends_with_each_tick_once(settings: Settings, codec: Codec, tmp_path: Path) -> None:
    names = tmp_path / "symbols.yaml"
    names.write_text("feeds: {sim: {BTCUSD: XBT}}\n")
    settings = settings.model_copy(update={"symbols_file": names})
    arguments = (
        "backfill",
        "--symbols",
        "EURUSD,XBT",
        "--from",
        "2025-10-24T18:00",
        "--to",
        TO,
        "--into",
        settings.world,
    )
    killed(settings, "ticks.raw", arguments, 1, 20_000)
    run(settings, *arguments)
    records = [codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic("ticks.raw"))]
    market = Market(Settings().simulator.seed)
    for symbol, name in (("EURUSD", "EURUSD"), ("XBT", "BTCUSD")):
        ticks = [record for record in records if isinstance(record, Tick) and record.symbol == symbol]
        expected = np.concatenate(list(market.ticks(name, ms("2025-10-24T18:00"), ms(TO))))
        assert [tick.ts_event for tick in ticks] == expected["time_msc"].tolist()
        assert [(tick.bid, tick.ask) for tick in ticks] == expected[["bid", "ask"]].tolist()
        identities = [(tick.ts_event, tick.ordinal) for tick in ticks]
        assert identities == sorted(set(identities))
        controls = [record for record in records if isinstance(record, Control) and record.symbol == symbol]
        assert {c.kind for c in controls} == {ControlKind.SYMBOL_SPEC, ControlKind.COVERAGE}, "no gap"
        spec = controls[0].spec
        assert spec is not None
        assert (spec.broker_name, spec.digits, spec.zone) == (name, 5 if symbol == "EURUSD" else 2, "New_York+7")
        marks = [
            c.time
            for c in records
            if isinstance(c, Control) and c.shard == f"backfill-{symbol.lower()}" and not c.symbol
        ]
        assert marks[-1] == ms(TO) - 1
