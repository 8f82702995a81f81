"""The step once more, one record at a time, written from the design and sharing nothing with the core but its types
and the hash of the rules. Slow and plain on purpose."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from processors.core.terms import terms_of
from schemas.records import (
    Bar,
    BarStatus,
    Control,
    CountState,
    Gap,
    LiveBars,
    OffsetRange,
    SymbolSpec,
    Tick,
    TickId,
    TimeframeStart,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
DAY = 86_400_000
LENGTHS = {"M1": 60_000, "M5": 300_000, "M15": 900_000, "M30": 1_800_000, "H1": 3_600_000, "H4": 14_400_000}


def shown(ms: int, zone: str) -> datetime:
    """The server's clock, naive."""
    moment = EPOCH + timedelta(milliseconds=ms)
    if zone == "New_York+7":
        return moment.astimezone(NEW_YORK).replace(tzinfo=None) + timedelta(hours=7)
    return moment.replace(tzinfo=None) + timedelta(hours=int(zone.removeprefix("UTC") or 0))


def moment(reading: datetime, zone: str) -> int:
    if zone == "New_York+7":
        utc = (reading - timedelta(hours=7)).replace(tzinfo=NEW_YORK).astimezone(UTC)
    else:
        utc = (reading - timedelta(hours=int(zone.removeprefix("UTC") or 0))).replace(tzinfo=UTC)
    return (utc - EPOCH) // timedelta(milliseconds=1)


def span(timeframe: str, ms: int, zone: str) -> tuple[int, int]:
    if timeframe in LENGTHS and timeframe != "H4":
        start = ms // LENGTHS[timeframe] * LENGTHS[timeframe]
        return start, start + LENGTHS[timeframe]
    now = shown(ms, zone)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if timeframe == "H4":
        first = midnight + timedelta(hours=now.hour // 4 * 4)
        last = first + timedelta(hours=4)
    elif timeframe == "D1":
        first, last = midnight, midnight + timedelta(days=1)
    elif timeframe == "W1":
        first = midnight - timedelta(days=(midnight.weekday() + 1) % 7)
        last = first + timedelta(days=7)
    else:
        first = midnight.replace(day=1)
        last = (first + timedelta(days=31)).replace(day=1)
    return moment(first, zone), moment(last, zone)


def closed(spec: SymbolSpec, ms: int) -> str:
    """The three calendars the tests use: FX with one holiday, metals, always open."""
    local = (EPOCH + timedelta(milliseconds=ms)).astimezone(NEW_YORK).replace(tzinfo=None)
    day, time = local.strftime("%a"), local.hour * 60 + local.minute
    if spec.symbol == "BTCUSD":
        return ""
    if day == "Sat" or (day == "Fri" and time >= 17 * 60):
        return "market_closed"
    if spec.symbol == "XAUUSD":
        shut = (day == "Sun" and time < 18 * 60) or 17 * 60 <= time < 18 * 60
        return "market_closed" if shut else ""
    if day == "Sun" and time < 17 * 60:
        return "market_closed"
    return "holiday" if spec.calendar and (local.month, local.day) == (3, 10) else ""


@dataclass
class Row:
    spec: SymbolSpec | None = None
    feed: str = ""
    last: tuple[int, int] = (0, -1)
    future: tuple[int, int] | None = None
    coverage: int | None = None
    gaps: set[tuple[int, int]] = field(default_factory=set)
    zone_from: int | None = None
    published_from: int = 0
    lost: int | None = None
    past: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    corrections: set[tuple[int, int]] = field(default_factory=set)
    bars: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, CountState] = field(default_factory=dict)
    rules_from: int | None = None
    changed: int = -1


