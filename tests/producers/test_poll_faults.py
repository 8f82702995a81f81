"""What is published through each fault of a terminal is what its broker ever had: each tick once, or in a gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Event

import numpy as np
import pytest

from infra import metrics
from infra.market.zones import ServerZone
from infra.settings import ProducerSettings
from infra.symbols import Symbols
from producers.clocks import ServerClockError
from producers.cursor import Cursor, from_record
from producers.encoding import TickColumns
from producers.failures import TerminalAwayError
from producers.newcomers import Newcomers
from producers.poll import Poller
from producers.publisher import Publisher
from producers.recent import Recent
from producers.restore import Past, Standing, reread_from
from producers.service import Rounds
from producers.shard import Shard
from producers.simulated.faults import Faults
from producers.simulated.history import History
from producers.simulated.market import Market
from producers.simulated.terminal import SimulatedTerminal
from producers.terminal import TICK_DTYPE, Ticks
from schemas.records import Control, ControlKind, EventKind, FeedEvent
from schemas.records import Cursor as CursorRecord

ZONE = ServerZone.parse("New_York+7")
START = int(datetime(2026, 3, 3, 14, tzinfo=UTC).timestamp() * 1_000)
SYMBOLS = ("EURUSD", "BTCUSD", "XAUUSD")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


class Recorder(Publisher):
    """A world that keeps everything."""

    def __init__(self) -> None:
        self.feed, self.shard = "sim", "a"
        self.found: dict[str, list[tuple[int, int, float, float]]] = {symbol: [] for symbol in SYMBOLS}
        self.corrections = 0
        self.controls: list[Control] = []
        self.events: list[FeedEvent] = []
        self.cursors: dict[str, tuple[CursorRecord, int]] = {}
        self.mark = -1

    def ticks(self, symbol: str, ticks: TickColumns, *, correction: bool = False) -> None:
        rows = list(
            zip(ticks.ts_event.tolist(), ticks.ordinal.tolist(), ticks.bid.tolist(), ticks.ask.tolist(), strict=True)
        )
        self.corrections += len(rows) if correction else 0
        if not correction:
            assert rows[0][0] > self.mark, "a tick came after its watermark"
        self.found[symbol] += rows

    def control(self, control: Control) -> None:
        self.controls.append(control)

    def watermark(self, control: Control, symbols: Iterable[str]) -> None:
        assert set(symbols) == set(SYMBOLS)
        assert control.time > self.mark
        self.mark = control.time

    def event(self, event: FeedEvent) -> None:
        self.events.append(event)

    def cursor(self, cursor: CursorRecord, time: int) -> None:
        self.cursors[cursor.symbol] = cursor, time

    def flush(self, timeout: float) -> bool:
        return timeout >= 0


class Run:
    """A poller before a terminal with a script of faults, in a time of its own."""

    def __init__(self, *script: str, seed: int = 7, patience: float = 30) -> None:
        self.clock, self.out = Clock(), Recorder()
        self.faults = Faults.parse(script, seed)
        self.market = Market(seed)
        self.history = History(self.market, self.faults)
        wanted = ProducerSettings(
            symbols=SYMBOLS, patience_seconds=patience, reread_seconds=5, reread_minutes=5, quiet_margin_ms=500
        )
        self.terminal = SimulatedTerminal(self.market, ZONE, self.clock, self.faults)
        self.shard = Shard(self.terminal, ZONE, self.clock, self.out, wanted, Symbols({}), Event())
        self.poller = Poller(self.shard, {s: Cursor(START) for s in SYMBOLS}, {s: s for s in SYMBOLS})
        self.connect()

    def connect(self) -> None:
        if self.terminal.initialize():
            for symbol in SYMBOLS:
                self.terminal.symbol_select(symbol, True)
        self.poller.connected()

    def restart(self) -> None:
        """Another process: it knows what was kept and what is published."""
        cursors = {symbol: from_record(*kept) for symbol, kept in self.out.cursors.items()}
        window = int(self.shard.settings.reread_minutes * 60_000)
        recent = {
            s: Recent(reread_from(cursors[s], kept.reread_from, window)) for s, (kept, _) in self.out.cursors.items()
        }
        for symbol, rows in self.out.found.items():
            ticks = np.zeros(len(rows), TICK_DTYPE)
            ticks["bid"], ticks["ask"] = [row[2] for row in rows], [row[3] for row in rows]
            recent[symbol].add(ticks, np.array([row[0] for row in rows]))
        self.poller = Poller(self.shard, cursors, {s: s for s in SYMBOLS}, recent=recent, watermark=self.out.mark)

    def go(self, seconds: float, step_ms: int = 700) -> None:
        end = self.clock.now + int(seconds * 1_000)
        while self.clock.now < end:
            self.clock.now += step_ms
            try:
                self.poller.cycle()
            except TerminalAwayError:
                self.connect()

    def gaps(self, symbol: str) -> list[tuple[int, int]]:
        found = [c for c in self.out.controls if c.kind == ControlKind.GAP and c.symbol == symbol]
        return [(c.from_ or 0, c.to or 0) for c in found]

    def check(self) -> int:
        """How many ticks are in gaps; the others are there once each, in their places' own identities."""
        lost = 0
        for symbol in SYMBOLS:
            found = self.out.found[symbol]
            assert len({(ts, ordinal) for ts, ordinal, _, _ in found}) == len(found), "an identity is there twice"
            whole = [np.empty(0, TICK_DTYPE), *self.history.ever(symbol, START, self.clock.now - 60_000)]
            ever = keys(np.concatenate(whole))
            published = Counter(
                row for row in ((ts, bid, ask) for ts, _, bid, ask in found) if row[0] < self.clock.now - 60_000
            )
            missing = ever - published
            assert not published - ever
            for ts, _, _ in missing.elements():
                assert any(since <= ts < until for since, until in self.gaps(symbol)), (symbol, ts - START)
            lost += missing.total()
        return lost


