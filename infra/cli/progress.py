"""How an import looks on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from producers.files.lean import Malformed, TickFile
    from producers.importer import Summary

SHOWN: Final = 20
"""Malformed lines that are named; the rest are counted."""


class ImportProgress:
    """A progress bar over files, with ticks and their rate; malformed lines are named above it."""

    def __init__(self, files: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files  {task.fields[ticks]:,} ticks  {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=files, ticks=0, rate=0.0)
        self._read = self._ticks = self._malformed = 0
        self._waits = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def done_before(self, files: int) -> None:
        """So many files were complete already."""
        self._progress.update(self._task, advance=files)

    def reading(self, file: TickFile) -> None:
        """A file's turn has come."""
        self._read += 1
        self._progress.update(self._task, description=f"{file.symbol} {file.day}")

    def file_done(self) -> None:
        """All of a file is on its way."""
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

    def waiting(self) -> None:
        """Kafka does not answer."""
        if not self._waits:
            self._waits = True
            self._console.print("waiting for Kafka to acknowledge")

    def sum_up(self, summary: Summary, world: str) -> None:
        """What was done, in a line or two."""
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        if self._malformed > SHOWN:
            self._console.print(f"and {self._malformed - SHOWN:,} more malformed lines", style="yellow")
        rate = f" in {elapsed:.1f} s ({summary.published / elapsed:,.0f}/s)" if elapsed and summary.published else ""
        self._console.print(
            f"world {world}: {summary.published:,} ticks published{rate} from {summary.files} files; "
            f"{summary.done_before} files complete before; {summary.malformed:,} malformed lines",
            soft_wrap=True,
        )
        if summary.reordered:
            self._console.print(f"{summary.reordered:,} lines stood behind a later one and were put in order")
        if summary.gaps:
            self._console.print(f"{summary.gaps} days without a file although the market was open: recorded as gaps")
