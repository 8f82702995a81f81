"""What the soak's topics hold, against what its brokers ever had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from confluent_kafka import TopicPartition

from infra.kafka_log import extents, read_to_end
from infra.settings import Settings
from infra.topics import TICKS_CLEAN, TICKS_RAW, TICKS_REJECTED, Topic
from infra.worlds import World
from producers.simulated.faults import Faults, Kind
from producers.simulated.history import History
from producers.terminal import TICK_DTYPE, Ticks
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import Control, ControlKind

IDENTITY = ("symbol", "ts_event", "ordinal")
Span = tuple[int, int]


@dataclass(frozen=True)
class Broker:
    """What the simulated broker of one shard had."""

    symbols: Sequence[str]
    faults: Faults
    history: History


@dataclass
class Row:
    """What was found of one shard."""

    symbols: int = 0
    ever: int = 0
    raw: int = 0
    repeats: int = 0
    corrections: int = 0
    gaps: int = 0
    lost: int = 0
    """In gaps."""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Found:
    """What was found in all."""

    rows: dict[str, Row]
    ticks: int = 0
    clean: int = 0
    rejected: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.wrong and not any(row.wrong for row in self.rows.values())


@dataclass
class Log:
    """One partition of a topic: its ticks in order, and its controls."""

    ticks: pl.DataFrame
    gaps: dict[str, list[Span]] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)


def check(settings: Settings, codec: Codec, brokers: Mapping[str, Broker], end: int) -> Iterator[tuple[float, Found]]:
    """Compare partition by partition, and series by series up to ``end`` (UTC ms); each time how much of it is done."""
    found = Found({shard: Row() for shard in brokers})
    places = extents(settings.kafka, World(settings.world).topic(TICKS_RAW.name))
    for done, partition in enumerate(places, 1):
        raw, clean, rejected = (
            _read(settings, codec, topic, partition) for topic in (TICKS_RAW, TICKS_CLEAN, TICKS_REJECTED)
        )
        once = raw.ticks.unique(IDENTITY, keep="first", maintain_order=True)
        found.ticks, found.clean, found.rejected = (
            found.ticks + len(once),
            found.clean + len(clean.ticks),
            found.rejected + len(rejected.ticks),
        )
        found.wrong += [f"partition {partition}: {each}" for each in _processed(raw.ticks, once, clean, rejected)]
        _shards(found.rows, raw, once, brokers, end)
        yield done / len(places), found


def _read(settings: Settings, codec: Codec, topic: Topic, partition: int) -> Log:
    place = TopicPartition(World(settings.world).topic(topic.name), partition, 0)
    frames: list[pl.DataFrame] = []
    log = Log(pl.DataFrame())
    for messages in read_to_end(settings.kafka, [place]):
        decoded = decode_batch([message.value() for message in messages], codec)
        assert not decoded.bad
        frames.append(decoded.frame.select(*IDENTITY, "bid", "ask", "correction"))
        for _, record in decoded.others:
            if isinstance(record, Control) and record.kind == ControlKind.GAP:
                log.gaps.setdefault(record.symbol or "", []).append((record.from_ or 0, record.to or 0))
            elif isinstance(record, Control) and record.kind == ControlKind.COVERAGE:
                log.begins.setdefault(record.symbol or "", record.time)
    empty = decode_batch([], codec).frame.select(*IDENTITY, "bid", "ask", "correction")
    log.ticks = pl.concat([empty, *frames])
    return log


def _processed(raw: pl.DataFrame, once: pl.DataFrame, clean: Log, rejected: Log) -> Iterator[str]:
    """What is wrong with the order of a partition, and with what came of it behind the processor."""
    if len(raw.unique([*IDENTITY, "bid", "ask"])) != len(once):
        yield "a repeat is another tick than the one that it repeats"
    for name, ticks in (("raw", once), ("clean", clean.ticks), ("rejected", rejected.ticks)):
        place = pl.col("ts_event") * 1_000_000 + pl.col("ordinal")
        fell = ticks.filter(~pl.col("correction")).filter((place.diff() <= 0).over("symbol"))
        if len(fell):
            yield f"{len(fell)} ticks out of order in {name}, first {fell.row(0)}"
    both = pl.concat([clean.ticks, rejected.ticks])
    if (doubled := int(both.select(IDENTITY).is_duplicated().sum())) > 0:
        yield f"{doubled} ticks are there twice behind the processor"
    elif not both.sort(IDENTITY).equals(once.sort(IDENTITY)):
        yield f"{len(once):,} ticks in raw are not the {len(both):,} behind the processor"


def _shards(rows: Mapping[str, Row], raw: Log, once: pl.DataFrame, brokers: Mapping[str, Broker], end: int) -> None:
    """Compare the series of a partition with what their brokers ever had."""
    written = dict(raw.ticks.group_by("symbol").len().iter_rows())
    mine = {str(name): ticks for (name,), ticks in once.partition_by("symbol", as_dict=True).items()}
    for shard, broker in brokers.items():
        row = rows[shard]
        for symbol in broker.symbols:
            if symbol not in raw.begins:
                continue  # it is in another partition
            got = mine.get(symbol, once.clear())
            row.symbols += 1
            row.raw += written.get(symbol, 0)
            row.repeats += written.get(symbol, 0) - len(got)
            row.corrections += int(got["correction"].sum())
            begins = raw.begins[symbol]
            ever = np.concatenate([np.empty(0, TICK_DTYPE), *broker.history.ever(symbol, begins, end)])
            gaps = merged([gap for gap in raw.gaps.get(symbol, []) if gap[0] < end])
            told = list(_series(row, got.filter(pl.col("ts_event") < end), ever, gaps, broker.faults))
            row.wrong += [f"{symbol}: {each}" for each in told]


def _series(row: Row, got: pl.DataFrame, ever: Ticks, gaps: Sequence[Span], faults: Faults) -> Iterator[str]:
    """What is wrong with what was published of one series."""
    truth = pl.DataFrame({"ts_event": ever["time_msc"], "bid": ever["bid"], "ask": ever["ask"]})
    missing, made_up = difference(truth, got)
    row.ever += len(truth)
    row.gaps += len(gaps)
    row.lost += len(missing)
    if len(made_up):
        yield f"{len(made_up)} ticks that the broker never had, first {made_up.row(0)}"
    outside = missing.filter(~inside("ts_event", gaps))
    if len(outside):
        yield f"{len(outside)} ticks lost without a gap, first at {outside['ts_event'][0]}"
    filled = got.filter(inside("ts_event", [(since + 1, until) for since, until in gaps]))
    if len(filled):
        yield f"{len(filled)} ticks inside of a gap, first at {filled['ts_event'][0]}"
    times = set(got["ts_event"].to_list())
    for since, until in gaps:
        if not (since in times or since <= int(ever["time_msc"][0])):
            yield f"the gap from {since} does not begin with the last published tick"
        forgotten = [over for _, over, _ in faults.spans(Kind.FORGET, since - 60_000, until) if since <= over <= until]
        lost = max(forgotten, default=None)
        if lost is None or first_from(ever, lost) not in {until, None}:
            yield f"the gap from {since} to {until} does not end with the first tick that was not lost, from {lost} on"


def first_from(ever: Ticks, moment: int) -> int | None:
    """When the first tick at that moment or later came; None when that is still to be compared."""
    place = int(np.searchsorted(ever["time_msc"], moment))
    return int(ever["time_msc"][place]) if place < len(ever) else None


def difference(truth: pl.DataFrame, got: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which ticks of ``truth`` are missing, and which ones of ``got`` are too many, each as often as it is."""
    key = ["ts_event", "bid", "ask"]
    had, has = (frame.group_by(key).len() for frame in (truth, got))
    both = had.join(has, on=key, how="full", coalesce=True, suffix="_got").fill_null(0)
    short = pl.col("len").cast(pl.Int64) - pl.col("len_got").cast(pl.Int64)
    missing, made_up = (
        both.filter(n > 0).select(pl.col(key).repeat_by(n).explode()).sort("ts_event") for n in (short, -short)
    )
    return missing, made_up


def merged(gaps: Sequence[Span]) -> list[Span]:
    """Gaps that overlap as one: after a kill the same one may be told again, grown since."""
    found: list[Span] = []
    for since, until in sorted(gaps):
        if found and since < found[-1][1]:
            found[-1] = (found[-1][0], max(until, found[-1][1]))
        else:
            found.append((since, until))
    return found


def inside(column: str, gaps: Sequence[Span]) -> pl.Expr:
    """Whether a time is in one of the gaps."""
    return pl.any_horizontal(
        pl.lit(value=False), *((pl.col(column) >= since) & (pl.col(column) < until) for since, until in gaps)
    )
