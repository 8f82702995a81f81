"""The past: the lake first, then what Kafka has beyond it, merged by key, the last revision winning.

The lake says for each source partition which offset it has not taken in yet; from there Kafka is read. So no record
is missed or given twice, however far the lake is behind, or without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import polars as pl
from confluent_kafka import KafkaException, TopicPartition
from pydantic import SecretStr

from gateway import protocol
from gateway.feed import watermarks
from gateway.market import Market, Row, bar_id, closed_bar, opening
from gateway.problems import BusyError
from infra import kafka as clients
from infra.kafka_log import partition_count, read_to_end
from infra.lake import layout, tables
from infra.lake.layout import Table
from infra.market.counts import is_count
from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.topics import BARS, TICKS_CLEAN, Topic
from infra.worlds import World
from schemas.batch import INDEX, decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError, UsageError

_READERS: Final = 4
_MOST_WAITING: Final = 32
_HOUR: Final = 3_600_000
_WEEK: Final = 168 * _HOUR
_LONGEST_STEP: Final = 4 * _WEEK
_TICKS_SORTED: Final = 50_000
"""Ticks of a symbol beyond the lake among which a correction finds its place."""
_LAKE_ONLY: Final = ("world", "source_partition", "source_offset")

_MOST_FRESH_BARS: Final = 300_000
_LARGEST_OFFSET: Final = 2**62

T = TypeVar("T")
TickId = tuple[int, int]
"""Time (UTC epoch milliseconds) and ordinal: a tick's place among its symbol's."""
Ranges = Mapping[int, range]
"""Offsets by partition."""
Series = tuple[Sequence[str], Sequence[str]]
"""Symbols, and the timeframes of each of them."""


class Stretch(NamedTuple):
    """What was written between two moments: a part of the log of ticks and one of that of bars."""

    ticks: Ranges
    bars: Ranges
    late: Mapping[str, Sequence[Row]] = {}
    """By symbol what `History.late` found in it: without it a tick that was found late may be missed."""


class History:
    """Reads in a bounded pool of threads. Raises BusyError when too many wait, StoreError and BrokerError."""

    def __init__(self, settings: Settings, codec: Codec, market: Market) -> None:
        self._settings = settings
        self._codec = codec
        self._market = market
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="history")
        self._waiting = 0

    async def bars(self, symbol: str, timeframe: str, start: int | None, end: int, limit: int) -> list[Row]:
        """Closed bars that open in [start, end), by time: the first ``limit`` of them, or without start the last."""
        window = self._market.window(symbol, timeframe)
        recent = window.rows()
        if window.since == 0:
            found = [row for row in recent if row["ts_open"] < end and (start is None or row["ts_open"] >= start)]
            return found[:limit] if start is not None else found[-limit:]
        if start is not None:
            return (await self.run(lambda: self._bars(symbol, timeframe, (start, end), window.since, recent)))[:limit]
        newest = min(end, self._market.newest[protocol.LIVE] or self._market.newest[protocol.BARS] or end)
        first = max(newest - 2 * limit * length(timeframe, newest) - _WEEK, 0)
        rows = await self.run(lambda: self._bars(symbol, timeframe, (first, end), window.since, recent))
        if len(rows) < limit and first > 0:
            rows = await self.run(lambda: self._bars(symbol, timeframe, (0, end), window.since, recent))
        return rows[-limit:]

    async def ticks(
        self, symbol: str, after: TickId, end: int, limit: int, stretch: Stretch | None = None
    ) -> list[Row]:
        """The first ``limit`` clean ticks later than ``after`` and before ``end``, by time and ordinal.

        With a stretch: those that it holds.
        """
        return await self.run(lambda: self._ticks(symbol, after, end, limit, stretch))

    @property
    def newest_close(self) -> int:
        """When the newest closed bar closed; 0: there is none."""
        return self._market.newest[protocol.BARS] or 0

    async def late(self, symbols: Sequence[str], start: int, stretch: Stretch) -> dict[str, list[Row]]:
        """Ticks from ``start`` on that the source found late, as far as the lake does not have them in their place."""
        return await self.run(lambda: self._late(symbols, start, stretch))

    async def fresh_bars(self, series: Series, start: int, stretch: Stretch) -> pl.DataFrame:
        """Closed bars from ``start`` on that the lake does not have. Raises UsageError when they are too many."""
        return await self.run(lambda: self._fresh_bars(series, start, stretch))

    async def closed(self, series: Series, span: tuple[int, int], stretch: Stretch, fresh: pl.DataFrame) -> list[Row]:
        """Bars that close within a span, in their last revision of the stretch; ``fresh`` is what `fresh_bars` gave."""
        return await self.run(lambda: self._closed(series, span, stretch, fresh))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, read: Callable[[], T]) -> T:
        if self._waiting >= _MOST_WAITING:
            raise BusyError(f"{_MOST_WAITING} requests for history already wait; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, read)
        finally:
            self._waiting -= 1

    def _bars(self, symbol: str, timeframe: str, span: tuple[int, int], since: int, recent: list[Row]) -> list[Row]:
        start, end = span
        ranges = self._whole(BARS)
        taken = self._taken(layout.BARS, ranges)
        frame = tables.read_bars(*self._lake, symbol, timeframe, start_ms=start, end_ms=end)
        around = tables.DAY_AROUND_MS if is_count(timeframe) else 0
        rows = {bar_id(row): row for row in _plain(frame)}
        if since > taken[clients.partition_for(symbol, len(ranges))]:
            key = f"{symbol}|{timeframe}|".encode()
            beyond = _beyond(ranges, taken)
            for tail in self._tail(layout.BARS, [symbol], start - around, beyond, lambda found: found.startswith(key)):
                rows |= {bar_id(row): row for row in _plain(tail)}
        rows |= {bar_id(row): row for row in recent}
        found = sorted((row for row in rows.values() if start <= row["ts_open"] < end), key=opening)
        return [closed_bar(row) for row in found]

    def _ticks(self, symbol: str, after: TickId, end: int, limit: int, stretch: Stretch | None) -> list[Row]:
        ranges = stretch.ticks if stretch else self._whole(TICKS_CLEAN)
        number = clients.partition_for(symbol, len(ranges))
        mine = ranges[number]
        if not mine:
            return []
        taken = self._taken(layout.TICKS, ranges)  # before the lake is read: what it takes in meanwhile is in both
        found: dict[TickId, Row] = {}
        if taken[number] > mine.start:
            for rows in self._lake_ticks(symbol, after[0], end, mine):
                found |= {place: row for row in rows if (place := place_of(row)) > after}
                if len(found) >= limit:
                    break
        if len(found) < limit:
            enough = limit if stretch else limit + _TICKS_SORTED
            beyond = _beyond(ranges, taken)
            for tail in self._tail(layout.TICKS, [symbol], after[0], beyond, symbol.encode().__eq__):
                found |= {place: row for row in _plain(tail) if after < (place := place_of(row)) < (end, 0)}
                if len(found) >= enough:
                    break
        places = sorted(found)[:limit]
        known_to = places[-1] if len(places) == limit else (end, -1)
        late = stretch.late.get(symbol, ()) if stretch else ()
        if more := {place: row for row in late if after < (place := place_of(row)) <= known_to}:
            found |= more
            places = sorted(found)[:limit]
        return [found[place] for place in places]

    def _late(self, symbols: Sequence[str], start: int, stretch: Stretch) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {symbol: [] for symbol in symbols}
        keys = {symbol.encode() for symbol in symbols}
        beyond = _beyond(stretch.ticks, self._taken(layout.TICKS, stretch.ticks))
        for tail in self._tail(layout.TICKS, symbols, start, beyond, keys.__contains__):
            for row in _plain(tail.filter("correction")):
                found[row["symbol"]].append(row)
        return found

    def _fresh_bars(self, series: Series, start: int, stretch: Stretch) -> pl.DataFrame:
        symbols, timeframes = series
        wanted = {f"{symbol}|{timeframe}".encode() for symbol in symbols for timeframe in timeframes}
        around = tables.DAY_AROUND_MS if any(map(is_count, timeframes)) else 0
        tails, count = [pl.DataFrame(schema=layout.BARS.read_schema)], 0
        beyond = _beyond(stretch.bars, self._taken(layout.BARS, stretch.bars))
        for tail in self._tail(
            layout.BARS, symbols, start - around, beyond, lambda key: key.rpartition(b"|")[0] in wanted
        ):
            tails.append(tail)
            count += tail.height
            if count > _MOST_FRESH_BARS:
                raise UsageError(
                    f"more than {_MOST_FRESH_BARS} bars are not in the lake yet; name fewer symbols or timeframes, "
                    "or a later time"
                )
        return pl.concat(tails)

    def _closed(self, series: Series, span: tuple[int, int], stretch: Stretch, fresh: pl.DataFrame) -> list[Row]:
        mine = pl.any_horizontal(
            (pl.col("source_partition") == number) & tables.within(offsets) for number, offsets in stretch.bars.items()
        )
        frame = tables.read_closed(*self._lake, *series, start_ms=span[0], end_ms=span[1], which=mine)
        last = tables.last_revisions(pl.concat([frame, fresh]).lazy())
        asked = pl.col("ts_close").is_between(*span, closed="left")
        return [closed_bar(row) for row in _plain(last.filter(asked).collect())]

    def _lake_ticks(self, symbol: str, start: int, end: int, offsets: range) -> Iterator[list[Row]]:
        """The lake's ticks in steps of time that grow; where it has none, there is no step."""
        newest = self._market.ticks.get(symbol)
        end = min(end, newest["ts_event"] + 1) if newest else end
        step = _HOUR
        while (begin := tables.next_tick(*self._lake, symbol, start_ms=start, end_ms=end)) is not None:
            start = min(end, begin + step)
            frame = tables.read_ticks(*self._lake, symbol, start_ms=begin, end_ms=start, offsets=offsets)
            yield _plain(frame)
            step = min(step * 4, _LONGEST_STEP)

    @property
    def _lake(self) -> tuple[str, dict[str, SecretStr], str]:
        """The lake's address and options, and the world."""
        return self._settings.lake_uri, self._settings.lake.storage_options, self._settings.world

    def _taken(self, table: Table, ranges: Ranges) -> dict[int, int]:
        """The first offset of each partition that the lake does not have."""
        ends = tables.ends(*self._lake, len(ranges), only=[table])[self._name(table.topic)]
        return dict.fromkeys(ranges, 0) | ends

    def _tail(
        self, table: Table, symbols: Sequence[str], start: int, ranges: Ranges, wanted: Callable[[bytes], bool]
    ) -> Iterator[pl.DataFrame]:
        """Of the symbols' partitions the records of some offsets, from time ``start`` on, as rows of the lake."""
        name = self._name(table.topic)
        starts = []
        for number in {clients.partition_for(symbol, len(ranges)) for symbol in symbols}:
            mine = ranges[number]
            offset = self._offset(name, number, start, mine.start) if mine else None
            if offset is not None and offset < mine.stop:
                starts.append(TopicPartition(name, number, offset))
        unread = {each.partition for each in starts}
        for messages in read_to_end(self._settings.kafka, starts):
            places = [(message, message.partition() or 0, message.offset() or 0) for message in messages]
            kept = [each for each in places if each[2] < ranges[each[1]].stop and wanted(each[0].key() or b"")]
            if kept:
                found = decode_batch([message.value() for message, _, _ in kept], self._codec, table.record).frame
                which = found.drop_in_place(INDEX).to_list()
                yield found.with_columns(
                    world=pl.lit(self._settings.world),
                    source_partition=pl.Series([kept[place][1] for place in which], dtype=pl.Int32),
                    source_offset=pl.Series([kept[place][2] for place in which], dtype=pl.Int64),
                ).select(pl.col(column).cast(kind) for column, kind in table.read_schema.items())
            unread -= {number for _, number, offset in places if offset >= ranges[number].stop - 1}
            if not unread:
                return

    def _offset(self, topic: str, partition: int, start: int, taken: int) -> int | None:
        """Where the tail begins; None when there is nothing."""
        consumer = clients.consumer(self._settings.kafka, group="arbitrex.reader")
        try:
            low, high = watermarks(consumer, topic, partition)
            found = consumer.offsets_for_times([TopicPartition(topic, partition, max(start, 0))], timeout=10.0)[0]
        except KafkaException as error:
            raise BrokerError(f"Kafka does not say where {topic} stood then: {error.args[0].str()}") from error
        finally:
            consumer.close()
        if found.offset < 0 or max(found.offset, taken) >= high:
            return None
        return max(found.offset, taken, low)

    def _name(self, topic: Topic) -> str:
        return World(self._settings.world).topic(topic.name)

    def _whole(self, topic: Topic) -> Ranges:
        count = partition_count(self._settings.kafka, self._name(topic))
        return dict.fromkeys(range(count), range(_LARGEST_OFFSET))


def _beyond(ranges: Ranges, taken: Mapping[int, int]) -> Ranges:
    """Of the offsets those that the lake does not have."""
    return {number: range(max(each.start, taken[number]), each.stop) for number, each in ranges.items()}


def place_of(row: Row) -> TickId:
    """A tick's place among its symbol's."""
    return row["ts_event"], row["ordinal"]


def length(timeframe: str, moment: int) -> int:
    """Milliseconds from opening to close of the bar around a moment, on a clock that shows UTC; 0: nobody knows."""
    if is_count(timeframe):
        return 0
    opens, closes = bounds(timeframe, np.array([moment], np.int64), ServerZone.parse("UTC"))
    return int(closes[0] - opens[0])


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.drop(_LAKE_ONLY).to_dicts()
