"""Symbols that a broker offers only after the shard has started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from producers.cursor import Cursor
from producers.newcomers import EVERY_MS, Newcomers
from producers.restore import Past, Standing
from producers.terminal import SymbolInfo
from schemas.errors import UsageError
from schemas.records import Control, ControlKind, EventKind
from tests.producers.test_poll_faults import START, Recorder, Run

LATE = "GBPJPY"
OFFERED_MS = START + 90_000


class Log(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.found[LATE] = []

    def watermark(self, control: Control, symbols: Iterable[str]) -> None:
        assert set(symbols) <= set(self.found)
        self.mark = control.time


def run_with(
    patterns: tuple[str, ...], standing: Standing, *, foreign: bool = False
) -> tuple[Run, Log, dict[str, SymbolInfo]]:
    """Three minutes of a broker that offers ``LATE`` from 14:01:30 on."""

    def refuse(symbols: Iterable[str]) -> None:
        if foreign:
            raise UsageError(f"{list(symbols)} are feed icm's")

    run, log = Run(f"drop={LATE}@2026-03-03T13:00:00Z+3690"), Log()
    settings = run.shard.settings.model_copy(update={"symbols": patterns})
    run.shard = replace(run.shard, publisher=log, settings=settings)
    run.poller._shard, run.poller._publisher = run.shard, log
    newcomers = Newcomers(standing, lambda known: Past(known.cursors), refuse)
    infos: dict[str, SymbolInfo] = {i.name: i for i in run.terminal.symbols_get() or () if i.name in log.found}
    for _ in range(100):
        run.go(2, 2_000)
        infos |= newcomers.look(run.shard, run.poller, infos)
    return run, log, infos


def test_a_new_symbol_is_said_and_collected_from_then_on() -> None:
    run, log, infos = run_with(("EURUSD", "GBPJ*"), Standing())
    assert LATE in infos
    ((kind, text),) = [(event.kind, event.text) for event in log.events if event.symbol == LATE]
    assert (kind, text) == (EventKind.CONNECTED, "the broker offers it now")
    kinds = {control.kind: control for control in log.controls if control.symbol == LATE}
    assert set(kinds) == {ControlKind.SYMBOL_SPEC, ControlKind.COVERAGE}
    begins = kinds[ControlKind.COVERAGE].time
    assert OFFERED_MS - EVERY_MS < begins < OFFERED_MS + 2 * EVERY_MS
    ever = [ts for block in run.history.ever(LATE, begins, run.clock.now - 20_000) for ts in block["time_msc"].tolist()]
    assert [ts for ts, *_ in log.found[LATE] if ts < run.clock.now - 20_000] == ever
    assert len(ever) > 20
    assert log.corrections == 0


@pytest.mark.parametrize("pattern", ["GBPJP?", LATE])
def test_one_that_was_collected_before_goes_on_where_it_was(pattern: str) -> None:
    since = START - 600_000
    run, log, _ = run_with((pattern,), Standing({LATE: Cursor(since - 1, {b"x": 1})}, {LATE: since}))
    assert not any(c.kind == ControlKind.COVERAGE and c.symbol == LATE for c in log.controls)
    ever = [ts for block in run.history.ever(LATE, since, run.clock.now - 20_000) for ts in block["time_msc"].tolist()]
    assert sorted(ts for ts, *_ in log.found[LATE] if ts < run.clock.now - 20_000) == ever


@pytest.mark.parametrize(("patterns", "foreign", "told"), [(("EURUSD",), False, 0), (("*",), True, 1)])
def test_one_that_is_not_chosen_or_is_another_feeds_is_left_out(
    patterns: tuple[str, ...], told: int, *, foreign: bool
) -> None:
    _, log, infos = run_with(patterns, Standing(), foreign=foreign)
    assert LATE not in infos
    said = [event for event in log.events if event.symbol == LATE]
    assert len(said) == told
    assert all("left out" in event.text for event in said)
