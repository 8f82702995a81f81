"""What the processor should have made of ``ticks.raw``, recomputed record by record in plain Python."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from infra import topics
from infra.settings import Settings
from infra.topics import Topic
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import ArbitrexError
from schemas.records import Bar, BarStatus, Control, ControlKind, LiveBars, Progress, Tick
from tests.support import read_all

LENGTHS = {"M1": 60_000, "M5": 300_000, "H1": 3_600_000}
"""Timeframes that are compared; all of them are aligned in UTC."""

Plain = tuple[bytes | None, bytes | None, int]
"""Key, value and timestamp of a record."""


@dataclass
class Expected:
    """By partition, in order; bars (with their revisions, in order) and open bars by key."""

    clean: dict[int, list[Plain]] = field(default_factory=lambda: defaultdict(list))
    rejected: dict[int, list[tuple[Plain, str, int]]] = field(default_factory=lambda: defaultdict(list))
    dead: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    bars: dict[str, list[tuple[int, list[float]]]] = field(default_factory=lambda: defaultdict(list))
    open: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(dict))
    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    next_offset: dict[int, int] = field(default_factory=dict)
    repeats: int = 0


def output(settings: Settings, topic: Topic, **overrides: Any) -> list[Message]:
    """All committed records of one of the world's topics."""
    return read_all(settings, World(settings.world).topic(topic.name), **overrides)


def caught_up(settings: Settings, codec: Codec) -> bool:
    """Whether every record of ``ticks.raw`` is covered by a committed transaction."""
    wanted = {m.partition() or 0: (m.offset() or 0) + 1 for m in output(settings, topics.TICKS_RAW)}
    stands = _progress(settings, codec)
    return all(stands.get(partition, 0) >= offset for partition, offset in wanted.items())


def recompute(settings: Settings, codec: Codec) -> Expected:
    """From ``ticks.raw`` alone."""
    expected = Expected()
    partitions: dict[int, list[Message]] = defaultdict(list)
    for message in output(settings, topics.TICKS_RAW):
        partitions[message.partition() or 0].append(message)
    for partition, messages in partitions.items():
        expected.next_offset[partition] = (messages[-1].offset() or 0) + 1
        _recompute(partition, messages, codec, expected)
    return expected


@dataclass
class _Partition:
    """What is known while a partition is gone through."""

    covered: dict[str, int] = field(default_factory=dict)
    corrections: set[tuple[str, int, int]] = field(default_factory=set)
    mark: int = -1
    open: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(dict))


def _recompute(partition: int, messages: list[Message], codec: Codec, expected: Expected) -> None:
    known = _Partition()
    for message in messages:
        plain, offset = _plain(message), message.offset() or 0
        record = _decoded(plain, codec)
        if record is None:
            expected.dead[partition].append(offset)
        elif isinstance(record, Control):
            if record.kind == ControlKind.COVERAGE and record.symbol:
                known.covered[record.symbol] = record.time
            elif record.kind == ControlKind.WATERMARK:
                known.mark = max(known.mark, record.time)
                for symbol, bars in known.open.items():
                    _close(expected, symbol, bars, record.time + 1, known.covered)
        elif _is_repeat(record, expected, known):
            expected.repeats += 1
        else:
            last = expected.last.get(record.symbol, (0, -1))
            expected.last[record.symbol] = max(last, (record.ts_event, record.ordinal))
            reason = "not_positive" if record.bid <= 0 else "crossed" if record.bid > record.ask else None
            if reason:
                expected.rejected[partition].append((plain, reason, offset))
                continue
            expected.clean[partition].append(plain)
            _take(record, max(last[0], known.mark + 1), expected, known)
    expected.open.update(known.open)


def _is_repeat(tick: Tick, expected: Expected, known: _Partition) -> bool:
    if not tick.correction:
        return (tick.ts_event, tick.ordinal) <= expected.last.get(tick.symbol, (0, -1))
    identity = (tick.symbol, tick.ts_event, tick.ordinal)
    repeated = identity in known.corrections
    known.corrections.add(identity)
    return repeated


def _take(tick: Tick, passed: int, expected: Expected, known: _Partition) -> None:
    bars = known.open[tick.symbol]
    _close(expected, tick.symbol, bars, tick.ts_event, known.covered)
    for timeframe, length in LENGTHS.items():
        start = tick.ts_event // length * length
        bar = bars.get(timeframe)
        if bar and bar[0] == start:
            _add(bar, tick)
        elif (bar and bar[0] > start) or start + length <= passed:
            _revise(expected, timeframe, start, tick, known.covered[tick.symbol])
        else:
            bars[timeframe] = _bar(start, tick)


def _close(expected: Expected, symbol: str, bars: dict[str, list[float]], moment: int, covered: dict[str, int]) -> None:
    for timeframe, length in LENGTHS.items():
        if timeframe in bars and bars[timeframe][0] + length <= moment:
            bar = bars.pop(timeframe)
            if bar[0] >= covered[symbol]:
                expected.bars[f"{symbol}|{timeframe}|{bar[0]:.0f}"].append((0, bar))


