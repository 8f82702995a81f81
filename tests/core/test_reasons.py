"""Every reason to reject a tick, on simulated and on real quotes, in both ways of working."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import polars as pl
import pytest

from infra import metrics
from infra.market.calendar import parse_calendar
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.worlds import World
from processors.core.state import State
from processors.core.step import step
from processors.core.types import Batch, Outcome, Reason, Rules
from processors.drafts import Drafts
from processors.pipeline import Pipeline, kept_crossed
from processors.records import RawRecord, Records
from producers.files.discovery import discover
from producers.simulated.market import Market
from producers.terminal import Ticks
from schemas.columns import dtypes
from schemas.records import Control, ControlKind, CrossedPolicy, SymbolSpec, Tick
from tests.acceptance.oracle import DATA
from tests.core.streams import CODEC, batch, message, spec

RULES = Rules(("M1", "H1"))
HOUR = 3_600_000
FRIDAY = int(datetime(2025, 11, 28, 21, tzinfo=UTC).timestamp() * 1_000)  # an hour before the FX week ends


def ticks(symbol: str, start: int, end: int, *, rate: float = 1.0) -> list[Tick]:
    """The simulated market's, as a producer publishes them."""
    made = np.concatenate(list(Market(7, rate).ticks(symbol, start, end)))
    assert len(made) > 200
    ordinals: Counter[int] = Counter()
    found = []
    for row in made:
        ts = int(row["time_msc"])
        found.append(
            Tick(
                symbol=symbol, ts_event=ts, ordinal=ordinals[ts], bid=float(row["bid"]), ask=float(row["ask"]),
                flags=int(row["flags"]), feed="sim", server_time=ts, ts_recv=ts * 1_000,
            )
        )  # fmt: skip
        ordinals[ts] += 1
    return found


def opened(symbol: str, start: int, **changes: object) -> list[Control]:
    named = {"feed": "sim", "shard": "a", "time": start, "symbol": symbol}
    return [
        Control(kind=ControlKind.SYMBOL_SPEC, spec=spec(symbol, **changes), **named),  # type: ignore[arg-type]
        Control(kind=ControlKind.COVERAGE, **named),  # type: ignore[arg-type]
    ]


