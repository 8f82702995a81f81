"""``arbitrex bars``: what the log says of a series' bars."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from infra.cli.series import World, iso, series_log, settings_of, shown, unknown_years
from infra.cli.stack import Json
from infra.cli.times import FORMS, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.market.calendar import Calendar
    from infra.market.missing import Missing, Span
    from infra.series_log import Standing

app = typer.Typer(help="What the log says of a series' bars.", no_args_is_help=True)

_GAP: Final = 3
"""The exit code when data is missing."""
_MOST: Final = 5_000_000
_EXPLAINED: Final = {
    "market_closed": "the market was closed",
    "quiet": "every tick is in the log, and none made a bar",
    "feed_gap": "the log lacks ticks of this time",
}


@app.callback()
def _bars() -> None:
    """What the log says of a series' bars."""


@app.command()
def missing(
    symbol: Annotated[str, typer.Argument(help="A symbol of the world, such as EURUSD.", show_default=False)],
    timeframe: Annotated[str, typer.Argument(help="M1 to MN1.", show_default=False)],
    *,
    from_: Annotated[str, typer.Option("--from", help=f"The beginning: {FORMS}.", show_default=False)],
    to: Annotated[str | None, typer.Option("--to", help="The end; now unless said.", show_default=False)] = None,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Say for each bar that does not exist why: market_closed, quiet or feed_gap.

    By the calendar of the symbol's spec and by the log alone: the bars there
    are, since when the log holds every tick, and its gaps. Neighbours with one
    reason are one line. Bars that are still open are not missing yet.

    Exit code 3 when there is a feed_gap, 0 when not.

        arbitrex bars missing EURUSD M1 --from "last 2 h"

        arbitrex bars missing EURUSD H1 --from 2014-05-01 --to 2014-05-10 --world lean
    """
    from infra import logs
    from infra.market.missing import Absence
    from infra.series_missing import check, missing_of

    asked = span(from_, to, int(time.time() * 1_000))
    timeframe = timeframe.upper()
    check(symbol, timeframe)
    settings = settings_of(world)
    logs.configure(settings.log, "bars")
    answer = missing_of(series_log(settings), settings.world, symbol, timeframe, asked, most=_MOST)
    found, taken = answer.found, answer.taken
    notes = _notes(answer.standing, answer.calendar, timeframe, asked, taken)
    if as_json:
        head = {"world": settings.world, "symbol": symbol, "timeframe": timeframe}
        _print_json(head | {"from": iso(taken[0]), "to": iso(taken[1]), "notes": notes}, found)
    else:
        _print_table(f"{symbol} {timeframe} in world {settings.world}", found, notes, taken)
    if any(each.reason == Absence.FEED_GAP for each in found):
        raise typer.Exit(_GAP)


def _notes(standing: Standing, calendar: Calendar, timeframe: str, asked: Span, taken: Span) -> list[str]:
    """What bears on the answer beside the intervals."""
    notes, since = [], standing.timeframes[timeframe]
    if since > asked[0]:
        notes.append(f"{timeframe} is made since {shown(since)} UTC; nothing before is missing")
    if standing.processed_to < asked[1]:
        notes.append(f"processed up to {shown(standing.processed_to)} UTC: bars that close later are not missing yet")
    if standing.coverage_from is None:
        notes.append("the log never held every tick of this series")
    elif standing.coverage_from > taken[0]:
        notes.append(f"the log holds every tick since {shown(standing.coverage_from)} UTC only")
    if note := unknown_years(calendar, *taken):
        notes.append(note)
    notes += [
        f"the spec changed at {shown(change.time)} UTC ({change.text}); the reasons are by the present one"
        for change in standing.changes
        if change.time > taken[0]
    ]
    return notes


def _print_json(head: dict[str, object], found: Sequence[Missing]) -> None:
    rows = [{"from": iso(e.from_), "to": iso(e.to), "reason": str(e.reason), "bars": e.bars} for e in found]
    typer.echo(json.dumps(head | {"missing": rows}, indent=2))


def _print_table(title: str, found: Sequence[Missing], notes: Sequence[str], taken: Span) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for note in notes:
        Console(stderr=True, highlight=False, soft_wrap=True).print(note, style="yellow", markup=False)
    if not found:
        nothing = taken[0] >= taken[1]
        text = "no bar of this range has closed yet" if nothing else "no bar is missing"
        console.print(f"{title}: {text}", markup=False, soft_wrap=True)
        return
    table = Table("from (UTC)", "to (UTC)", "bars", "reason", box=SIMPLE_HEAD)
    for each in found:
        style = "red" if each.reason == "feed_gap" else None
        table.add_row(shown(each.from_), shown(each.to), f"{each.bars:,}", str(each.reason), style=style)
    console.print(f"missing of {title}", markup=False, soft_wrap=True)
    console.print(table)
    for reason in dict.fromkeys(each.reason for each in found):
        bars = sum(each.bars for each in found if each.reason == reason)
        console.print(f"{reason}: {bars:,} bar{'s' * (bars > 1)}; {_EXPLAINED[reason]}", markup=False, soft_wrap=True)
