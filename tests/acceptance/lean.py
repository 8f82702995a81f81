"""Real ticks through the running stack, against a third party's bars: one command, one table.

    python -m tests.acceptance.lean [--broker embedded|kafka] [--kills 10]

Twice: with each feed's own hours and crossed quotes kept, every M1 bar must equal the oracle's in all eight prices,
and so must the longer ones those folded from the oracle's minutes;
with the defaults, the minutes that differ must be exactly those that hold rejected ticks. Clean + rejected must be
the distinct identities of ticks.raw, and the lake and the CSV must hold exactly the clean ticks; plain SQL in DuckDB
must make the oracle's minutes of the lake's ticks.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table

from infra import topics
from infra.brokers.kafka import KafkaCluster
from infra.cli import drain
from infra.lake.query import connect as connect_lake
from infra.registry.client import connect
from infra.settings import Settings
from schemas.errors import RegistryAwayError
from tests.acceptance import census, oracle, stack
from tests.acceptance.faults import Killer
from tests.acceptance.oracle import PRICES, Feed
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.codec import Codec

MINUTE = 60_000
LONGER = {"M5": 5, "M15": 15, "M30": 30, "H1": 60, "H4": 240, "D1": 1440}
"""Timeframes checked against the minutes, in minutes."""
PACE = 20_000.0
"""Times real time: nine days last some forty seconds, about as long as killing each child once."""


@dataclass
class Row:
    """What was found for one symbol; `wrong` names everything that should not be."""

    symbol: str
    ticks: int
    raw: int = 0
    repeats: int = 0
    clean: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    lake: int = 0
    csv: int = 0
    bars: int = 0
    equal: int = 0
    differing: int = 0
    folded: int = 0
    """Bars of the longer timeframes that are equal to the oracle's minutes folded."""
    sql: int = 0
    """Minutes that DuckDB alone makes of the lake's ticks and that are the oracle's."""
    wrong: list[str] = field(default_factory=list)


TRIES = 5
SQL = """
select epoch_ms(time_bucket(interval 1 minute, ts_event)) as ts_open,
  arg_min(bid, (ts_event, ordinal)) as open, max(bid) as high, min(bid) as low,
  arg_max(bid, (ts_event, ordinal)) as close,
  arg_min(ask, (ts_event, ordinal)) as ask_open, max(ask) as ask_high, min(ask) as ask_low,
  arg_max(ask, (ts_event, ordinal)) as ask_close
from ticks where symbol = ? group by 1
"""


def check(settings: Settings, codec: Codec, feeds: Sequence[Feed], *, own_hours: bool) -> list[Row]:
    """Count and compare everything of a drained world."""
    raw = census.frame(settings, codec, topics.TICKS_RAW, "Tick")
    clean = census.frame(settings, codec, topics.TICKS_CLEAN, "Tick")
    rejected = census.frame(settings, codec, topics.TICKS_REJECTED, "Tick")
    bars = census.frame(settings, codec, topics.BARS, "Bar")
    lake, csv = census.lake_rows(settings, "ticks"), census.csv_rows(settings.csv_dir)
    dead = len(census.messages(settings, topics.DEAD_LETTERS))
    rows = []
    for feed in feeds:
        mine = pl.col("symbol") == feed.symbol
        row = Row(feed.symbol, oracle.tick_count(feed))
        source, passed, refused = raw.filter(mine), clean.filter(mine), rejected.filter(mine)
        distinct = source.select(census.IDENTITY).unique().height
        row.raw, row.repeats, row.clean = source.height, source.height - distinct, passed.height
        row.rejected.update(refused["reason"].to_list())
        row.lake, row.csv = lake.get(feed.symbol, 0), csv.get(feed.symbol, 0)
        expect = row.wrong.append
        if distinct != row.ticks:
            expect(f"{distinct} distinct ticks in raw")
        if row.clean + refused.height != distinct:
            expect("clean + rejected is not raw")
        if census.out_of_order(passed):
            expect("clean repeats or is out of order")
        if row.lake != row.clean or row.csv != row.clean:
            expect("lake or CSV is not clean")
        if dead:
            expect(f"{dead} dead letters")
        truth, own = oracle.minute_bars(feed), bars.filter(mine)
        _compare_bars(row, own.filter(pl.col("timeframe") == "M1"), truth, source, refused)
        _compare_sql(row, settings, truth, refused)
        for timeframe, minutes in LONGER.items():
            folded = oracle.folded(truth, feed, minutes * MINUTE)
            excused = refused.select(oracle.opening("ts_event", feed, minutes * MINUTE))
            _compare_folded(row, timeframe, own, folded, excused)
        if own_hours and (row.differing or row.rejected):
            expect("bars differ or ticks were rejected")
        rows.append(row)
    return rows


