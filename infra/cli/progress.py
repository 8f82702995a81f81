"""How an import, a replay, a sink that catches up and a verification look on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from producers import importer
    from producers.files.days import Malformed, TickDay
    from producers.replay import replayer
    from sinks.runner import Runner

_RATE_SECONDS: Final = 2.0

SHOWN: Final = 20
"""Malformed lines that are named; the rest are counted."""


class _Shown:
    """A bar that is there within a ``with`` block."""

    _awaited = "waiting for Kafka to acknowledge"
    _console: Console
    _progress: Progress
    _waits = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def waiting(self) -> None:
        """Kafka does not answer; said once, until it does."""
        if not self._waits:
            self._waits = True
            self._console.print(self._awaited)


class ImportProgress(_Shown):
    """A progress bar over days, with ticks and their rate; malformed lines are named above it."""

    def __init__(self, days: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days  {task.fields[ticks]:,} ticks  {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=days, ticks=0, rate=0.0)
        self._ticks = self._malformed = 0

    def done_before(self, days: int) -> None:
        """So many days were complete already."""
        self._progress.update(self._task, advance=days)

    def reading(self, day: TickDay) -> None:
        """A day's turn has come."""
        self._progress.update(self._task, description=f"{day.symbol} {day.day}")

    def day_done(self) -> None:
        """All of a day is on its way."""
        self._progress.update(self._task, advance=1)

    def malformed(self, line: Malformed) -> None:
        """A line is no tick."""
        self._malformed += 1
        if self._malformed <= SHOWN:
            self._console.print(str(line), style="yellow", markup=False, soft_wrap=True)

    def published(self, ticks: int) -> None:
        """So many more ticks are on their way."""
        self._waits = False
        self._ticks += ticks
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        self._progress.update(self._task, ticks=self._ticks, rate=self._ticks / elapsed if elapsed else 0.0)

    def sum_up(self, summary: importer.Summary, world: str) -> None:
        """What was done, in a line or two."""
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        if self._malformed > SHOWN:
            self._console.print(f"and {self._malformed - SHOWN:,} more malformed lines", style="yellow")
        rate = f" in {elapsed:.1f} s ({summary.published / elapsed:,.0f}/s)" if elapsed and summary.published else ""
        self._console.print(
            f"world {world}: {summary.published:,} ticks published{rate} from {summary.days} days; "
            f"{summary.done_before} days complete before; {summary.malformed:,} malformed lines",
            soft_wrap=True,
        )
        if summary.reordered:
            self._console.print(f"{summary.reordered:,} lines stood behind a later one and were put in order")
        if summary.gaps:
            self._console.print(
                f"{summary.gaps} spans without ticks to read although the market was open: recorded as gaps"
            )


class RatesProgress(_Shown):
    """A progress bar over the spans that a terminal is asked for, with bars; several threads tell it."""

    def __init__(self, spans: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[bars]:,} bars  {task.fields[published]:,} published"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("asking", total=spans, bars=0, published=0)
        self._bars = self._published = 0

    def reading(self, what: str) -> None:
        """A span's turn has come."""
        self._progress.update(self._task, description=what)

    def chunk_done(self, bars: int, published: int) -> None:
        """A span is on its way: so many bars, so many of them new or changed."""
        self._waits = False
        self._bars += bars
        self._published += published
        self._progress.update(self._task, advance=1, bars=self._bars, published=self._published)


class ReplayProgress(_Shown):
    """A progress bar over the source's records, with the moment that is reached."""

    _awaited = "waiting for Kafka"

    def __init__(self, world: str, hint: str = "") -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[written]:,} records  {task.fields[moment]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn(hint, style="dim"),
            console=self._console,
            transient=True,
        )
        self._world = world
        self._task = self._progress.add_task(world, total=None, written=0, moment="")
        self._written = 0
        self._times: list[int] = []

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._console.print(line, soft_wrap=True, markup=False)

    def held(self, *, held: bool) -> None:
        """The replay pauses, or goes on."""
        self._progress.update(self._task, description=f"{self._world} paused" if held else self._world)

    def looking_back(self, done: int, total: int) -> None:
        """So many of so many records were read to learn what was in force at the start."""
        self._progress.update(self._task, description="looking back", completed=done, total=total)

    def begins(self, done: int, total: int) -> None:
        """So many of so many records of the source were done before."""
        self._progress.update(self._task, description=self._world, completed=done, total=total)

    def done(self, read: int, written: int, moment: int | None) -> None:
        """So many more records were read, and so many more written, the latest of ``moment`` (UTC ms)."""
        self._waits = False
        self._written += written
        if moment is not None:
            self._times = [min([moment, *self._times]), max([moment, *self._times])]
        shown = _utc(self._times[1]) if self._times else ""
        self._progress.update(self._task, advance=read, written=self._written, moment=shown)

    def sum_up(self, summary: replayer.Summary) -> None:
        """What was done, in a line."""
        task = self._progress.tasks[self._task]
        elapsed = task.finished_time or task.elapsed or 0.0
        rate = f" in {elapsed:.1f} s ({summary.written / elapsed:,.0f}/s)" if elapsed and summary.written else ""
        upto = f", up to {_utc(self._times[1])}" if self._times else ""
        self.say(f"world {self._world}: {summary.written:,} records written{rate}{upto}; {summary.before:,} before")
        if summary.finished and not summary.written + summary.before:
            self.say("the range holds no record of these symbols")


class SinkProgress(_Shown):
    """A row for each sink: rows, their rate, the lag in records, the latest event time that it holds."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rows]:,} rows  {task.fields[rate]:,.0f}/s  lag {task.fields[lag]}"),
            TextColumn("{task.fields[moment]}", style="dim"),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._seen: dict[str, tuple[float, int, float]] = {}

    def show(self, runners: Mapping[str, Runner]) -> None:
        """What the runners say now."""
        for name, runner in runners.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, rows=0, rate=0.0, lag="?", moment="")
            rows, lag = runner.rows_read, runner.lag
            self._progress.update(
                self._tasks[name],
                completed=rows,
                total=None if lag is None else rows + lag,
                rows=rows,
                rate=self._rate(name, rows),
                lag="?" if lag is None else f"{lag:,}",
                moment="" if runner.newest_ms is None else _utc(runner.newest_ms),
            )

    def _rate(self, name: str, rows: int) -> float:
        """Rows a second, over the last seconds."""
        now = time.monotonic()
        at, before, rate = self._seen.get(name, (now, rows, 0.0))
        if now - at >= _RATE_SECONDS:
            at, before, rate = now, rows, (rows - before) / (now - at)
        self._seen[name] = (at, before, rate)
        return rate


class VerifyProgress(_Shown):
    """A bar for each partition in its turn."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("offsets"),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=None)

    def show(self, partition: str, done: int, total: int) -> None:
        """So many of so many offsets were looked at."""
        self._progress.update(self._task, description=partition, completed=done, total=total)


def _utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}Z"