def _revise(expected: Expected, timeframe: str, start: int, tick: Tick, covered: int) -> None:
    if start < covered:
        return
    revisions = expected.bars[f"{tick.symbol}|{timeframe}|{start}"]
    if revisions:
        revision, before = revisions[-1]
        bar = before.copy()
        _add(bar, tick)
        revisions.append((revision + 1, bar))
    else:
        revisions.append((1, _bar(start, tick)))


def _bar(start: int, tick: Tick) -> list[float]:
    bid, ask, identity = tick.bid, tick.ask, (tick.ts_event, tick.ordinal)
    return [start, bid, bid, bid, bid, ask, ask, ask, ask, 1, *identity, *identity]


def _add(bar: list[float], tick: Tick) -> None:
    bid, ask = tick.bid, tick.ask
    identity: list[float] = [tick.ts_event, tick.ordinal]
    bar[2], bar[3] = max(bar[2], bid), min(bar[3], bid)
    bar[6], bar[7] = max(bar[6], ask), min(bar[7], ask)
    bar[9] += 1
    if identity < bar[10:12]:
        bar[1], bar[5], bar[10:12] = bid, ask, identity
    if identity > bar[12:14]:
        bar[4], bar[8], bar[12:14] = bid, ask, identity


def _plain(message: Message) -> Plain:
    return message.key(), message.value(), message.timestamp()[1]


def _decoded(plain: Plain, codec: Codec) -> Tick | Control | None:
    """The record, if it belongs where it lies."""
    key, value, timestamp = plain
    if value is None:
        return None
    try:
        record = codec.decode(value)
    except ArbitrexError:
        return None
    if isinstance(record, Tick):
        return record if (key, timestamp) == (record.symbol.encode(), record.ts_event) else None
    return record if isinstance(record, Control) else None


def _numbers(bar: Bar) -> list[float]:
    return [
        *(bar.ts_open, bar.open, bar.high, bar.low, bar.close),
        *(bar.ask_open, bar.ask_high, bar.ask_low, bar.ask_close, bar.tick_count),
        *(bar.first_tick_ts, bar.first_tick_ordinal, bar.last_tick_ts, bar.last_tick_ordinal),
    ]


def _progress(settings: Settings, codec: Codec) -> dict[int, int]:
    stands = {}
    for message in output(settings, topics.PROGRESS):
        record = codec.decode(message.value() or b"")
        assert isinstance(record, Progress)
        assert message.key() == b"%d" % (message.partition() or 0)
        stands[message.partition() or 0] = record.next_offset
    return stands


def check(settings: Settings, codec: Codec) -> Expected:
    """Assert that every output is exactly what it should be; what it should be."""
    expected = recompute(settings, codec)
    _check_ticks(settings, expected)
    _check_bars(settings, codec, expected)
    assert _progress(settings, codec) == expected.next_offset
    return expected


def _check_ticks(settings: Settings, expected: Expected) -> None:
    clean: dict[int, list[Plain]] = defaultdict(list)
    for message in output(settings, topics.TICKS_CLEAN):
        assert message.headers() is None
        clean[message.partition() or 0].append(_plain(message))
    assert clean == expected.clean
    rejected: dict[int, list[tuple[Plain, str, int]]] = defaultdict(list)
    for message in output(settings, topics.TICKS_REJECTED):
        headers = _headers(message)
        assert int(headers["partition"]) == message.partition()
        rejected[message.partition() or 0].append((_plain(message), headers["reason"], int(headers["offset"])))
    assert rejected == expected.rejected
    raw = {(m.partition(), m.offset()): _plain(m) for m in output(settings, topics.TICKS_RAW)}
    dead: dict[int, list[int]] = defaultdict(list)
    for message in output(settings, topics.DEAD_LETTERS):
        headers = _headers(message)
        assert headers["topic"] == World(settings.world).topic("ticks.raw")
        assert headers["reason"]
        assert headers["error"]
        offset = int(headers["offset"])
        assert _plain(message) == raw[message.partition(), offset]
        dead[message.partition() or 0].append(offset)
    assert dead == expected.dead


def _check_bars(settings: Settings, codec: Codec, expected: Expected) -> None:
    seen: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    for message in output(settings, topics.BARS):
        bar = codec.decode(message.value() or b"")
        assert isinstance(bar, Bar)
        assert message.key() == bar.key.encode()
        assert message.timestamp()[1] == bar.ts_close
        headers = _headers(message)
        assert int(headers["first_offset"]) <= int(headers["last_offset"]) <= int(headers["offset"])
        if bar.timeframe in LENGTHS:
            seen[bar.key].append((bar.revision, _numbers(bar)))
            assert bar.status == (BarStatus.REVISED if bar.revision else BarStatus.FINAL)
    assert seen == expected.bars
    live = {}
    for message in output(settings, topics.BARS_LIVE):
        record = codec.decode(message.value() or b"")
        assert isinstance(record, LiveBars)
        live[record.symbol] = record
    assert {symbol: (r.last_ts, r.last_ordinal) for symbol, r in live.items()} == expected.last
    for symbol, record in live.items():
        open_bars = {bar.timeframe: _numbers(bar) for bar in record.bars if bar.timeframe in LENGTHS}
        assert open_bars == expected.open[symbol]


def _headers(message: Message) -> dict[str, str]:
    return {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in dict(message.headers() or []).items()
    }
