"""Real quotes through the core alone: every M1 bar equals the third party's, in all eight prices."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from processors.core.state import State
from processors.core.step import step
from processors.core.types import Batch, Rules
from schemas.columns import dtypes
from schemas.records import Control, ControlKind, SymbolSpec

DATA = Path(__file__).parents[3] / "shared" / "data" / "lean" / "forex" / "oanda"
DAY = datetime(2014, 5, 7, tzinfo=UTC)
RULES = Rules(("M1", "M5", "H1", "D1"))

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.exists(), reason="needs the real tick files of ../shared/data"),
]


def rows(path: Path, columns: int) -> pl.DataFrame:
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    names = [f"column_{n + 1}" for n in range(columns)]
    return pl.read_csv(io.BytesIO(text), has_header=False, new_columns=names, schema_overrides=[pl.Float64] * columns)


def batches(ticks: pl.DataFrame, start: int, size: int) -> list[Batch]:
    """The day's controls and ticks as they would stand in the log."""
    spec = SymbolSpec(symbol="EURUSD", feed="oanda", shard="f", broker_name="EURUSD", digits=5, point=1e-5)
    named = {"feed": "oanda", "shard": "f", "time": start}
    controls = [
        Control(kind=ControlKind.SYMBOL_SPEC, symbol="EURUSD", spec=spec, **named),  # type: ignore[arg-type]
        Control(kind=ControlKind.COVERAGE, symbol="EURUSD", **named),  # type: ignore[arg-type]
    ]
    end = Control(kind=ControlKind.WATERMARK, feed="oanda", shard="f", time=start + 86_400_000 - 1)
    ts = ticks["column_1"].floor().cast(pl.Int64) + start
    ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over("ts_event")
    frame = pl.DataFrame({"ts_event": ts, "bid": ticks["column_2"], "ask": ticks["column_3"]}).with_columns(
        symbol=pl.lit("EURUSD"), ordinal=ordinal, last=0.0, volume=0.0, flags=pl.lit(6, pl.Int32), feed=pl.lit("oanda"),
        server_time="ts_event", ts_recv=pl.col("ts_event") * 1_000, correction=False,
    )  # fmt: skip
    found = [Batch(_indexed(frame[:0]), list(enumerate(controls)), [], [b"EURUSD"] * 2, [start] * 2, [0, 1])]
    for at in range(0, frame.height, size):
        part = frame[at : at + size]
        offsets = range(at + 2, at + 2 + part.height)
        found.append(Batch(_indexed(part), [], [], [b"EURUSD"] * part.height, part["ts_event"].to_list(), offsets))
    last = frame.height + 2
    return [*found, Batch(_indexed(frame[:0]), [(0, end)], [], [b"@oanda/f"], [end.time], [last])]


def _indexed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("index"), *dtypes("Tick"))


@pytest.mark.parametrize("size", [20_000, 50])
def test_a_day_of_eurusd_is_the_third_partys_minutes(size: int) -> None:
    ticks = rows(DATA / "tick" / "eurusd" / f"{DAY:%Y%m%d}_quote.zip", 3)
    minutes = rows(DATA / "minute" / "eurusd" / f"{DAY:%Y%m%d}_quote.zip", 11).to_numpy()
    start = int(DAY.timestamp() * 1_000)
    state, clean, closed = State(), 0, []
    for batch in batches(ticks, start, size):
        outcome, state = step(state, batch, RULES)
        assert not outcome.dead
        clean += len(outcome.clean)
        closed += [item.bar for item in outcome.closed]
    assert clean == ticks.height
    made = [bar for bar in closed if bar.timeframe == "M1"]
    ours = np.array([
        (b.ts_open - start, b.open, b.high, b.low, b.close, b.ask_open, b.ask_high, b.ask_low, b.ask_close)
        for b in made
    ])  # fmt: skip
    assert np.array_equal(ours, minutes[:, [0, 1, 2, 3, 4, 6, 7, 8, 9]])
    assert sum(bar.tick_count for bar in made) == ticks.height
    (day,) = [bar for bar in closed if bar.timeframe == "D1"]
    assert (day.open, day.close, day.tick_count) == (minutes[0, 1], minutes[-1, 4], ticks.height)
    assert (day.high, day.low) == (minutes[:, 2].max(), minutes[:, 3].min())
    assert {str(bar.status) for bar in closed} == {"final"}
