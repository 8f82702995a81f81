"""The real feeds of ../shared/data and the third party's minute bars made from the same quotes."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

DATA = Path(os.environ.get("ARBITREX_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "lean"
PRICES = ("open", "high", "low", "close", "ask_open", "ask_high", "ask_low", "ask_close")

_FOLD = {"open": pl.first, "high": pl.max, "low": pl.min, "close": pl.last}


@dataclass(frozen=True)
class Feed:
    """One symbol of one feed: where its files are, and what its broker's hours were."""

    name: str
    symbol: str
    ticks: str
    zone: str
    utc_offset_hours: int
    hours: str
    """Its own trading hours, as `arbitrex import --calendar` takes them; the metals close 15 minutes late."""
    days: int | None = None
    """Only so many files, the first ones."""

    @property
    def tick_files(self) -> list[Path]:
        return sorted((DATA / self.ticks).glob("*.zip"))[: self.days]

    @property
    def minute_files(self) -> list[Path]:
        return sorted((DATA / self.ticks.replace("/tick/", "/minute/")).glob("*.zip"))[: self.days]


_XAU_DAYS = ("Sun 18:00-Mon", "Mon 18:00-Tue", "Tue 18:00-Wed", "Wed 18:00-Thu", "Thu 18:00-Fri")
FEEDS = (
    Feed("oanda", "EURUSD", "forex/oanda/tick/eurusd", "UTC", 0, "fx"),
    Feed("oanda", "NZDUSD", "forex/oanda/tick/nzdusd", "UTC", 0, "fx"),
    Feed(
        "oanda",
        "XAUUSD",
        "cfd/oanda/tick/xauusd",
        "UTC",
        0,
        ", ".join(f"{days} 17:15" for days in _XAU_DAYS) + " America/New_York",
    ),
    Feed("fxcm", "EURUSD.fxcm", "forex/fxcm/tick/eurusd", "UTC-5", -5, "Sun 15:00-Fri 17:00 America/New_York"),
)

START_OF_FEEDS = tuple(replace(feed, days=3) for feed in FEEDS)
"""What CI can afford: over a weekend into Sunday's opening."""


def tick_count(feed: Feed) -> int:
    """Quotes in the feed's files."""
    return sum(len(_lines(path)) for path in feed.tick_files)


def minute_bars(feed: Feed) -> pl.DataFrame:
    """The third party's bars: ts_open (UTC epoch ms) and the eight prices."""
    rows = []
    for path in feed.minute_files:
        day = datetime.strptime(path.name[:8], "%Y%m%d").replace(tzinfo=UTC)
        midnight = int(day.timestamp() * 1000) - feed.utc_offset_hours * 3_600_000
        for line in _lines(path):
            at, *fields = line.split(",")
            rows.append((midnight + int(float(at)), *(float(fields[i]) for i in (0, 1, 2, 3, 5, 6, 7, 8))))
    return pl.DataFrame(rows, schema={"ts_open": pl.Int64, **dict.fromkeys(PRICES, pl.Float64)}, orient="row")


def opening(column: str, feed: Feed, length: int) -> pl.Expr:
    """When the bar of ``length`` ms opened that holds a moment; bars are aligned to midnight on the feed's clock."""
    offset = feed.utc_offset_hours * 3_600_000
    return ((pl.col(column) + offset) // length * length - offset).alias("ts_open")


def folded(minutes: pl.DataFrame, feed: Feed, length: int) -> pl.DataFrame:
    """Bars of ``length`` ms out of minute bars."""
    return (
        minutes.sort("ts_open")
        .group_by(opening("ts_open", feed, length))
        .agg(_FOLD[price.removeprefix("ask_")](price) for price in PRICES)
    )


def _lines(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0]).decode("ascii").splitlines()