def nobody() -> Newcomers:
    return Newcomers(Standing(), lambda _: Past(), lambda _: None)


def keys(ticks: Ticks) -> Counter[tuple[int, float, float]]:
    return Counter(zip(ticks["time_msc"].tolist(), ticks["bid"].tolist(), ticks["ask"].tolist(), strict=True))


@pytest.mark.parametrize(
    "script",
    [
        ["cold=20"],
        ["fail=0.4"],
        ["memory=600"],
        ["pipe@every30+1"],
        ["lag=4"],
        ["late=0.05"],
        ["flood=15000@2026-03-03T14:01:00Z+1"],
        ["offline@2026-03-03T14:01:00Z+40"],
        ["drop=XAUUSD@2026-03-03T14:01:00Z+40"],
        ["fail=0.2", "late=0.05", "lag=2", "pipe@every40+1", "cold=10", "flood=11000@every200+1"],
    ],
    ids=lambda script: "+".join(each.split("=")[0].split("@")[0] for each in script),
)
def test_nothing_is_lost_or_doubled(script: list[str]) -> None:
    run = Run(*script)
    run.go(170)
    assert run.check() == 0
    assert all(len(found) > 100 for found in run.out.found.values())
    assert run.out.mark > run.clock.now - 90_000, "watermarks go on"
    corrected = any(each.startswith(("late", "drop")) for each in script)
    assert (run.out.corrections > 10) == corrected


@pytest.mark.parametrize(
    ("script", "error", "recovery"),
    [
        ("fail=0.4", "-1", "retry"),
        ("memory=600", "-3", "reduce"),
        ("cold=140", "-1", "history"),
        ("drop=XAUUSD@2026-03-03T14:01:00Z+40", "-4", "offered"),
    ],
)
def test_each_fault_and_what_it_took_to_recover_is_counted(script: str, error: str, recovery: str) -> None:
    errors = metrics.SOURCE_ERRORS.labels("sim", "a", error)._value
    recoveries = metrics.SOURCE_RECOVERIES.labels("sim", "a", recovery)._value
    before = errors.get(), recoveries.get()
    Run(script, patience=90).go(170)
    assert errors.get() > before[0]
    assert recoveries.get() > before[1]


