"""``arbitrex import``: publish tick files into a world of their own."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.publishing import conclude, own_world, publish, say
from infra.cli.stopping import stopping
from schemas.errors import ArbitrexError, UsageError

if TYPE_CHECKING:
    from producers.files.discovery import Found


class Crossed(StrEnum):
    REJECT = "reject"
    KEEP = "keep"


def import_(
    paths: Annotated[list[Path], typer.Argument(help="Tick files, or folders that hold them.", show_default=False)],
    *,
    feed: Annotated[str, typer.Option(help="Whose prices these are: oanda, dukascopy, …", show_default=False)],
    zone: Annotated[
        str | None,
        typer.Option(
            help="The clock of the files: UTC, UTC-5, New_York+7 or an IANA name; needed where they do not say it.",
            show_default=False,
        ),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Instead of what names and lines say.", show_default=False)] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Names of CSV or Parquet columns: time=t,bid=b,ask=a; also date, last, volume, flags, symbol.",
            show_default=False,
        ),
    ] = None,
    into: Annotated[str | None, typer.Option(help="The world; FEED unless said.", show_default=False)] = None,
    calendar: Annotated[
        str | None,
        typer.Option(
            help="fx, metals, 24/7, hours, JSON, or a library's such as XNYS; by the symbols file unless said."
        ),
    ] = None,
    crossed: Annotated[
        Crossed, typer.Option(help="What becomes of ticks with the bid above the ask.")
    ] = Crossed.REJECT,
    digits: Annotated[int | None, typer.Option(min=0, max=8, help="Decimals; as in the files unless said.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Times real time; as fast as can be unless said.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Process the world until it is drained.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a line is no tick.")] = False,
) -> None:
    """Publish tick files with their own times into a world of their own.

    MetaTrader's exports, Dukascopy's .bi5 and CSV, HistData, TrueFX, QuantConnect
    Lean, and CSV or Parquet with columns for time, bid and ask; .gz and .zip too.
    Which it is, is found out and said. Lines that are no ticks are named.

        arbitrex import EURUSD_202401020000_202401312359.csv --feed icm --zone New_York+7 --run

        arbitrex import datafeed/EURUSD --feed dukascopy

        arbitrex import quotes.parquet --feed mine --symbol EURUSD --columns time=t,bid=b,ask=a

    Killed or interrupted at any moment, the same command goes on where it stopped;
    when all is published it publishes nothing.
    """
    from infra.market.library import find_calendar
    from infra.market.zones import ServerZone
    from infra.symbols import Symbols
    from producers.files.days import by_symbol
    from producers.files.discovery import Wanted, discover
    from producers.imports import Terms, years_of
    from schemas.records import CrossedPolicy

    settings = own_world(into or feed, "an import")
    found = discover(paths, Wanted(symbol, digits, _columns(columns)))
    for title, count in found.formats.items():
        say(f"{title}: {count} file{'s' if count > 1 else ''}")
    if found.ignored:
        say(f"ignored {len(found.ignored)} files that are no ticks ({found.ignored[0]}, …)")
    terms = Terms(
        feed=feed,
        zone=ServerZone.parse(_zone(zone, found)),
        calendar=find_calendar(calendar, years_of(found.days)) if calendar is not None else None,
        crossed=CrossedPolicy(crossed),
        digits=digits,
        speed=speed,
    )
    names = Symbols.read(settings.symbols_file).names(feed)
    days = found.days if symbol else by_symbol(replace(day, symbol=names.name(day.symbol).symbol) for day in found.days)
    with stopping() as asked:
        summary = publish(settings, days, terms, asked)
    conclude(settings, summary, run=run)
    if strict and summary.malformed:
        raise ArbitrexError(f"{summary.malformed} malformed lines (--strict)")


def _zone(given: str | None, found: Found) -> str:
    """The files' clock. Raises UsageError when it is not known, or given otherwise than the files say."""
    titles = ", ".join(found.formats)
    if given is None:
        if found.zone is None:
            raise UsageError(
                f"{titles}: these files do not say by which clock they go: give --zone, such as UTC or New_York+7"
            )
        return found.zone
    if found.zone not in {None, given}:
        raise UsageError(f"{titles}: these files go by {found.zone}, not by {given}: leave --zone out")
    return given


def _columns(text: str | None) -> dict[str, str]:
    meanings = ("time", "date", "bid", "ask", "last", "volume", "flags", "symbol")
    named = {}
    for part in (text or "").split(",") if text else ():
        meaning, _, name = part.partition("=")
        if meaning not in meanings or not name:
            raise UsageError(f"--columns: {part!r} is not MEANING=COLUMN; meanings are {', '.join(meanings)}")
        named[meaning] = name
    return named
