"""``arbitrex backfill``: a terminal's ticks of the past into a world of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.publishing import conclude, of_shard, own_world, publish, say, words
from infra.cli.stopping import stopping
from infra.cli.times import FORMS, span

if TYPE_CHECKING:
    from producers.history.terminals import Offered
    from producers.imports import Instrument


def backfill(
    *,
    symbols: Annotated[str, typer.Option(help="Names or patterns, such as EURUSD,XAU*.", show_default=False)],
    from_: Annotated[str, typer.Option("--from", help=f"Where to begin: {FORMS}.", show_default=False)],
    to: Annotated[str | None, typer.Option(help="Where to end; a minute ago unless said.", show_default=False)] = None,
    into: Annotated[str | None, typer.Option(help="The world; backfill-FEED unless said.", show_default=False)] = None,
    shard: Annotated[
        str | None, typer.Option(help="Whose terminal is asked; the first one's unless said.", show_default=False)
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Process the world until it is drained.")] = False,
) -> None:
    """Publish the ticks that the terminal has of the past into a world of their own.

    The terminal is the producer's (ARBITREX_PRODUCER__SOURCE), in a process of its
    own. Days are asked for one by one; where its bars tell of ticks that it does
    not give any more, a gap is recorded.

        arbitrex backfill --symbols EURUSD,GBPUSD --from 2026-10-01 --to 2026-11-01 --run

        arbitrex backfill --symbols "*" --from 3d

    Killed or interrupted at any moment, the same command goes on where it stopped; a
    later --to goes on where the earlier one ended.
    """
    from infra.market.zones import ServerZone
    from infra.symbols import Symbols
    from producers.history.backfill import Past
    from producers.history.choosing import choose
    from producers.history.terminals import TerminalProcess
    from producers.imports import Terms
    from schemas.records import CrossedPolicy

    settings = of_shard(own_world(into or f"backfill-{_feed(shard)}", "a backfill"), shard)
    producer = settings.producer
    with stopping() as asked, TerminalProcess(settings, asked) as terminal:
        opened = terminal.open()
        zone = ServerZone.parse(opened.zone)
        start, end = span(from_, to, opened.now_ms)
        names = Symbols.read(settings.symbols_file).names(producer.feed)
        chosen = choose(opened.symbols, words(symbols), names, producer.feed)
        say(f"{opened.name}: {', '.join(named.symbol for named, _ in chosen)} of feed {producer.feed}, by {zone.name}")
        past = Past(terminal, zone, asked, producer.patience_seconds)
        days = [day for named, _ in chosen for day in past.days(named, start, min(end, opened.settled_ms))]
        terms = Terms(
            feed=producer.feed,
            zone=zone,
            crossed=CrossedPolicy(producer.crossed),
            called="backfill",
            instruments={named.symbol: _instrument(offered) for named, offered in chosen},
        )
        summary = publish(settings, sorted(days, key=lambda day: (day.symbol, day.day)), terms, asked)
    conclude(settings, summary, run=run)


def _feed(shard: str | None) -> str:
    from infra.settings import load

    return of_shard(load(), shard).producer.feed


def _instrument(offered: Offered) -> Instrument:
    from producers.imports import Instrument
    from producers.terminal import CHART_MODE_LAST
    from schemas.records import ChartMode

    mode = ChartMode.LAST if offered.chart_mode == CHART_MODE_LAST else ChartMode.BID
    return Instrument(offered.digits, offered.point, mode)