@pytest.mark.parametrize("worst", ["late=0.03", "forget@every70+1"])  # a late tick forgotten first was never seen
def test_nothing_is_lost_or_doubled_in_any_mixture(worst: str) -> None:
    script = ["fail=0.3@every20+7", "lag=3@every50+20", "pipe@every30+2", "cold=8@every100+60", "offline@every80+15"]
    run = Run(worst, *script, seed=len(worst), patience=10)
    run.go(90)
    run.check()


def test_what_the_terminal_has_lost_is_a_gap_with_its_bounds_and_said_once() -> None:
    run = Run("forget@2026-03-03T14:02:00Z+60", "fail=1@2026-03-03T14:01:00Z+125", patience=20)
    run.go(320)
    assert run.check() > 50
    for symbol in SYMBOLS:
        ((since, until),) = run.gaps(symbol)
        times = [ts for ts, *_ in run.out.found[symbol]]
        assert since in times
        assert until in times
        assert START + 55_000 < since < START + 62_000 < START + 180_000 <= until < START + 195_000
    assert run.out.mark > START + 250_000


def test_what_is_lost_before_the_first_answer_is_a_gap_too() -> None:
    run = Run("memory=100@2026-03-03T14:00:00Z+40", "forget@2026-03-03T14:00:30Z+1", patience=20)
    run.go(120)
    assert run.check() > 0
    for symbol in SYMBOLS:
        ((since, until),) = run.gaps(symbol)
        assert since == START
        assert START + 31_000 <= until < START + 40_000


def test_history_that_comes_after_all_is_no_gap() -> None:
    run = Run("cold=25", patience=30)
    run.go(120)
    assert not any(c.kind == ControlKind.GAP for c in run.out.controls)
    assert run.check() == 0


def test_a_terminal_that_starts_anew_gets_as_long_again_to_bring_its_history() -> None:
    run = Run("cold=16@2026-03-03T14:01:00Z+864000", patience=20)
    run.go(50)
    run.clock.now += 120_000  # further back than the newest part that comes first
    for seconds in (14, 14, 60):
        run.terminal._troubles._asked.clear()
        run.connect()
        run.go(seconds)
    assert run.gaps("EURUSD") == []
    assert run.check() == 0


def test_a_terminal_that_starts_anew_again_and_again_is_not_waited_for_for_ever() -> None:
    run = Run("forget@2026-03-03T14:01:00Z+1", "fail=1@2026-03-03T14:00:50Z+20", patience=10)
    for _ in range(15):
        run.go(7)
        run.connect()
    run.go(20)
    assert run.check() > 0
    assert all(len(run.gaps(symbol)) == 1 for symbol in SYMBOLS)
    assert run.out.mark > START + 100_000


def test_what_is_lost_of_the_last_millisecond_is_in_the_gap() -> None:
    flood = "flood=15000@2026-03-03T14:01:00Z+1"
    run = Run(flood, "memory=10000@2026-03-03T14:01:00Z+20", "forget@2026-03-03T14:01:10Z+1", patience=10)
    run.go(170)
    assert run.check() > 3 * 4_000
    for symbol in SYMBOLS:
        ((since, _),) = run.gaps(symbol)
        assert since == START + 60_000
        assert sum(ts == since for ts, *_ in run.out.found[symbol]) >= 5_000


def test_a_symbol_that_the_broker_drops_and_offers_again_is_told() -> None:
    run = Run("drop=XAUUSD@2026-03-03T14:01:00Z+40")
    run.go(180)
    told = [(event.kind, event.symbol) for event in run.out.events]
    assert told == [(EventKind.DISCONNECTED, "XAUUSD"), (EventKind.CONNECTED, "XAUUSD")]


def test_a_late_tick_found_again_after_a_restart_is_no_correction_twice() -> None:
    run = Run("late=0.05")
    run.go(120)
    run.poller.save(force=True)
    run.restart()
    run.go(120)
    assert run.check() == 0


def test_what_came_late_is_found_though_no_process_lives_long_enough_to_look_at_every_series() -> None:
    run = Run("late=0.2@2026-03-03T14:00:00Z+60")
    run.go(55)
    run.poller.save(force=True)
    for _ in range(8):  # longer than what is read again, a poll in each minute
        run.restart()
        run.clock.now += 60_000
        run.go(0.7)
        run.poller.save(force=True)
    assert run.check() == 0
    assert run.out.corrections > 10
    windows = [START + 8 * 60_000 - kept.reread_from for kept, _ in run.out.cursors.values() if kept.reread_from]
    assert len(windows) == len(SYMBOLS)
    assert max(windows) < 6 * 300_000, "what a start reads is bounded"


