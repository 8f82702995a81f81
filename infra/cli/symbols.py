"""``arbitrex symbols``: a broker's symbols, what they are called here, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.cli.publishing import of_shard, words
from infra.cli.stopping import stopping

if TYPE_CHECKING:
    from infra.mapping import Named
    from infra.symbols import Symbols
    from producers.history.terminals import Offered


def symbols(
    patterns: Annotated[
        str, typer.Argument(help="Names or patterns, such as EURUSD,XAU*, of the broker's or canonical.")
    ] = "*",
    *,
    shard: Annotated[
        str | None, typer.Option(help="Whose terminal is asked; the first one's unless said.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object a line.")] = False,
) -> None:
    """List the broker's symbols, what they are called here, and by which rule.

    The terminal is the producer's (ARBITREX_PRODUCER__SOURCE). Names are rules of the
    symbols file (ARBITREX_SYMBOLS_FILE), the first that fits:

        feeds:
          icm: {GOLD: XAUUSD, "*.r": "*"}

    Two that would be called the same stop the producer; they are listed, and the exit
    code is 1.

        arbitrex symbols "XAU*,GOLD"
    """
    from infra.mapping import collisions
    from infra.settings import load
    from infra.symbols import Symbols
    from producers.history.choosing import find
    from producers.history.terminals import TerminalProcess

    settings = of_shard(load(), shard)
    rules = Symbols.read(settings.symbols_file)
    feed, polled = settings.producer.feed, settings.producer.symbols
    with stopping() as asked, TerminalProcess(settings, asked) as terminal:
        offered = terminal.open().symbols
    found = find(offered, words(patterns), rules.names(feed), feed)
    taken = {named.broker_name for named, _ in find(offered, polled or ("*",), rules.names(feed), feed)}
    twice = collisions(named for named, _ in found if named.broker_name in taken)
    if as_json:
        for named, each in found:
            row = _row(named, each, rules) | {"polled": named.broker_name in taken, "collides": named.symbol in twice}
            typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        _show(found, rules, taken, twice)
    if twice:
        raise typer.Exit(1)


def _row(named: Named, offered: Offered, rules: Symbols) -> dict[str, object]:
    from producers.terminal import CHART_MODE_LAST

    pattern = rules.pattern(named.symbol)
    return {
        "broker_name": named.broker_name,
        "symbol": named.symbol,
        "rule": named.rule,
        "digits": offered.digits,
        "price": "last" if offered.chart_mode == CHART_MODE_LAST else "bid",
        "calendar": pattern,
        "description": offered.description,
    }


def _show(found: list[tuple[Named, Offered]], rules: Symbols, taken: set[str], twice: dict[str, list[str]]) -> None:
    titles = ("broker's name", "here", "by rule", "digits", "price", "calendar", "polled")
    rows = [
        (
            named.broker_name,
            named.symbol + ("  (twice)" if named.symbol in twice else ""),
            named.rule or "keeps its name",
            str(each.digits),
            str((row := _row(named, each, rules))["price"]),
            str(row["calendar"] or "the usual"),
            "yes" if named.broker_name in taken else "no",
        )
        for named, each in found
    ]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, no_wrap=True, min_width=max(len(row[place]) for row in [titles, *rows]))
    table.add_column("", no_wrap=True, style="dim")
    for row_, (_, each) in zip(rows, found, strict=True):
        table.add_row(*map(escape, row_), escape(each.description))
    Console(soft_wrap=True).print(table)
    for symbol, names in twice.items():
        Console(stderr=True).print(
            f"{' and '.join(names)} would all be called {symbol}: leave one out of ARBITREX_PRODUCER__SYMBOLS, or "
            "give it a name of its own in the symbols file",
            style="red",
            soft_wrap=True,
            markup=False,
        )
