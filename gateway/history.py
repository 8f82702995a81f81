"""The past: the lake first, then what Kafka has beyond it, merged by key, the last revision winning.

The lake says for each source partition which offset it has not taken in yet; from there Kafka is read. So no record
is missed or given twice, however far the lake is behind, or without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np
import polars as pl
from confluent_kafka import KafkaException, TopicPartition

from gateway import protocol
from gateway.feed import watermarks
from gateway.market import Market, Row, bar_id, closed_bar, opening
from gateway.problems import BusyError
from infra import kafka as clients
from infra.kafka_log import partition_count, read_to_end
from infra.lake import tables
from infra.market.counts import is_count
from infra.market.timeframes import bounds
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.topics import BARS, TICKS_CLEAN, Topic
from infra.worlds import World
from schemas.batch import INDEX, decode_batch
from schemas.codec import Codec
from schemas.errors import BrokerError

_READERS: Final = 4
_MOST_WAITING: Final = 32
_HOUR: Final = 3_600_000
_WEEK: Final = 168 * _HOUR
_LONGEST_STEP: Final = 4 * _WEEK
_TICKS_SORTED: Final = 50_000
"""Ticks of a symbol beyond the lake among which a correction finds its place."""
_LAKE_ONLY: Final = ("world", "source_partition", "source_offset")

T = TypeVar("T")
TickId = tuple[int, int]
"""Time (UTC epoch milliseconds) and ordinal: a tick's place among its symbol's."""


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

    async def ticks(self, symbol: str, after: TickId, end: int, limit: int) -> list[Row]:
        """The first ``limit`` clean ticks later than ``after`` and before ``end``, by time and ordinal."""
        return await self.run(lambda: self._ticks(symbol, after, end, limit))

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
        taken = self._lake_end(BARS, symbol)
        lake = self._settings.lake
        frame = tables.read_bars(
            self._settings.lake_uri, lake.storage_options, self._settings.world, symbol, timeframe,
            start_ms=start, end_ms=end,
        )  # fmt: skip
        around = tables.DAY_AROUND_MS if is_count(timeframe) else 0
        rows = {bar_id(row): row for row in _plain(frame)}
        if since > taken:
            key = f"{symbol}|{timeframe}|".encode()
            for tail in self._tail(BARS, symbol, start - around, taken, lambda found: found.startswith(key)):
                rows |= {bar_id(row): row for row in tail}
        rows |= {bar_id(row): row for row in recent}
        found = sorted((row for row in rows.values() if start <= row["ts_open"] < end), key=opening)
        return [closed_bar(row) for row in found]

    def _ticks(self, symbol: str, after: TickId, end: int, limit: int) -> list[Row]:
        taken = self._lake_end(TICKS_CLEAN, symbol)
        found: dict[TickId, Row] = {}
        for rows in self._lake_ticks(symbol, after[0], end):
            found |= {place: row for row in rows if (place := place_of(row)) > after}
            if len(found) >= limit:
                break
        if len(found) < limit:
            key = symbol.encode()
            for rows in self._tail(TICKS_CLEAN, symbol, after[0], taken, key.__eq__):
                found |= {place: row for row in rows if after < (place := place_of(row)) < (end, 0)}
                if len(found) >= limit + _TICKS_SORTED:
                    break
        return [found[place] for place in sorted(found)[:limit]]

    def _lake_ticks(self, symbol: str, start: int, end: int) -> Iterator[list[Row]]:
        """The lake's ticks in steps of time that grow while there is little in them."""
        newest = self._market.ticks.get(symbol)
        end = min(end, newest["ts_event"] + 1) if newest else end
        step = _HOUR
        while start < end:
            stop = min(end, start + step)
            frame = tables.read_ticks(
                self._settings.lake_uri, self._settings.lake.storage_options, self._settings.world, symbol,
                start_ms=start, end_ms=stop,
            )  # fmt: skip
            yield _plain(frame)
            start, step = stop, min(step * 4, _LONGEST_STEP)

    def _lake_end(self, topic: Topic, symbol: str) -> int:
        """The first offset of the symbol's partition that the lake does not have."""
        name, partition, partitions = self._place(topic, symbol)
        lake = self._settings.lake
        ends = tables.ends(self._settings.lake_uri, lake.storage_options, self._settings.world, partitions)
        return ends.get(name, {}).get(partition, 0)

    def _tail(
        self, topic: Topic, symbol: str, start: int, taken: int, wanted: Callable[[bytes], bool]
    ) -> Iterator[list[Row]]:
        """Rows of a symbol's partition from offset ``taken``, or from time ``start`` if that is later."""
        name, partition, _ = self._place(topic, symbol)
        offset = self._offset(name, partition, start, taken)
        if offset is None:
            return
        for messages in read_to_end(self._settings.kafka, [TopicPartition(name, partition, offset)]):
            values = [message.value() for message in messages if wanted(message.key() or b"")]
            if values:
                yield decode_batch(values, self._codec, topic.records[0]).frame.drop(INDEX).to_dicts()

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

    def _place(self, topic: Topic, symbol: str) -> tuple[str, int, int]:
        name = World(self._settings.world).topic(topic.name)
        partitions = partition_count(self._settings.kafka, name)
        return name, clients.partition_for(symbol, partitions), partitions


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
