"""``arbitrex feed``: how the feeds stand, and what their ledger tells."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.series import World, iso, length, series_log, settings_of
from infra.cli.stack import Json, Yes
from infra.cli.times import FORMS, span
from schemas.errors import BrokerError, UsageError
from schemas.records import Control, ControlKind, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.feed_log import FeedLog, ShardStanding
    from infra.settings import Settings
    from schemas.records import FeedEvent

app = typer.Typer(help="How the feeds stand, and what their ledger tells.", no_args_is_help=True)

From = Annotated[str, typer.Option("--from", help=f"The beginning: {FORMS}.")]
To = Annotated[str | None, typer.Option("--to", help="The end; now unless said.", show_default=False)]
Symbol = Annotated[str | None, typer.Option(help="One symbol.", show_default=False)]

_STALE_MS: Final = 60_000
_STALE: Final = 3
"""The exit code when a shard is silent."""
_FLUSH_SECONDS: Final = 30.0


@app.command()
def status(*, world: World = None, as_json: Json = False) -> None:
    """Show each shard: its symbols, how far it has published, its connection.

    Exit code 3 when one has published no watermark for a minute, 0 when all have.
    """
    settings = settings_of(world)
    now = _now()
    shards = _log(settings).shards(now)
    stale = [shard for shard in shards if not shard.retired and _silent(shard, now)]
    if as_json:
        typer.echo(json.dumps([_plain(shard) for shard in shards]))
    else:
        _table(shards, now, settings.world)
    raise typer.Exit(_STALE if stale else 0)


@app.command()
def events(
    *, from_: From = "1d", to: To = None, symbol: Symbol = None, world: World = None, as_json: Json = False
) -> None:
    """Tell the story: connections, gaps, clocks, corrections, specs that changed.

    arbitrex feed events --from "last 2 h" --symbol EURUSD
    """
    _show(_events(from_, to, symbol, world, None), as_json=as_json)


@app.command()
def gaps(
    *, from_: From = "7d", to: To = None, symbol: Symbol = None, world: World = None, as_json: Json = False
) -> None:
    """List what is lost for good: from when to when, of which symbol. Exit code 3 when there is any."""
    found = _events(from_, to, symbol, world, {EventKind.GAP, EventKind.RETENTION_LOSS})
    _show(found, as_json=as_json)
    raise typer.Exit(_STALE if found else 0)


@app.command()
def retire(
    shard: Annotated[str, typer.Argument(help="FEED/SHARD, as arbitrex feed status shows it.", show_default=False)],
    *,
    world: World = None,
    yes: Yes = False,
) -> None:
    """Say that a shard is gone for good, so that bars do not wait for it any more.

    Its open bars close. It must have been stopped; started again, it goes on where it was.
    """
    settings = settings_of(world)
    log, now = _log(settings), _now()
    known = {f"{each.feed}/{each.shard}": each for each in log.shards(now)}
    if shard not in known:
        raise UsageError(
            f"there is no shard {shard} in world {settings.world}: choose from {', '.join(known) or 'none'}"
        )
    if not _silent(known[shard], now):
        raise UsageError(f"{shard} has published a moment ago: stop its producer, and try again in a minute")
    symbols = log.symbols_of(known[shard].feed, known[shard].shard)
    if not yes:
        typer.confirm(f"Close the open bars of {', '.join(symbols)}, and wait for {shard} no more?", abort=True)
    _publish(settings, known[shard], symbols, now)
    typer.echo(f"{shard} is retired")


@app.command("spread")
def spread_(
    shards: Annotated[str, typer.Argument(help="The feed's shards, as in london,tokyo.", show_default=False)],
    *,
    feed: Annotated[str | None, typer.Option(help="The feed.", show_default="ARBITREX_PRODUCER__FEED")] = None,
    from_: From = "1d",
    world: World = None,
) -> None:
    """Spread a feed's symbols over shards by load, as lines for the shards file.

    The load is what polling each symbol costs a terminal, by the ticks that it had since --from. Symbols stay with
    their shards as far as that is even, so that running it again moves nothing.

    arbitrex feed spread london,tokyo --from 1d
    """
    from infra.spreading import cost, spread

    names = list(dict.fromkeys(name for name in shards.replace(",", " ").split()))
    settings, now = settings_of(world), _now()
    start, end = span(from_, None, now)
    log, of_feed = _log(settings), feed or settings.producer.feed
    specs = {spec.symbol: spec for spec in log.specs(of_feed)}
    if not specs or not names:
        raise UsageError(
            f"feed {of_feed} has no symbols in world {settings.world}: run its producer for a while with all of them "
            "in one shard, then spread them"
        )
    ticks, seconds = log.counts(start), max((end - start) / 1_000, 1.0)
    costs = {symbol: cost(ticks[symbol] / seconds, settings.producer.poll_ms / 1_000) for symbol in specs}
    found = spread(costs, names, {symbol: spec.shard for symbol, spec in specs.items()})
    for name in names:
        mine = [symbol for symbol in found if found[symbol] == name]
        typer.echo(f"# {len(mine)} symbols, {sum(costs[symbol] for symbol in mine):.2f} s of each poll")
        typer.echo(f"{name}: {json.dumps({'symbols': [specs[symbol].broker_name for symbol in mine]})}")


def _publish(settings: Settings, standing: ShardStanding, symbols: Sequence[str], now: int) -> None:
    from infra.registry.client import registry
    from producers.publisher import Publisher
    from schemas.codec import Codec

    codec = Codec(registry(settings.registry))
    publisher = Publisher(settings, codec, threading.Event(), feed=standing.feed, shard=standing.shard)
    publisher.watermark(Control(kind=ControlKind.RETIRED, feed=standing.feed, shard=standing.shard, time=now), symbols)
    if not publisher.flush(_FLUSH_SECONDS):
        raise BrokerError(f"Kafka at {settings.kafka.bootstrap_servers} does not take it; try again")


def _log(settings: Settings) -> FeedLog:
    from infra.feed_log import FeedLog
    from infra.registry.client import registry
    from schemas.codec import Codec

    series_log(settings)  # says when there is no such world
    return FeedLog(settings, Codec(registry(settings.registry)))


def _events(
    from_: str, to: str | None, symbol: str | None, world: str | None, kinds: set[EventKind] | None
) -> list[FeedEvent]:
    start, end = span(from_, to, _now())
    found = _log(settings_of(world)).events(start, end)
    return [e for e in found if symbol in {None, e.symbol} and (kinds is None or e.kind in kinds)]


def _show(found: Sequence[FeedEvent], *, as_json: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if as_json:
        for event in found:
            typer.echo(json.dumps(asdict(event) | {"time": iso(event.time)}))
        return
    table = Table("time", "what", "feed", "symbol", "from", "to", "", box=SIMPLE_HEAD)
    for event in found:
        bounds = ["" if ms is None else iso(ms) for ms in (event.from_, event.to)]
        table.add_row(
            iso(event.time), str(event.kind), f"{event.feed}/{event.shard}", event.symbol or "", *bounds, event.text
        )
    Console().print(table if table.row_count else "nothing")


def _table(shards: Sequence[ShardStanding], now: int, world: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("shard", "symbols", "published up to", "newest tick", "connection", box=SIMPLE_HEAD)
    for shard in shards:
        link = "" if shard.link is None else f"{shard.link.kind} {iso(shard.link.time)} {shard.link.text}"
        reached = "retired" if shard.retired else _ago(shard.watermark, now)
        names = f"{len(shard.symbols)}: {', '.join(shard.symbols[:4])}{', …' if len(shard.symbols) > 4 else ''}"  # noqa: PLR2004
        table.add_row(f"{shard.feed}/{shard.shard}", names, reached, _ago(shard.newest, now), link)
    Console().print(table if table.row_count else f"no shard has written to world {world}")


def _plain(shard: ShardStanding) -> dict[str, Any]:
    return asdict(shard) | {"link": None if shard.link is None else str(shard.link.kind)}


def _silent(shard: ShardStanding, now: int) -> bool:
    return shard.watermark is None or now - shard.watermark > _STALE_MS


def _ago(moment: int | None, now: int) -> str:
    return "not of late" if moment is None else f"{length(max(now - moment, 0) // 1_000 * 1_000)} ago"


def _now() -> int:
    return time.time_ns() // 1_000_000
