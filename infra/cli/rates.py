"""``arbitrex rates``: the terminal's own bars into the topic ``rates``."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from infra.cli.publishing import REGISTRY_SECONDS, of_shard, say, words
from infra.cli.stopping import INTERRUPTED, stopping
from infra.cli.times import FORMS, span
from schemas.errors import BrokerError, UsageError


def rates(
    *,
    symbols: Annotated[str, typer.Option(help="Names or patterns, such as EURUSD,XAU*.", show_default=False)],
    timeframes: Annotated[str, typer.Option(help="MetaTrader's: M1 … MN1; 1H and 4H are H1 and H4.")] = "H1,H4",
    from_: Annotated[str, typer.Option("--from", help=f"Where to begin: {FORMS}.")] = "30d",
    to: Annotated[str | None, typer.Option(help="Where to end; a minute ago unless said.", show_default=False)] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Processes that ask, each with a terminal.")] = 1,
    shard: Annotated[
        str | None, typer.Option(help="Whose terminal is asked; the first one's unless said.", show_default=False)
    ] = None,
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
) -> None:
    """Publish the terminal's own bars (OHLCV) to the topic rates, and so to CSV and lake.

    The terminal is the producer's (ARBITREX_PRODUCER__SOURCE). Bars that have ended
    are published, those that stand already are not; one that the broker has changed
    since is a revision. More bars than the terminal gives at once are asked for in
    parts.

        arbitrex rates --symbols EURUSD,GBPUSD --timeframes H1,H4 --workers 2

        arbitrex rates --symbols "*" --timeframes M1 --from 2026-01-01 --to 2026-02-01

    Killed or interrupted at any moment, the same command goes on where it stopped.
    """
    from infra import logs, provision
    from infra.cli.progress import RatesProgress
    from infra.market.zones import ServerZone
    from infra.registry.client import connect
    from infra.settings import load
    from infra.supervisor.runfile import attached
    from infra.symbols import Symbols
    from producers.history.choosing import choose
    from producers.history.ingest import Ingest, Series, Terms
    from producers.history.terminals import TerminalProcess

    settings = of_shard(attached(load(**({"world": world} if world else {}))), shard)
    logs.configure(settings.log, "rates")
    wanted = [timeframe(name) for name in words(timeframes)]
    producer = settings.producer
    with stopping() as asked, TerminalProcess(settings, asked) as terminal:
        opened = terminal.open()
        start, end = span(from_, to, opened.now_ms)
        names = Symbols.read(settings.symbols_file).names(producer.feed)
        chosen = choose(opened.symbols, words(symbols), names, producer.feed)
        every = [Series(named.symbol, named.broker_name, name) for named, _ in chosen for name in wanted]
        terms = Terms(
            feed=producer.feed,
            zone=ServerZone.parse(opened.zone),
            start=start,
            end=min(end, opened.settled_ms),
            maxbars=opened.maxbars,
            workers=min(workers, len(every)),
            now=opened.now_ms,
        )
        try:
            provision.apply(settings)
        except BrokerError as error:
            raise BrokerError(
                f"{error}. Start a stack first (arbitrex up), or set ARBITREX_KAFKA__BOOTSTRAP_SERVERS"
            ) from error
        codec = connect(settings, asked, wait_seconds=REGISTRY_SECONDS)
        total = sum(len(list(terms.spans(series.timeframe))) for series in every)
        with RatesProgress(total) as watcher:
            summary = Ingest(settings, codec, terms, watcher, asked).run(every, terminal)
    say(
        f"world {settings.world}: {summary.bars:,} bars of {len(every)} series, {summary.published:,} published "
        f"({summary.revised:,} of them revised by the broker)"
    )
    if not summary.finished:
        say("interrupted; the same command goes on where this one stopped")
        raise typer.Exit(INTERRUPTED)


def timeframe(text: str) -> str:
    """MetaTrader's name of a timeframe, also written the other way round: ``1H``. Raises UsageError."""
    from infra.market.timeframes import TIMEFRAMES

    name = text.upper()
    if match := re.fullmatch(r"(\d+)(MN|[MHDW])", name):
        name = match[2] + match[1]
    if name not in TIMEFRAMES:
        raise UsageError(f"--timeframes: {text} is none of MetaTrader's: {' '.join(TIMEFRAMES)}")
    return name