def test_late_ticks_are_looked_for_in_all_that_could_not_be_read_before() -> None:
    run = Run("late=0.2@2026-03-03T14:11:00Z+60")
    run.go(55)
    reads = run.terminal.copy_ticks_range
    run.terminal.copy_ticks_range = lambda *_: None  # type: ignore[method-assign]
    run.go(4 * 300, step_ms=5_000)
    run.terminal.copy_ticks_range = reads  # type: ignore[method-assign]
    run.go(60)
    assert run.check() == 0
    assert run.out.corrections > 10


def test_what_came_late_before_a_long_pause_is_found_after_it() -> None:
    run = Run("late=0.2@2026-03-03T14:00:00Z+60")
    run.go(55)
    run.clock.now += 1_200_000  # longer than what is read again
    run.go(60)
    assert run.check() == 0
    assert run.out.corrections > 10
    assert all(series.recent.since > run.clock.now - 400_000 for series in run.poller._series), "and is forgotten then"


def test_what_came_late_before_a_long_pause_is_found_though_the_process_after_it_is_killed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run("late=0.2@2026-03-03T14:00:00Z+60")
    run.go(55)
    run.clock.now += 2_400_000
    with monkeypatch.context() as killed:
        killed.setattr(run.poller._rereading, "turn", lambda *_: None)
        run.go(0.7)
    run.poller.save(force=True)
    run.restart()
    run.go(60)
    assert run.check() == 0
    assert run.out.corrections > 10


@pytest.mark.parametrize(
    "more", [[], ["fail=0.4"], ["forget@2026-03-03T14:01:10Z+1", "fail=1@2026-03-03T14:00:55Z+20"]]
)
def test_where_the_servers_clock_is_moved_ticks_go_on_in_the_new_zone(more: list[str]) -> None:
    run = Run("zone=UTC+3@2026-03-03T14:01:00Z+864000", *more, patience=10)
    infos = {each.name: each for each in run.terminal.symbols_get() or () if each.name in SYMBOLS}
    rounds = Rounds(run.shard, run.poller, infos, auto=True, newcomers=nobody())
    end = run.clock.now + 180_000
    while run.clock.now < end:
        run.clock.now += 700
        try:
            rounds._poller.cycle()
        except ServerClockError as error:
            rounds._rezone(error)
    gaps = [run.gaps(symbol) for symbol in SYMBOLS]
    if "forget" in str(more):
        assert run.check() > 0
        assert [until > START + 71_000 for ((_, until),) in gaps] == [True] * 3
    else:
        assert run.check() == 0
        assert gaps == [[]] * 3, "nothing is lost, though its last tick is shown by another clock now"
    specs = [control.spec for control in run.out.controls if control.spec is not None]
    assert {spec.symbol for spec in specs} == set(SYMBOLS)
    moved = ServerZone.parse(specs[0].zone)
    assert moved.to_server(np.array([START]))[0] - START == 3 * 3_600_000
    (event,) = (event for event in run.out.events if event.kind == EventKind.CLOCK)
    assert "was moved from New_York+7 to" in event.text


@pytest.mark.parametrize(("zone", "auto", "says"), [("UTC+3", False, "ahead"), ("UTC", True, "set back")])
def test_a_moved_clock_that_cannot_be_followed_stops_the_shard_and_says_so(zone: str, says: str, *, auto: bool) -> None:
    run = Run(f"zone={zone}@2026-03-03T14:01:00Z+864000")
    rounds = Rounds(run.shard, run.poller, {}, auto=auto, newcomers=nobody())
    with pytest.raises(ServerClockError, match=rf"{says} .* set ARBITREX_PRODUCER__ZONE") as error:
        run.go(120)
    with pytest.raises(ServerClockError):
        rounds._rezone(error.value)
    assert [event.kind for event in run.out.events] == [EventKind.CLOCK]
