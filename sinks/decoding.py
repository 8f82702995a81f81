"""Messages of one topic to rows, and what becomes of those that are none.

Strangers may write into a world's topics. A record that a sink cannot keep (bytes that no schema decodes, a record of
another type, a tombstone, an infinite number, a time outside the calendar) is counted by reason, logged with its
origin and passed over: it stays in its topic, and holding the sink up would help nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl
from confluent_kafka import Message
from numpy.typing import NDArray

from infra import logs, metrics
from infra.lake.layout import Table
from schemas.batch import INDEX, decode_batch
from schemas.codec import Codec

_LOGGED: Final = 5
"""Of the records that a batch cannot keep for one reason, this many are named in the log; all are counted."""

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the messages of one topic stand."""

    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        """Of messages in the order in which they were read."""
        count = len(messages)
        return cls(
            np.fromiter(map(Message.partition, messages), np.int32, count),
            np.fromiter(map(Message.offset, messages), np.int64, count),
        )

    def ends(self) -> Iterator[tuple[int, int]]:
        """Each partition with the offset after its last message."""
        for partition in np.unique(self.partitions).tolist():
            yield partition, int(self.offsets[self.partitions == partition][-1]) + 1


def rows_of(messages: Sequence[Message], table: Table, codec: Codec, sink: str, places: Places) -> pl.DataFrame:
    """Rows of the messages of one topic: record fields, the table's extra columns, source_partition, source_offset.

    Raises RegistryError when the registry is away.
    """
    values = list(map(Message.value, messages))
    decoded = decode_batch(values, codec, table.record)
    skipped: list[tuple[int, str, str]] = [
        (place, "tombstone" if values[place] is None else "undecodable", str(error)) for place, error in decoded.bad
    ]
    skipped += [(place, "other_record", type(record).__name__) for place, record in decoded.others]
    frame = decoded.frame
    if table.stamped:
        stamps = [messages[place].timestamp()[1] for place in frame[INDEX]]
        frame = frame.with_columns(pl.Series("time", stamps, pl.Int64))
    unfit = frame.select(table.unfit().fill_null(value=True)).to_series()
    if unfit.any():
        skipped += [
            (place, "out_of_range", "an infinite number or an impossible time") for place in frame.filter(unfit)[INDEX]
        ]
        frame = frame.filter(~unfit)
    if skipped:
        _report(messages, table, sink, skipped)
    kept = frame[INDEX].to_numpy()
    return frame.drop(INDEX).with_columns(
        *(pl.Series(name, [_header(messages[place], name) for place in kept], pl.String) for name in table.extra),
        pl.Series("source_partition", places.partitions[kept]),
        pl.Series("source_offset", places.offsets[kept]),
    )


def _report(messages: Sequence[Message], table: Table, sink: str, skipped: list[tuple[int, str, str]]) -> None:
    seen: dict[str, int] = {}
    for place, reason, text in skipped:
        seen[reason] = seen.get(reason, 0) + 1
        if seen[reason] <= _LOGGED:
            message = messages[place]
            origin = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            log.warning("record passed over", reason=reason, error=text, **origin)
    for reason, count in seen.items():
        metrics.SINK_SKIPPED.labels(sink, table.name, reason).inc(count)
        if count > _LOGGED:
            log.warning("records passed over", reason=reason, count=count, topic=messages[0].topic())


def _header(message: Message, name: str) -> str | None:
    """A header's text; its last value counts."""
    value = dict(message.headers() or []).get(name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
