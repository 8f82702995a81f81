"""``arbitrex calendar``: whether and why a market is open."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from infra.cli.series import World, iso, length, series_log, settings_of, shown, unknown_years
from infra.cli.stack import Json
from infra.cli.times import FORMS, moment, span
from schemas.errors import BrokerError, RegistryAwayError, UsageError

if TYPE_CHECKING:
    from infra.market.calendar import Calendar
    from infra.market.spans import MarketMoment, MarketSpan
    from infra.settings import Settings

_AROUND: Final = 400 * 86_400_000
"""How far before and after a moment the last and the next opening and close are looked for."""
_REASONS: Final = ("open", "market_closed", "holiday")


@dataclass(frozen=True, slots=True)
class Found:
    """A symbol's calendar, and who says so."""

    symbol: str
    calendar: Calendar
    source: str

    @property
    def name(self) -> str:
        """What people call it."""
        from infra.market.calendar import PRESETS, parse_calendar

        presets = {parse_calendar(preset).to_json(): preset for preset in PRESETS}
        return self.calendar.name or presets.get(self.calendar.to_json(), "its own hours")


def calendar(
    symbol: Annotated[str, typer.Argument(help="A symbol, such as EURUSD.", show_default=False)],
    *,
    at: Annotated[str | None, typer.Option(help=f"The moment: {FORMS}. Now unless said.", show_default=False)] = None,
    from_: Annotated[str | None, typer.Option("--from", help="The beginning of a range.", show_default=False)] = None,
    to: Annotated[str | None, typer.Option("--to", help="Its end; now unless said.", show_default=False)] = None,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Say whether a symbol's market is open, why, and until when; or list when it is, in a range.

    By the spec in the log of the running stack (or of the configured Kafka).
    Where there is none, by the symbols file (ARBITREX_SYMBOLS_FILE), else by what is
    usual for such a symbol.

        arbitrex calendar XAUUSD

        arbitrex calendar EURUSD --at 2026-12-25T12:00Z

        arbitrex calendar EURUSD --from 2026-03-06 --to 2026-03-16
    """
    from infra.market.spans import market_moment, market_spans

    now = int(time.time()) * 1_000
    if at is not None and (from_ is not None or to is not None):
        raise UsageError("give a moment with --at, or a range with --from and --to, not both")
    if to is not None and from_ is None:
        raise UsageError("--to needs the beginning of the range: give --from")
    asked = (moment(at or "now", now),) if from_ is None else span(from_, to, now)
    found = find(settings_of(world), symbol, (asked[0], asked[-1]), world_asked=world is not None)
    answer: _Range | _Moment
    if len(asked) > 1:
        answer = _Range(found, market_spans(found.calendar, *asked))
    else:
        answer = _Moment(found, market_moment(found.calendar, asked[0], _AROUND))
    note = unknown_years(found.calendar, asked[0], asked[-1] + 1)
    if as_json:
        notes = [note] if note else []
        head = {"symbol": symbol, "source": found.source, "calendar": json.loads(found.calendar.to_json())}
        typer.echo(json.dumps(head | {"notes": notes} | answer.json, indent=2))
        return
    answer.show()
    if note:
        _note(note)


def find(settings: Settings, symbol: str, around: tuple[int, int], *, world_asked: bool) -> Found:
    """The symbol's calendar; a library's for the years around two moments.

    A world that cannot be read is an error only if the user asked for it. Raises ArbitrexError.
    """
    from infra.market.calendar import default_calendar, parse_calendar
    from infra.series_log import unknown_symbol
    from infra.supervisor import runfile
    from infra.symbols import Symbols, years_around

    symbols = Symbols.read(settings.symbols_file)
    pattern = symbols.pattern(symbol)
    if world_asked or runfile.is_running(settings.home) or "bootstrap_servers" in settings.kafka.model_fields_set:
        try:
            specs = series_log(settings).specs()
        except (BrokerError, RegistryAwayError, UsageError) as error:
            if world_asked:
                raise
            _note(f"by the settings alone: {error}")
        else:
            if spec := specs.get(symbol):
                own = parse_calendar(spec.calendar) if spec.calendar else default_calendar(symbol)
                return Found(symbol, own, f"the spec in world {settings.world}")
            if pattern is None:
                raise unknown_symbol(symbol, settings.world, specs)
    years = years_around(around[0])[0], years_around(around[1])[1]
    source = "usual for such a symbol" if pattern is None else f"{pattern} in {settings.symbols_file}"
    return Found(symbol, symbols.calendar(symbol, years), source)


@dataclass(frozen=True, slots=True)
class _Moment:
    found: Found
    moment: MarketMoment

    @property
    def json(self) -> dict[str, object]:
        this = self.moment
        moments = {"at": this.at, "since": this.since, "next_open": this.next_open, "next_close": this.next_close}
        state = {"open": this.reason == 0, "reason": _REASONS[this.reason]}
        return state | {name: None if ms is None else iso(ms) for name, ms in moments.items()}

    def show(self) -> None:
        from rich.console import Console

        cal, this, console = self.found.calendar, self.moment, Console(highlight=False, soft_wrap=True)
        state = "open" if this.reason == 0 else "closed"
        why = "" if this.reason == 0 else f": {_why(cal, this.at)}"
        console.print(f"{self.found.symbol} is {state} at {_both(cal, this.at)}{why}", markup=False)
        turns = [("next close", this.next_close), ("next open", this.next_open)]
        rows = [
            ("calendar", f"{self.found.name} ({cal.zone.name}), {self.found.source}"),
            (f"{state} since", _both(cal, this.since)),
            *((name, _both(cal, turn, this.at)) for name, turn in (turns if this.reason == 0 else reversed(turns))),
        ]
        for name, text in rows:
            console.print(f"  {name:<14}{text}", markup=False)


@dataclass(frozen=True, slots=True)
class _Range:
    found: Found
    spans: list[MarketSpan]

    @property
    def json(self) -> dict[str, object]:
        rows = [
            {"from": iso(s.from_), "to": iso(s.to), "open": s.reason == 0, "reason": _REASONS[s.reason]}
            for s in self.spans
        ]
        return {"spans": rows}

    def show(self) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        cal = self.found.calendar
        table = Table("from (UTC)", cal.zone.name, "lasts", "", box=SIMPLE_HEAD)
        for each in self.spans:
            row = shown(each.from_), shown(each.from_, cal.zone), length(each.to - each.from_), _why(cal, each.from_)
            table.add_row(*row, style="green" if each.reason == 0 else None)
        end = self.spans[-1].to
        table.add_row(shown(end), shown(end, cal.zone), "", "end of the range", style="dim")
        console = Console(highlight=False)
        console.print(f"{self.found.symbol}: {self.found.name}, {self.found.source}", markup=False, soft_wrap=True)
        console.print(table)


def _why(cal: Calendar, at: int) -> str:
    """The reason at a moment, and which holiday it is."""
    import numpy as np

    reason = _REASONS[cal.closed_reason(at)]
    reading = int(cal.zone.to_server(np.array([at], np.int64))[0])
    holidays = [str(span) for span in cal.holidays if span.from_ <= reading < span.to]
    return reason + (f" {', '.join(holidays)}" if reason == "holiday" else "")


def _both(cal: Calendar, at: int | None, now: int | None = None) -> str:
    """A moment in UTC and on the calendar's clock, and how far away it is."""
    if at is None:
        return f"not within {_AROUND // 86_400_000} days"
    away = "" if now is None else f", in {length(at - now)}"
    local = "" if cal.zone.name == "UTC" else f" ({shown(at, cal.zone)} {cal.zone.name})"
    return f"{shown(at)} UTC{local}{away}"


def _note(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="yellow", markup=False)
