"""One partition's outputs as they are, beside what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from confluent_kafka import Message, TopicPartition

from infra import topics
from infra.kafka_log import read_to_end
from infra.settings import Settings
from infra.topics import Topic
from infra.worlds import World
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import FeedEvent, LiveBars, Progress, SymbolSpec
from tests.acceptance.fire_oracle import BAR, Expected

RECORD: Final = {"key": pl.Binary, "value": pl.Binary, "timestamp": pl.Int64}
_HEADERS: Final = {"offset": pl.Int64, "first_offset": pl.Int64, "last_offset": pl.Int64, "reason": pl.String}
_EXAMPLES: Final = 2


@dataclass(frozen=True)
class Observed:
    """What stands in one partition of each topic the processor writes; ``offset`` is the source's, from the header."""

    clean: pl.DataFrame
    """As `RECORD` has it, in order."""
    rejected: pl.DataFrame
    """With offset and reason."""
    dead: pl.DataFrame
    """With offset."""
    bars: pl.DataFrame
    """As `fire_oracle.BAR` has it, in order."""
    events: list[tuple[int, str, str]]
    specs: list[tuple[int, SymbolSpec]]
    live: dict[str, LiveBars]
    progress: Progress


@dataclass
class Verdict:
    """What was counted and compared; `wrong` names everything that should not be."""

    records: int = 0
    ticks: int = 0
    clean: int = 0
    rejected: int = 0
    repeats: int = 0
    dead: int = 0
    bars: int = 0
    revisions: int = 0
    partial: int = 0
    lost: int = 0
    """Records that should be there and are not, in any of the outputs."""
    doubled: int = 0
    """Records that are there and should not be."""
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Take another partition's in."""
        for name in ("records", "ticks", "clean", "rejected", "repeats", "dead", "bars", "revisions", "partial"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lost += other.lost
        self.doubled += other.doubled
        self.wrong += other.wrong


def read(settings: Settings, codec: Codec, partition: int) -> Observed:
    """All committed outputs of a partition."""

    def records(topic: Topic) -> pl.DataFrame:
        return records_of(_messages(settings, topic, partition))

    def decoded(topic: Topic) -> Iterator[tuple[Message, Any]]:
        for message in _messages(settings, topic, partition):
            yield message, codec.decode(message.value() or b"")

    events = [
        (_number(message, "offset"), event.kind.value, event.symbol or "")
        for message, event in decoded(topics.FEED_EVENTS)
        if isinstance(event, FeedEvent)
    ]
    live = {record.symbol: record for _, record in decoded(topics.BARS_LIVE) if isinstance(record, LiveBars)}
    *_, progress = [record for _, record in decoded(topics.PROGRESS)]
    assert isinstance(progress, Progress)
    return Observed(
        clean=records(topics.TICKS_CLEAN),
        rejected=records(topics.TICKS_REJECTED),
        dead=records(topics.DEAD_LETTERS),
        bars=bars_of(records(topics.BARS), codec),
        events=sorted(events),
        specs=[(_number(message, "offset"), record) for message, record in decoded(topics.SYMBOLS)],
        live=live,
        progress=progress,
    )


def raw(settings: Settings, partition: int) -> pl.DataFrame:
    """``ticks.raw``: `RECORD`, each with its own offset."""
    messages = _messages(settings, topics.TICKS_RAW, partition)
    return _frame(messages).with_columns(offset=pl.Series([m.offset() for m in messages], dtype=pl.Int64))


def records_of(messages: Sequence[Message]) -> pl.DataFrame:
    """`RECORD` and what the headers say."""
    if not any(message.headers() for message in messages[:1]):
        return _frame(messages)
    headers = [dict(message.headers() or []) for message in messages]
    columns = [
        pl.Series(name, [_header(found, name) for found in headers], pl.String).cast(dtype)
        for name, dtype in _HEADERS.items()
    ]
    return _frame(messages).with_columns(columns)


def bars_of(records: pl.DataFrame, codec: Codec) -> pl.DataFrame:
    """The bars of records of the topic ``bars``, as `fire_oracle.BAR` has them; key and time of each are right."""
    decoded = decode_batch(records["value"].to_list(), codec, "Bar")
    assert not decoded.bad
    if not records.height:
        return pl.DataFrame(schema=dict.fromkeys(BAR, pl.Null))
    key = pl.concat_str(["symbol", "timeframe", pl.col("ts_open").cast(pl.String)], separator="|").cast(pl.Binary)
    bars = pl.concat([decoded.frame, records], how="horizontal")
    assert bars.select((key == pl.col("key")).all() & (pl.col("timestamp") == pl.col("ts_close")).all()).item()
    return bars.select(BAR)


def compare(source: pl.DataFrame, expected: Expected, observed: Observed, partition: int) -> Verdict:
    """Count everything, and name every difference."""
    bars = expected.bars
    found = Verdict(
        records=source.height,
        ticks=len(expected.clean) + expected.rejected.height + expected.repeats,
        clean=len(expected.clean),
        rejected=expected.rejected.height,
        repeats=expected.repeats,
        dead=len(expected.dead),
        bars=bars.height,
        revisions=bars.filter(pl.col("revision") > 0).height,
        partial=bars.filter(pl.col("status") == "partial").height,
    )

    def same(what: str, wanted: pl.DataFrame, seen: pl.DataFrame) -> None:
        wanted, seen = _plain(wanted), _plain(seen.select(wanted.columns))
        if wanted.equals(seen, null_equal=True):
            return
        missing, more = (_counted(a).join(_counted(b), on="row", how="anti") for a, b in _both(wanted, seen))
        found.lost += missing.height
        found.doubled += more.height
        order = "" if missing.height or more.height else ", in another order"
        text = f"[{partition}] {what}: {wanted.height} wanted, {seen.height} there{order}"
        for name, rows in (("missing", missing), ("too many", more)):
            text += "".join(f"\n  {name}: {row[:600]}" for row in rows["row"].head(_EXAMPLES).struct[0].to_list())
        found.wrong.append(text)

    def of(offsets: pl.Series | pl.DataFrame) -> pl.DataFrame:
        wanted = offsets.to_frame("offset") if isinstance(offsets, pl.Series) else offsets
        return wanted.join(source, on="offset", how="left", maintain_order="left")

    same("ticks.clean", of(expected.clean).select(*RECORD), observed.clean)
    same("ticks.rejected", of(expected.rejected).select(*RECORD, "offset", "reason"), observed.rejected)
    same("dead.letters", of(expected.dead).select(*RECORD, "offset"), observed.dead)
    same("bars", bars, observed.bars)
    progress = Progress(next_offset=source["offset"][-1] + 1, watermarks=observed.progress.watermarks)
    for what, wanted, seen in (
        ("feed.events", expected.events, observed.events),
        ("symbols", expected.specs, observed.specs),
        ("processors.progress", progress, observed.progress),
        ("watermarks", expected.watermarks, {mark.shard: mark.time for mark in observed.progress.watermarks}),
        *(("bars.live", expected.live.get(name), observed.live.get(name)) for name in expected.live | observed.live),
    ):
        if wanted != seen:
            found.wrong.append(f"[{partition}] {what}\n  wanted: {str(wanted)[:3000]}\n  there:  {str(seen)[:3000]}")
    return found


def _both(a: pl.DataFrame, b: pl.DataFrame) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    return [(a, b), (b, a)]


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Int8, pl.Int32, pl.UInt32).cast(pl.Int64), pl.col(pl.Null).cast(pl.Int64))


def _counted(frame: pl.DataFrame) -> pl.DataFrame:
    """Every row as text, with how often the same came before."""
    text = pl.Series([repr(row) for row in frame.iter_rows()], dtype=pl.String).to_frame("text")
    return text.select(row=pl.struct("text", pl.int_range(pl.len()).over("text").alias("again")))


def _messages(settings: Settings, topic: Topic, partition: int) -> list[Message]:
    place = TopicPartition(World(settings.world).topic(topic.name), partition, 0)
    return [message for batch in read_to_end(settings.kafka, [place]) for message in batch]


def _frame(messages: Sequence[Message]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "key": [message.key() for message in messages],
            "value": [message.value() for message in messages],
            "timestamp": [message.timestamp()[1] for message in messages],
        },
        schema=RECORD,
    )


def _number(message: Message, name: str) -> int:
    return int(_header(dict(message.headers() or []), name) or -1)


def _header(headers: dict[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value.decode() if isinstance(value, bytes) else value