def _compare_bars(
    row: Row, bars: pl.DataFrame, truth: pl.DataFrame, source: pl.DataFrame, refused: pl.DataFrame
) -> None:
    if bars.height != bars.unique(["ts_open", "revision"]).height:
        row.wrong.append("a bar was published twice")
    minute = (pl.col("ts_event") // MINUTE * MINUTE).alias("ts_open")
    counts = source.unique(census.IDENTITY).group_by(minute).agg(source_ticks=pl.len())
    last = bars.sort("revision").unique("ts_open", keep="last")
    joined = truth.join(counts, on="ts_open").join(last, on="ts_open", how="left", suffix="_bar")
    same = pl.all_horizontal(pl.col(price) == pl.col(f"{price}_bar") for price in PRICES)
    joined = joined.with_columns(same=same.fill_null(value=False), whole=pl.col("tick_count") == pl.col("source_ticks"))
    row.bars, row.equal = truth.height, joined.filter(pl.col("same")).height
    differing = set(joined.filter(~(pl.col("same") & pl.col("whole").fill_null(value=False)))["ts_open"].to_list())
    row.differing = len(differing)
    holding_rejected = set(refused.select(minute)["ts_open"].to_list())
    if differing != holding_rejected:
        row.wrong.append(f"{len(differing ^ holding_rejected)} minutes differ for no rejected tick, or the reverse")
    if extra := set(last["ts_open"].to_list()) - set(truth["ts_open"].to_list()):
        row.wrong.append(f"{len(extra)} bars too many")


def _compare_sql(row: Row, settings: Settings, truth: pl.DataFrame, refused: pl.DataFrame) -> None:
    """Every minute that the lake's ticks make in plain SQL equals the oracle's, unless a tick of it was rejected."""
    with connect_lake(settings.lake_uri, None, [settings.world], only=True) as connection:
        made = connection.sql(SQL, params=[row.symbol]).pl()
    joined = truth.join(made, on="ts_open", how="full", suffix="_sql", coalesce=True)
    same = pl.all_horizontal(pl.col(price) == pl.col(f"{price}_sql") for price in PRICES).fill_null(value=False)
    row.sql = joined.filter(same).height
    excused = refused.select((pl.col("ts_event") // MINUTE * MINUTE).alias("ts_open"))
    if wrong := joined.filter(~same).join(excused, on="ts_open", how="anti").height:
        row.wrong.append(f"{wrong} minutes that SQL makes of the lake are not the oracle's")


def _compare_folded(row: Row, timeframe: str, bars: pl.DataFrame, truth: pl.DataFrame, excused: pl.DataFrame) -> None:
    """Every bar of one timeframe equals the oracle's, unless a tick of it was rejected."""
    last = bars.filter(pl.col("timeframe") == timeframe).sort("revision").unique("ts_open", keep="last")
    joined = truth.join(last, on="ts_open", how="full", suffix="_bar", coalesce=True)
    same = pl.all_horizontal(pl.col(price) == pl.col(f"{price}_bar") for price in PRICES).fill_null(value=False)
    row.folded += joined.filter(same).height
    if wrong := joined.filter(~same).join(excused, on="ts_open", how="anti").height:
        row.wrong.append(f"{wrong} {timeframe} bars are not the minutes folded")


def processed(settings: Settings, codec: Codec) -> bool:
    """Whether the processor has reached the end of ticks.raw; not known while a killed registry is away."""
    try:
        return drain.processed(settings, codec)
    except RegistryAwayError:
        return False


def stored(settings: Settings, clean: int) -> bool:
    """Whether both sinks hold as many ticks as are clean; more is for `check` to find."""
    lake, csv = census.lake_rows(settings, "ticks"), census.csv_rows(settings.csv_dir)
    return min(sum(lake.values()), sum(csv.values())) >= clean


def pipeline(
    home: Path, feeds: Sequence[Feed], broker: str | KafkaCluster, *, own_hours: bool, kills: int = 0
) -> list[Row]:
    """Start a stack, import the feeds while children are killed, wait until all is processed, and check it."""
    world = "lean" if own_hours else "lean-defaults"
    env = stack.environment(home, world, ARBITREX_PRODUCER__SOURCE="none")
    cluster = None if isinstance(broker, str) else broker
    address = broker if isinstance(broker, str) else broker.bootstrap_servers
    with stack.up(env, "--broker", address, log=home / "up.log") as supervisor:
        found = stack.status(env)
        settings = stack.settings_of(env, found)
        env |= {
            "ARBITREX_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            "ARBITREX_REGISTRY__URL": settings.registry.url,
        }
        codec = connect(settings)
        with (
            Killer(env, kills, cluster) if kills else contextlib.nullcontext() as killer,
            ThreadPoolExecutor(len(feeds)) as imports,
        ):
            pace = PACE / kills if kills else None
            list(imports.map(partial(_import, env, world, own_hours=own_hours, speed=pace), feeds))
            if killer:
                killer.finish()
        eventually(lambda: processed(settings, codec), 600, every=1)
        clean = len(census.messages(settings, topics.TICKS_CLEAN))
        eventually(lambda: stored(settings, clean), 300, every=1)
        assert supervisor.poll() is None
        return check(settings, codec, feeds, own_hours=own_hours)


def _import(env: dict[str, str], world: str, feed: Feed, *, own_hours: bool, speed: float | None) -> None:
    options = ["--feed", feed.name, "--zone", feed.zone, "--symbol", feed.symbol, "--into", world]
    if own_hours:
        options += ["--calendar", feed.hours, "--crossed", "keep"]
    if speed:
        options += ["--speed", str(speed)]
    for _ in range(TRIES):  # an import that finds the registry killed ends with a clear line, and goes on when repeated
        done = stack.run(env, "import", *map(str, feed.tick_files), *options, timeout=1200)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


def table(title: str, rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    shown = Table(title=title)
    for column in ("symbol", "ticks", "raw", "repeats", "clean", "rejected", "lake", "csv"):
        shown.add_column(column, justify="left" if column == "symbol" else "right")
    for column in ("M1 bars", "equal", "differing", "M5..D1 equal", "SQL equal", "verdict"):
        shown.add_column(column, justify="right")
    for row in rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(row.rejected.items())) or "0"
        numbers = (row.ticks, row.raw, row.repeats, row.clean, reasons, row.lake, row.csv)
        more = (row.bars, row.equal, row.differing, row.folded, row.sql, "; ".join(row.wrong) or "ok")
        shown.add_row(row.symbol, *map(str, numbers), *map(str, more))
    return shown


def main() -> int:
    """Run the check and print the tables; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="embedded", help="embedded, kafka (three real nodes) or HOST:PORT")
    parser.add_argument("--kills", type=int, default=0, help="kill -9 each child this many times while data flows")
    options = parser.parse_args()
    console = Console(width=160)
    wrong = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as exits:
        home = Path(folder)
        broker: str | KafkaCluster = options.broker
        if options.broker == "kafka":
            broker = exits.enter_context(KafkaCluster(home / "kafka", nodes=3))
        for own_hours in (True, False):
            title = "own hours, crossed kept" if own_hours else "defaults"
            rows = pipeline(home, oracle.FEEDS, broker, own_hours=own_hours, kills=options.kills)
            console.print(table(f"{options.broker}: {title}", rows))
            wrong |= any(row.wrong for row in rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
