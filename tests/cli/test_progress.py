"""What is shown while a sink catches up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from infra.cli.progress import SinkProgress, VerifyProgress


def test_a_sinks_row_says_rows_lag_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = SinkProgress()
    console = Console(force_terminal=True, width=120)
    monkeypatch.setattr(progress._progress.live, "console", console)
    runner = SimpleNamespace(rows_read=0, lag=None, newest_ms=None)
    with console.capture() as shown, progress:
        progress.show(cast("Any", {"lake": runner}))
        runner.rows_read, runner.lag, runner.newest_ms = 12_345, 678, 1_399_000_000_000
        progress.show(cast("Any", {"lake": runner}))
        progress._progress.refresh()
    text = shown.get()
    for part in ("lake", "12,345 rows", "lag 678", "2014-05-02 03:06:40Z"):
        assert part in text


def test_a_verification_shows_the_partition_in_its_turn() -> None:
    with VerifyProgress() as progress:
        progress.show("main.bars/1", 5, 10)
        task = progress._progress.tasks[0]
        assert (task.description, task.completed, task.total) == ("main.bars/1", 5, 10)
