"""An import from paths to a finished world: what is there already, what is to be published, who owns what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from threading import Event
from typing import Final

from infra.kafka_log import beginnings, read_to_end
from infra.market.calendar import Calendar
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.symbols import Symbols
from infra.topics import FEED_EVENTS
from infra.worlds import World
from producers.cursor import Cursor
from producers.files import days as tick_days
from producers.files.days import DAY_MS, TickDay
from producers.importer import Importer, Series, Summary, Watcher, beginning, misplaced, shard
from producers.naming import refuse_foreign
from producers.publisher import Publisher
from producers.restore import recall, restore, server_time, utc
from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.records import ChartMode, CrossedPolicy, EventKind, FeedEvent, SymbolSpec

_LEAST_DIGITS: Final = {"JPY": 3, "XAU": 2, "XAG": 3, "BTC": 2}
_USUAL_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a broker says of a symbol."""

    digits: int
    point: float
    chart_mode: ChartMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the files are to be understood."""

    feed: str
    zone: ServerZone
    calendar: Calendar | None = None
    """None: each symbol's own, by the symbols file or as is usual."""
    crossed: CrossedPolicy = CrossedPolicy.REJECT
    digits: int | None = None
    """None: as many as the first day's prices show, and no fewer than usual for the symbol."""
    speed: float | None = None
    called: str = "import"
    """What the ledger says this is."""
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    """What is known of symbols beside their prices."""


def publish(
    settings: Settings, codec: Codec, days: Sequence[TickDay], terms: Terms, *, watcher: Watcher, stopping: Event
) -> Summary:
    """Publish ``days``, by symbol and then by day, into the settings' world, whose topics are there.

    Raises UsageError when the world holds something that they do not go with, SourceError for a source that cannot be
    read, BrokerError when Kafka refuses.
    """
    by_symbol = {symbol: list(group) for symbol, group in groupby(days, key=lambda day: day.symbol)}
    refuse_foreign(settings, codec, by_symbol, terms.feed, "--symbol {name}, or the symbols file; --into")
    symbols = Symbols.read(settings.symbols_file)
    cursors = recall(settings, codec, terms.feed, "", restore(settings, codec, terms.feed).of(by_symbol)).cursors
    known = _days(settings, codec, terms)
    series = []
    for symbol, mine in by_symbol.items():
        _refuse_other_zone(settings, symbol, known[symbol], terms.zone)
        cursor = cursors.get(symbol)
        if late := misplaced(mine, cursor, known[symbol], terms.zone):
            raise UsageError(
                f"{late[0].path}: world {settings.world} already holds later ticks of {symbol}, and a log cannot be "
                "written backwards; import all days at once, or give another world with --into"
            )
        series.append(_series(mine, cursor, terms, symbols))
    publisher = Publisher(settings, codec, stopping, feed=terms.feed, shard="import")
    try:
        return Importer(publisher, stopping, watcher, speed=terms.speed, called=terms.called).run(series)
    finally:
        publisher.close()


def _series(days: Sequence[TickDay], cursor: Cursor | None, terms: Terms, symbols: Symbols) -> Series:
    symbol = days[0].symbol
    calendar = terms.calendar or symbols.calendar(symbol, years_of(days))
    instrument = terms.instruments.get(symbol) or _instrument(days[0], terms.digits)
    return Series(
        days,
        terms.zone,
        cursor if cursor is not None else beginning(days[0], terms.zone),
        SymbolSpec(
            symbol=symbol,
            feed=terms.feed,
            shard=shard(symbol, terms.called),
            broker_name=days[0].broker_name,
            digits=instrument.digits,
            point=instrument.point,
            chart_mode=instrument.chart_mode,
            zone=terms.zone.name,
            crossed=terms.crossed,
            calendar=calendar.to_json(),
        ),
        calendar,
    )


def years_of(days: Sequence[TickDay]) -> tuple[int, int]:
    """The first and the last year of some days."""
    years = [day.day.year for day in days]
    return min(years), max(years)


def _instrument(day: TickDay, digits: int | None) -> Instrument:
    """What the prices of a day show; ``digits``: where they are known."""
    if digits is None:
        ticks = day.load().ticks
        usual = next((places for part, places in _LEAST_DIGITS.items() if part in day.symbol), _USUAL_DIGITS)
        digits = max(usual, tick_days.digits(ticks["bid"]), tick_days.digits(ticks["ask"]))
    return Instrument(digits, round(10.0**-digits, digits), ChartMode.BID)


def _refuse_other_zone(settings: Settings, symbol: str, known: Iterable[int], zone: ServerZone) -> None:
    """Raises UsageError when a day that the world has of ``symbol`` did not begin at a midnight of ``zone``."""
    for began in sorted(known):
        midnight = server_time(began, zone) // DAY_MS * DAY_MS
        if utc(midnight, zone) != began:
            when = datetime.fromtimestamp(began / 1_000, UTC)
            raise UsageError(
                f"world {settings.world} has a day of {symbol} that began at {when:%Y-%m-%dT%H:%MZ}, no midnight in "
                f"{zone.name}: it was imported with another --zone; give that one, or another world with --into"
            )


def _days(settings: Settings, codec: Codec, terms: Terms) -> Mapping[str, set[int]]:
    """The first moments of the days that earlier imports published, by symbol: from the ledger."""
    topic = World(settings.world).topic(FEED_EVENTS.name)
    starts = beginnings(settings.kafka, topic)
    days: dict[str, set[int]] = defaultdict(set)
    for messages in read_to_end(settings.kafka, starts):
        for message in messages:
            event = codec.decode(message.value() or b"")
            if (
                isinstance(event, FeedEvent)
                and event.kind == EventKind.HISTORY
                and event.feed == terms.feed
                and event.symbol is not None
                and event.shard == shard(event.symbol, terms.called)
                and event.from_ is not None
            ):
                days[event.symbol].add(event.from_)
    return days