class Reference:
    def __init__(self, timeframes: tuple[str, ...], tolerance: int) -> None:
        self.timeframes, self.tolerance = timeframes, tolerance
        self.rows: dict[str, Row] = {}
        self.marks: dict[str, int] = {}
        self.clean: list[int] = []
        self.rejected: list[tuple[int, str]] = []
        self.repeats = 0
        self.dead: list[int] = []
        self.closed: list[tuple[int, Bar, int, int]] = []
        self.specs: list[tuple[int, SymbolSpec]] = []
        self.events: list[tuple[int, str, str | None]] = []

    def feed(self, at: int, record: Tick | Control, key: bytes, stamp: int) -> None:
        if isinstance(record, Tick):
            row = self.rows.get(record.symbol, Row(feed=record.feed))
            foreign = row.spec is not None and row.spec.feed != record.feed
            if key != record.symbol.encode() or stamp != record.ts_event or record.ordinal < 0 or foreign:
                self.dead.append(at)
            else:
                self.tick(at, record)
            return
        shard = f"{record.feed}/{record.shard}"
        whole = record.symbol is None or record.kind in ("watermark", "retired")
        if key != (f"@{shard}" if whole else str(record.symbol)).encode() or stamp != record.time:
            self.dead.append(at)
        elif record.kind == "symbol_spec":
            self.spec(at, record)
        elif record.kind == "gap" and (record.from_ is None or record.to is None or record.from_ >= record.to):
            self.dead.append(at)
        elif record.kind in ("coverage", "gap", "watermark", "retired"):
            self.control(at, record, shard, whole=whole)
        else:
            self.dead.append(at)

    def spec(self, at: int, record: Control) -> None:
        spec = record.spec
        if spec is None or spec.symbol != record.symbol or not spec.point > 0:
            self.dead.append(at)
            return
        row = self.rows.setdefault(spec.symbol, Row())
        if row.spec == spec:
            return
        if row.spec:
            self.events.append((at, "symbol_spec", spec.symbol))
            if row.spec.zone != spec.zone:
                row.zone_from = row.last[0] + 1
            if terms_of(row.spec, self.tolerance).hash != terms_of(spec, self.tolerance).hash:
                row.rules_from = row.last[0] + 1
        row.spec, row.feed, row.changed = spec, spec.feed, at
        self.specs.append((at, spec))

    def control(self, at: int, record: Control, shard: str, *, whole: bool) -> None:
        if record.kind in ("watermark", "retired"):
            self.marks[shard] = max(self.marks.get(shard, -1), record.time)
        if not whole:
            self.rows.setdefault(str(record.symbol), Row(feed=record.feed))
        for symbol in sorted(self.rows):
            row = self.rows[symbol]
            own = row.spec is not None and f"{row.spec.feed}/{row.spec.shard}" == shard
            if not (own if whole else symbol == record.symbol):
                continue
            if record.kind in ("watermark", "retired"):
                self.found(at, symbol, self.marks[shard] + 1)
                self.close(at, symbol, self.marks[shard] + 1)
            if record.kind == "watermark":
                continue
            row.changed = at
            self.events.append((at, str(record.kind), symbol))
            if record.kind == "coverage":
                if row.coverage is None or record.time < row.coverage:
                    row.coverage, row.published_from = record.time, row.last[0] + 1
            elif record.kind == "gap":
                row.gaps.add((record.from_ or 0, record.to or 0))

    def close(self, at: int, symbol: str, until: int) -> None:
        row = self.rows[symbol]
        for timeframe in self.timeframes:
            bar = row.bars.get(timeframe)
            if bar and bar["ts_close"] <= until:
                self.shut(at, symbol, timeframe)
                row.changed = at

    def shut(self, at: int, symbol: str, timeframe: str) -> None:
        row, bar = self.rows[symbol], self.rows[symbol].bars.pop(timeframe)
        if row.coverage is not None and begin(bar) >= row.coverage:
            self.publish(at, symbol, timeframe, bar)
            row.past.setdefault(timeframe, []).append(bar)
        if timeframe in row.counts:
            row.counts[timeframe] = replace(
                row.counts[timeframe], number=bar["number"] + 1, since=bar["ts_close"], sum=0.0
            )

    def publish(self, at: int, symbol: str, timeframe: str, bar: dict[str, Any]) -> None:
        self.closed.append((at, self.bar(symbol, timeframe, bar), *bar["offsets"]))

    def lose(self, at: int) -> None:
        """The records up to and including this one are gone."""
        for row in self.rows.values():
            mark = self.marks.get(f"{row.spec.feed}/{row.spec.shard}", -1) if row.spec else -1
            if row.lost is None and row.coverage is not None:
                row.lost, row.changed = max(row.last[0], row.coverage, mark + 1), at

    def found(self, at: int, symbol: str, until: int) -> None:
        row = self.rows[symbol]
        if row.lost is not None and until > row.lost:
            row.gaps.add((row.lost, until))
            row.lost, row.changed = None, at
            self.events.append((at, "gap", symbol))

    def bar(self, symbol: str, timeframe: str, bar: dict[str, Any]) -> Bar:
        row = self.rows[symbol]
        lost = union([(max(a, bar["ts_open"]), min(b, bar["ts_close"])) for a, b in row.gaps])
        whole = not lost and row.coverage is not None and begin(bar) >= row.coverage
        whole = whole and not (row.zone_from is not None and begin(bar) < row.zone_from)
        whole = whole and not (row.lost is not None and row.lost < bar["ts_close"])
        status = BarStatus.REVISED if bar["revision"] else BarStatus.FINAL if whole else BarStatus.PARTIAL
        fields = {name: value for name, value in bar.items() if name not in ("offsets", "first", "last", "ticks")}
        return Bar(
            symbol=symbol, feed=row.feed, timeframe=timeframe, feed_gap_ms=lost,
            status=status,
            first_tick_ts=bar["first"][0], first_tick_ordinal=bar["first"][1],
            last_tick_ts=bar["last"][0], last_tick_ordinal=bar["last"][1], **fields,
        )  # fmt: skip

    def tick(self, at: int, tick: Tick) -> None:  # noqa: C901, PLR0912 - all that can become of one
        row = self.rows.setdefault(tick.symbol, Row(feed=tick.feed))
        identity = (tick.ts_event, tick.ordinal)
        future = tick.ts_event * 1_000 > tick.ts_recv + self.tolerance * 1_000
        repeated = identity <= row.last
        if tick.correction:
            repeated = identity in row.corrections and tick.ts_event >= row.last[0] - DAY
        if repeated or (future and row.future is not None and identity <= row.future):
            self.repeats += 1
            return
        row.changed = at
        if future:
            row.future = identity
            self.rejected.append((at, "future"))
            return
        if not tick.correction:
            self.found(at, tick.symbol, tick.ts_event)
        reason = self.reason(row, tick)
        ended = self.ended(row, tick) if not reason else []
        if ended and not tick.correction:
            reason = "too_late"
        newest = identity > row.last
        row.last = max(row.last, identity)
        if tick.correction and tick.ts_event >= row.last[0] - DAY:
            row.corrections.add(identity)
        if reason:
            self.rejected.append((at, reason))
            return
        self.clean.append(at)
        if tick.correction:
            self.events.append((at, "correction", tick.symbol))
        self.close(at, tick.symbol, tick.ts_event)
        assert row.spec
        if row.spec.chart_mode == "bid" or tick.flags & 8:
            for timeframe in self.timeframes:
                if ":" in timeframe:
                    if newest and timeframe not in ended:
                        self.count(at, row, row.spec, timeframe, tick)
                    else:
                        self.recount(at, row, row.spec, timeframe, tick, ended=timeframe in ended)
                elif timeframe in ended:
                    self.revise(at, row, row.spec, timeframe, tick)
                else:
                    row.bars[timeframe] = self.added(at, row.bars.get(timeframe), row.spec, timeframe, tick)

    def reason(self, row: Row, tick: Tick) -> str:  # noqa: PLR0911 - rule after rule, as the design lists them
        spec = row.spec
        if spec is None:
            return "no_spec"
        by_last = spec.chart_mode == "last"
        numbers = [tick.bid, tick.ask, tick.volume] + ([tick.last] if by_last and tick.flags & 8 else [])
        if any(not math.isfinite(number) or number < 0 for number in numbers):
            return "not_positive"
        if 0 in ([tick.last] if by_last and tick.flags & 8 else [] if by_last else [tick.bid, tick.ask]):
            return "not_positive"
        if tick.bid > tick.ask and spec.crossed == "reject" and not (by_last and tick.ask == 0):
            return "crossed"
        shut = closed(spec, tick.ts_event)
        if shut:
            return shut
        if tick.correction and tick.ts_event < row.last[0] - DAY:
            return "too_late"
        return ""

    def ended(self, row: Row, tick: Tick) -> list[str]:
        """Timeframes in which the tick comes after its bar's end."""
        assert row.spec
        mark = self.marks.get(f"{row.spec.feed}/{row.spec.shard}", -1)
        if not tick.correction and tick.ts_event > mark:
            return []
        found = []
        for timeframe in self.timeframes:
            bar = row.bars.get(timeframe)
            if ":" in timeframe:
                day, end = self.day(row, row.spec, timeframe, tick.ts_event)
                count = row.counts.get(timeframe)
                if not (count and count.to > tick.ts_event):
                    over = end <= max(row.last[0], mark + 1)
                else:
                    over = day != count.day or (not bar and end <= max(row.last[0], mark + 1))
                if over:
                    found.append(timeframe)
                continue
            if bar and bar["ts_open"] <= tick.ts_event < bar["ts_close"]:
                continue
            before = bar and tick.ts_event < bar["ts_open"]
            if before or span(timeframe, tick.ts_event, row.spec.zone)[1] <= max(row.last[0], mark + 1):
                found.append(timeframe)
        return found

    def order(self, item: tuple[int, Bar, int, int]) -> tuple[int, str, int, int, int]:
        at, bar, *_ = item
        return at, bar.symbol, self.timeframes.index(bar.timeframe), bar.day or 0, bar.number

    def day(self, row: Row, spec: SymbolSpec, name: str, ms: int) -> tuple[int, int]:
        count = row.counts.get(name)
        return (count.day, count.to) if count and count.day <= ms < count.to else span("D1", ms, spec.zone)

    def count(self, at: int, row: Row, spec: SymbolSpec, name: str, tick: Tick) -> None:
        """The tick goes into the open count bar, or opens one; a full one closes."""
        count = row.counts.get(name)
        if count is None or tick.ts_event >= count.to:
            day, end = span("D1", tick.ts_event, spec.zone)
            count = CountState(timeframe=name, day=day, to=end, number=0, since=day, sum=0.0)
        bar = self.added(at, row.bars.get(name), spec, name, tick)
        bar.setdefault("ticks", []).append((tick, at))
        if len(bar["ticks"]) == 1:
            bar |= {"ts_open": min(count.since, tick.ts_event), "day": count.day, "number": count.number}
            bar["ts_close"] = count.to
        row.bars[name] = bar
        row.counts[name] = count = replace(count, sum=count.sum + weight(spec, name, tick))
        if count.sum >= float(name[2:]):
            bar["ts_close"] = tick.ts_event + 1
            self.shut(at, tick.symbol, name)
            self.closed.sort(key=self.order)

    def recount(self, at: int, row: Row, spec: SymbolSpec, name: str, tick: Tick, *, ended: bool) -> None:  # noqa: C901, PLR0912 - all of it
        """The count bars of the tick's day, from the one that holds it on, are made anew."""
        day, end = self.day(row, spec, name, tick.ts_event)
        identity = (tick.ts_event, tick.ordinal)
        if row.coverage is None or day < max(row.coverage, row.published_from, row.zone_from or 0):
            return
        past = sorted((b for b in row.past.get(name, []) if b["day"] == day), key=lambda b: int(b["number"]))
        old = [b for b in past if b["last"] > identity]
        if ended and not old and past and past[-1]["ts_close"] == end:
            old = [past[-1]]
        live = None if ended else row.bars.get(name)
        if not old and (not live or live["last"] < identity) and not ended:
            self.count(at, row, spec, name, tick)
            return
        if day < (row.rules_from or 0):
            return
        parts = old + ([live] if live else [])
        ticks = sorted(
            [*(pair for b in parts for pair in b["ticks"]), (tick, at)], key=lambda p: (p[0].ts_event, p[0].ordinal)
        )
        number = parts[0]["number"] if parts else past[-1]["number"] + 1 if past else 0
        since = parts[0]["ts_open"] if parts else past[-1]["ts_close"] if past else day
        made: list[dict[str, Any]] = []
        total, full = 0.0, True
        for each, place in ticks:
            new = self.added(place, None if full else made[-1], spec, name, each)
            if full:
                new |= {"ts_open": min(since, each.ts_event), "ts_close": end, "day": day, "ticks": []}
                new["number"] = number + len(made)
                made.append(new)
                total = 0.0
            new["ticks"].append((each, place))
            total += weight(spec, name, each)
            full = total >= float(name[2:])
            if full:
                new["ts_close"] = since = each.ts_event + 1
        if len(made) < len(parts):
            return
        for new in made:
            own = [b["offsets"][0] for b in parts if b["last"] >= new["first"] and b["first"] <= new["last"]]
            new["offsets"] = (min([*own, at]), at)
        before = {b["number"]: b for b in past}
        for new in made if ended or full else made[:-1]:
            known = before.get(new["number"])
            if known and same(known, new):
                continue
            new["revision"] = known["revision"] + 1 if known else int(ended)
            self.publish(at, tick.symbol, name, new)
            row.past[name] = [b for b in row.past.get(name, []) if b is not known] + [new]
        self.closed.sort(key=self.order)
        if ended:
            return
        row.counts[name] = replace(row.counts[name], number=made[-1]["number"] + full, sum=0.0 if full else total)
        if len(made) > 1 or full:
            row.counts[name] = replace(row.counts[name], since=since)
        row.bars.pop(name, None)
        if not full:
            row.bars[name] = live if live and same(live, made[-1]) else made[-1]

    def revise(self, at: int, row: Row, spec: SymbolSpec, timeframe: str, tick: Tick) -> None:
        """The bar that closed and holds the tick's time is made anew; one without ticks is made out of nothing."""
        past = row.past.setdefault(timeframe, [])
        start, _ = span(timeframe, tick.ts_event, spec.zone)
        if row.zone_from is None:
            holding = [bar for bar in past if bar["ts_open"] == start]
        else:
            holding = sorted((b for b in past if b["ts_open"] <= tick.ts_event < b["ts_close"]), key=opening)
        if holding:
            bar = self.added(at, holding[0], spec, timeframe, tick)
        elif row.coverage is not None and start >= max(row.coverage, row.published_from, row.zone_from or 0):
            bar = self.added(at, None, spec, timeframe, tick)
            past.append(bar)
        else:
            return
        bar["revision"] += 1
        self.publish(at, tick.symbol, timeframe, bar)
        self.closed.sort(key=self.order)

    def added(
        self, at: int, bar: dict[str, Any] | None, spec: SymbolSpec, timeframe: str, tick: Tick
    ) -> dict[str, Any]:
        price = tick.bid if spec.chart_mode == "bid" else tick.last
        counted = int(spec.chart_mode == "last" or tick.flags & 2 == 2)
        volume = tick.volume if tick.flags & 24 else 0.0
        points = (tick.ask - tick.bid) / spec.point if tick.ask > 0 and tick.bid > 0 else 0.0
        limit = 2**31 - 1
        spread = round(points) if abs(points) < limit else int(math.copysign(limit, points))
        identity = (tick.ts_event, tick.ordinal)
        if bar is None:
            start, end = (0, 0) if ":" in timeframe else span(timeframe, tick.ts_event, spec.zone)
            return {
                "ts_open": start, "ts_close": end, "open": price, "high": price, "low": price, "close": price,
                "ask_open": tick.ask, "ask_high": tick.ask, "ask_low": tick.ask, "ask_close": tick.ask,
                "tick_volume": counted, "real_volume": volume, "spread": spread, "tick_count": 1,
                "first": identity, "last": identity, "offsets": (at, at),
                "rules": terms_of(spec, self.tolerance).hash, "revision": 0, "day": None, "number": 0,
            }  # fmt: skip
        if identity < bar["first"]:
            bar.update(first=identity, open=price, ask_open=tick.ask)
        if identity > bar["last"]:
            bar.update(last=identity, close=price, ask_close=tick.ask)
        bar["high"], bar["low"] = max(bar["high"], price), min(bar["low"], price)
        bar["ask_high"], bar["ask_low"] = max(bar["ask_high"], tick.ask), min(bar["ask_low"], tick.ask)
        bar["tick_volume"] += counted
        bar["real_volume"] += volume
        bar["spread"] = min(bar["spread"], spread)
        bar["tick_count"] += 1
        bar["offsets"] = (bar["offsets"][0], at)
        return bar

    def live(self) -> dict[str, tuple[LiveBars, int]]:
        """The state of every symbol, and the record that changed it last."""
        found = {}
        for symbol, row in self.rows.items():
            names = [name for name in self.timeframes if name in row.bars]
            oldest = min((row.bars[name]["ts_open"] for name in names), default=row.last[0])
            reach = row.last[0] - 33 * DAY
            record = LiveBars(
                symbol=symbol, feed=row.feed, last_ts=row.last[0], last_ordinal=row.last[1], coverage_from=row.coverage,
                gaps=tuple(Gap(from_=a, to=b) for a, b in sorted(row.gaps) if b > reach or b > oldest),
                spec=row.spec, bars=tuple(self.bar(symbol, name, row.bars[name]) for name in names),
                corrections=tuple(
                    TickId(ts=a, ordinal=b) for a, b in sorted(row.corrections) if a >= row.last[0] - DAY
                ),
                offsets=tuple(OffsetRange(first=a, last=b) for a, b in (row.bars[name]["offsets"] for name in names)),
                timeframes=tuple(TimeframeStart(timeframe=name, from_=0) for name in self.timeframes),
                zone_from=row.zone_from, published_from=row.published_from, lost_from=row.lost,
                future=TickId(ts=row.future[0], ordinal=row.future[1]) if row.future else None,
                counts=tuple(row.counts[name] for name in self.timeframes if name in row.counts),
                rules_from=row.rules_from,
            )  # fmt: skip
            found[symbol] = (record, row.changed)
        return found


def begin(bar: dict[str, Any]) -> int:
    """From when on it must be covered."""
    start: int = bar["ts_open"] if bar["day"] is None else bar["day"]
    return start


def same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(old[name] == new[name] for name in old if name not in ("offsets", "revision", "ticks"))


def weight(spec: SymbolSpec, name: str, tick: Tick) -> float:
    if name[0] == "T":
        return 1.0
    if spec.chart_mode == "bid":
        volume, price = float(tick.flags & 2 == 2), tick.bid
    else:
        volume, price = tick.volume if tick.flags & 24 else 0.0, tick.last
    return volume if name[0] == "V" else price * volume


def opening(bar: dict[str, Any]) -> int:
    ts_open: int = bar["ts_open"]
    return ts_open


def union(spans: list[tuple[int, int]]) -> int:
    """Milliseconds covered by any of them, counted naively by their cut points."""
    cuts = sorted({edge for pair in spans for edge in pair})
    return sum(after - before for before, after in pairwise(cuts) if any(a <= before and after <= b for a, b in spans))