@pytest.fixture(params=[0, 10**9], ids=["columnar", "plain"])
def small(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def reasons(records: list[Tick | Control], small: int) -> tuple[dict[int, str], Outcome]:
    """By position of the record."""
    outcome, _ = step(State(), batch([message(record) for record in records], 0), RULES, small=small)
    assert not outcome.dead
    assert outcome.repeats == 0
    return dict(zip(outcome.rejected.tolist(), (Reason(r).label for r in outcome.reasons), strict=True)), outcome


@pytest.mark.parametrize(
    ("expected", "broken"),
    [
        ("not_positive", {"bid": 0.0}),
        ("not_positive", {"ask": -1.1}),
        ("not_positive", {"bid": float("nan")}),
        ("not_positive", {"volume": float("inf")}),
        ("crossed", {"bid": 2.0, "ask": 1.9}),
        ("future", {"ts_recv": (FRIDAY - 2 * HOUR) * 1_000}),
    ],
)
def test_a_simulated_tick_that_was_spoilt_is_the_only_one_rejected(
    small: int, expected: str, broken: dict[str, object]
) -> None:
    usual = ticks("EURUSD", FRIDAY - HOUR, FRIDAY)
    usual[150] = replace(usual[150], **broken)  # type: ignore[arg-type]
    found, outcome = reasons([*opened("EURUSD", FRIDAY - HOUR), *usual], small)
    assert found == {152: expected}
    assert len(outcome.clean) == len(usual) - 1


def test_a_tick_behind_the_watermark_is_too_late(small: int) -> None:
    usual = ticks("EURUSD", FRIDAY - HOUR, FRIDAY)
    late = usual.pop()
    mark = Control(kind=ControlKind.WATERMARK, feed="sim", shard="a", time=FRIDAY)
    records: list[Tick | Control] = [*opened("EURUSD", FRIDAY - HOUR), *usual, mark, late]
    assert reasons(records, small)[0] == {len(records) - 1: "too_late"}


def test_ticks_of_a_symbol_without_a_spec_are_rejected(small: int) -> None:
    usual = ticks("EURUSD", FRIDAY - HOUR, FRIDAY)
    found, _ = reasons([*usual], small)
    assert set(found.values()) == {"no_spec"}
    assert len(found) == len(usual)


def test_the_daily_break_and_a_brokers_early_close_and_holiday(small: int) -> None:
    """Bitcoin's simulated ticks, which never stop, under a metals broker's hours over Thanksgiving."""
    start = FRIDAY - 48 * HOUR
    own = parse_calendar(
        '{"zone":"America/New_York","open":["Sun 18:00-Mon 17:00","Mon 18:00-Tue 17:00","Tue 18:00-Wed 17:00",'
        '"Wed 18:00-Thu 17:00","Thu 18:00-Fri 17:00"],"holidays":["2025-11-27 14:30/17:00"]}'
    )
    usual = ticks("BTCUSD", start, FRIDAY + 4 * HOUR, rate=0.02)
    found, _ = reasons([*opened("BTCUSD", start, calendar=own.to_json()), *usual], small)
    expected: Counter[str] = Counter()
    for tick in usual:
        hour = (tick.ts_event - start) / HOUR  # 0 is Wednesday 21:00 UTC, 16:00 in New York
        breaks = 1 <= hour < 2 or 25 <= hour < 26 or hour >= 49
        expected["market_closed" if breaks else "holiday" if 22.5 <= hour < 25 else "clean"] += 1
    assert min(expected.values()) > 50
    assert Counter(found.values()) == {name: number for name, number in expected.items() if name != "clean"}


@pytest.mark.parametrize("policy", CrossedPolicy)
def test_crossed_quotes_are_rejected_or_kept_and_counted(small: int, policy: CrossedPolicy) -> None:
    usual = ticks("EURUSD", FRIDAY - HOUR, FRIDAY)
    for place in range(0, len(usual), 10):
        usual[place] = replace(usual[place], bid=usual[place].ask, ask=usual[place].bid)
    usual[0] = replace(usual[0], bid=-1.0)
    records: list[Tick | Control] = [*opened("EURUSD", FRIDAY - HOUR, crossed=policy), *usual]
    found, outcome = reasons(records, small)
    crossed = len(range(10, len(usual), 10))
    kept = kept_crossed(batch([message(record) for record in records], 0).frame, outcome.clean)
    if policy == CrossedPolicy.KEEP:
        assert (Counter(found.values()), kept) == ({"not_positive": 1}, crossed)
    else:
        assert (Counter(found.values()), kept) == ({"not_positive": 1, "crossed": crossed}, 0)


async def test_kept_crossed_quotes_are_counted_by_a_metric() -> None:
    usual = ticks("EURUSD", FRIDAY - HOUR, FRIDAY)
    usual[7] = replace(usual[7], bid=usual[7].ask, ask=usual[7].bid)
    controls = opened("EURUSD", FRIDAY - HOUR, crossed=CrossedPolicy.KEEP)
    records = [*map(message, controls), *map(message, usual)]
    read = Records.of(RawRecord(each.key, CODEC.encode(each.record), at, each.stamp) for at, each in enumerate(records))
    partition: Any = SimpleNamespace(number=0, state=State(), struck=deque(), next_offset=0, end=0)
    partition.drafts, partition.producer = Drafts(World("test"), CODEC, 0), AsyncMock()
    pipeline = Pipeline(Settings(), CODEC, RULES)
    fetch: Any = SimpleNamespace(records=read, partition=partition, next_offset=len(read))
    before = metrics.TICKS_CROSSED._value.get()
    await pipeline.commit(pipeline.step(fetch, pipeline.decode(fetch)))
    assert metrics.TICKS_CROSSED._value.get() == before + 1


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"no real tick files at {DATA}")
def test_a_real_dirty_feed() -> None:
    """FXCM's quotes of seven days against the FX week and the rule that bid is not above ask."""
    files = discover([DATA / "forex" / "fxcm" / "tick" / "eurusd"]).days
    zone = ServerZone.parse("UTC-5")
    named = SymbolSpec(symbol="EURUSD", feed="sim", shard="a", broker_name="EURUSD", digits=5, point=1e-5)
    first = int(zone.to_utc(np.array([files[0].midnight], np.int64))[0])
    controls = opened("EURUSD", first)
    controls[0] = replace(controls[0], spec=named)
    begin = batch([message(control) for control in controls], 0)
    outcome, state = step(State(), begin, RULES)
    rejected: Counter[str] = Counter()
    kept, offsets = 0, count(2)
    for file in files:
        day = _batch(file.load().ticks, zone, offsets)
        outcome, state = step(state, day, RULES)
        rejected += Counter(Reason(reason).label for reason in outcome.reasons)
        kept += len(outcome.clean)
    assert set(rejected) == {"crossed", "market_closed"}  # 706 lie outside the week; 3 of them are crossed as well
    assert (rejected["crossed"], rejected["market_closed"], kept + rejected.total()) == (69_354, 703, 675_401)


def _batch(made: Ticks, zone: ServerZone, offsets: count[int]) -> Batch:
    ts = zone.to_utc(made["time_msc"])
    frame = pl.DataFrame({"ts_event": ts, "bid": made["bid"], "ask": made["ask"]}).with_columns(
        symbol=pl.lit("EURUSD"), ordinal=pl.int_range(pl.len(), dtype=pl.Int32).over("ts_event"), last=0.0, volume=0.0,
        flags=pl.lit(6, pl.Int32), feed=pl.lit("sim"), server_time="ts_event", ts_recv=pl.col("ts_event") * 1_000,
        correction=False,
    )  # fmt: skip
    frame = frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("index"), *dtypes("Tick"))
    keys, times = [b"EURUSD"] * frame.height, frame["ts_event"].to_list()
    return Batch(frame, [], [], keys, times, [next(offsets) for _ in times])
