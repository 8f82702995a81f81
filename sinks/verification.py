"""Whether the lake holds each record of its topics exactly once, up to where it says that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Final

import numpy as np
import polars as pl
from confluent_kafka import Message, TopicPartition
from deltalake import DeltaTable
from numpy.typing import NDArray

from infra import kafka_log
from infra.lake.layout import TABLES, Table
from infra.lake.tables import app_id, open_table, scan
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from sinks.decoding import Places, rows_of
from sinks.lake import LakeSink
from sinks.selection import Selection

_EXAMPLES: Final = 5


@dataclass(slots=True)
class Verdict:
    """One partition: what its topic has from ``first`` up to ``end``, the lake's mark, and what the lake has of it."""

    topic: str
    partition: int
    first: int
    end: int
    records: int = 0
    rows: int = 0
    """Of the lake, those of records included that the topic keeps no longer."""
    passed_over: int = 0
    """Records that the sink was not to keep, or could not."""
    missing: int = 0
    double: int = 0
    strange: int = 0
    """Rows beyond the mark, or where the topic has no record."""
    examples: str = ""

    @property
    def wrong(self) -> bool:
        return bool(self.missing or self.double or self.strange)


Watch = Callable[[str, int, int], None]
"""Told a partition, how many of its offsets were looked at, and of how many."""


def verify(settings: Settings, codec: Codec, stopping: Event, watch: Watch = lambda *_: None) -> Iterator[Verdict]:
    """Each partition of the settings' world that the lake has begun; ends early once ``stopping`` is set.

    Raises BrokerError, StoreError, RegistryError.
    """
    lake = settings.lake
    selection = Selection.of(LakeSink.name, TABLES, lake.topics, lake.symbols)
    for table in selection.tables:
        handle = open_table(settings.lake_uri, lake.storage_options, table)
        if handle is None:
            continue
        for number in kafka_log.extents(settings.kafka, World(settings.world).topic(table.topic.name)):
            if stopping.is_set():
                return
            found = _Partition(settings, table, number, handle, selection).compare(codec, stopping, watch)
            if found.end or found.rows:
                yield found


class _Partition:
    def __init__(self, settings: Settings, table: Table, number: int, handle: DeltaTable, selection: Selection) -> None:
        self._settings = settings
        self._table = table
        self._selection = selection
        self._place = TopicPartition(World(settings.world).topic(table.topic.name), number)
        self._end = handle.transaction_version(app_id(settings.world, table, number)) or 0
        rows = scan(settings.lake_uri, settings.lake.storage_options, table, handle).filter(
            pl.col("world") == settings.world, pl.col("source_partition") == number
        )
        self._kept: NDArray[np.int64] = rows.select("source_offset").collect()["source_offset"].sort().to_numpy()

    def compare(self, codec: Codec, stopping: Event, watch: Watch) -> Verdict:
        topic, number = self._place.topic, self._place.partition
        distinct = np.unique(self._kept)
        verdict = Verdict(topic, number, self._low(), self._end, rows=len(self._kept))
        verdict.double = len(self._kept) - len(distinct)
        matched = np.zeros(len(distinct), np.bool_)
        missing: list[int] = []
        start = TopicPartition(topic, number, verdict.first)
        for found in kafka_log.read_to_end(self._settings.kafka, [start], stopping):
            messages = [message for message in found if (message.offset() or 0) < self._end]
            offsets = np.fromiter((message.offset() for message in messages), np.int64, len(messages))
            there = np.isin(offsets, distinct, assume_unique=True)
            matched[np.searchsorted(distinct, offsets[there])] = True
            verdict.records += len(messages)
            absent = self._wanted([messages[at] for at in np.flatnonzero(~there)], codec)
            verdict.passed_over += int((~there).sum()) - len(absent)
            missing += absent
            if len(messages) < len(found):
                break
            watch(f"{topic}/{number}", int(offsets[-1]) + 1 - verdict.first, self._end - verdict.first)
        strange = distinct[~matched & self._checkable(distinct)]
        verdict.missing, verdict.strange = len(missing), len(strange)
        repeated = self._kept[1:][self._kept[1:] == self._kept[:-1]]
        verdict.examples = "; ".join(
            f"{what}: {', '.join(map(str, list(some)[:_EXAMPLES]))}"
            for what, some in (("missing", missing), ("double", repeated), ("strange", strange))
            if len(some)
        )
        return verdict

    def _wanted(self, messages: list[Message], codec: Codec) -> list[int]:
        """Offsets of those that the sink should have kept."""
        if not messages:
            return []
        rows = self._selection.of_symbols(rows_of(messages, self._table, codec, LakeSink.name, Places.of(messages)))
        return rows["source_offset"].to_list()

    def _checkable(self, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Rows whose record would still be in the topic if it ever was: compaction and retention take some."""
        beyond: NDArray[np.bool_] = offsets >= self._end
        return beyond if self._table.topic.compacted else beyond | (offsets >= self._low())

    def _low(self) -> int:
        return kafka_log.extents(self._settings.kafka, str(self._place.topic))[int(self._place.partition)][0]
