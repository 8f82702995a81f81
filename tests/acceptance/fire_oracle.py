"""What one partition's processor should have made of its ``ticks.raw``: recomputed from the design, by column.

Nothing of the processor's code is used but the decoder of batches and the hash of the rules; zones and calendars are
polars' own. It knows the streams of `tests.acceptance.fire_generator`: a series has one spec, and its coverage is told
before its first tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from processors.core.terms import terms_of
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.records import (
    Bar,
    BarStatus,
    ChartMode,
    Control,
    ControlKind,
    CrossedPolicy,
    Gap,
    LiveBars,
    OffsetRange,
    SymbolSpec,
    TickId,
    TimeframeStart,
)

DAY: Final = 86_400_000
TOLERANCE_MS: Final = 60_000
TIMEFRAMES: Final = ("M1", "M5", "M15", "M30", "H1", "H4", "D1", "W1", "MN1")
_LENGTHS: Final = {"M1": 60_000, "M5": 300_000, "M15": 900_000, "M30": 1_800_000, "H1": 3_600_000}
_NEW_YORK: Final = "America/New_York"
_BUCKET: Final = ("symbol", "ts_open")
_ORDINAL: Final = 1 << 20
_LIMIT: Final = 2.0**31 - 1

BAR: Final = (
    "symbol", "feed", "timeframe", "ts_open", "ts_close", "open", "high", "low", "close", "ask_open", "ask_high",
    "ask_low", "ask_close", "tick_volume", "real_volume", "spread", "status", "revision", "feed_gap_ms", "tick_count",
    "first_tick_ts", "first_tick_ordinal", "last_tick_ts", "last_tick_ordinal", "rules", "first_offset", "last_offset",
    "offset",
)  # fmt: skip
"""A bar's fields, and what its headers say."""


@dataclass(frozen=True)
class Expected:
    """One partition's outputs; offsets are those in ``ticks.raw``."""

    clean: pl.Series
    """Offsets, in order."""
    rejected: pl.DataFrame
    """offset, reason; in order."""
    dead: pl.Series
    """Offsets, in order."""
    repeats: int
    bars: pl.DataFrame
    """Every revision of every bar, in the order in which they are written."""
    events: list[tuple[int, str, str]]
    """Offset, kind and symbol, sorted."""
    specs: list[tuple[int, SymbolSpec]]
    live: dict[str, LiveBars]
    watermarks: dict[str, int]


def recompute(raw: pl.DataFrame, codec: Codec) -> Expected:
    """From ``offset``, ``key``, ``value`` and ``timestamp`` of all records of a partition."""
    decoded = decode_batch(raw["value"].to_list(), codec)
    placed = decoded.frame.with_columns(raw.select("offset", "key", "timestamp")[decoded.frame["index"]])
    controls, not_controls = _controls(raw, decoded.others)
    log = _Log(controls)
    good = (
        (pl.col("key") == pl.col("symbol").cast(pl.Binary))
        & (pl.col("timestamp") == pl.col("ts_event"))
        & (pl.col("ordinal") >= 0)
        & (pl.col("feed") == pl.col("own_feed"))
    )
    ticks = placed.join(log.terms, on="symbol", how="left", maintain_order="left").with_columns(good=good)
    bad = [raw["offset"][at] for at, _ in decoded.bad]
    dead = sorted([*ticks.filter(~pl.col("good").fill_null(value=False))["offset"], *bad, *not_controls])
    ticks = log.marked(_judged(ticks.filter("good").drop("good", "key", "timestamp", "index")))
    ticks = _too_late(ticks)
    clean = ticks.filter(pl.col("fate") == "clean")
    passed = log.passed(clean)
    by_timeframe = [_Bars(clean, timeframe, passed) for timeframe in TIMEFRAMES]
    bars = log.gapped(pl.concat([one.published() for one in by_timeframe]), "offset")
    order = pl.col("timeframe").replace_strict({name: at for at, name in enumerate(TIMEFRAMES)}, return_dtype=pl.Int8)
    revised = pl.when(pl.col("revision") > 0).then(pl.lit("revised"))
    status = revised.when(pl.col("feed_gap_ms") > 0).then(pl.lit("partial")).otherwise(pl.lit("final"))
    corrections = clean.filter("correction")
    return Expected(
        clean=clean["offset"],
        rejected=ticks.filter(~pl.col("fate").is_in(["clean", "repeat"])).select("offset", reason="fate"),
        dead=pl.Series(dead, dtype=pl.Int64),
        repeats=ticks.filter(pl.col("fate") == "repeat").height,
        bars=bars.with_columns(status=status).sort("offset", "symbol", order).select(BAR),
        events=sorted([*log.events, *((at, "correction", name) for at, name in _named(corrections))]),
        specs=log.specs,
        live=_live(ticks, by_timeframe, log),
        watermarks={shard: max(time for _, time in marks) for shard, marks in log.marks.items()},
    )


def _named(ticks: pl.DataFrame) -> list[tuple[int, str]]:
    return list(ticks.select("offset", "symbol").iter_rows())


def _controls(raw: pl.DataFrame, others: Sequence[tuple[int, object]]) -> tuple[list[tuple[int, Control]], list[int]]:
    """Controls with their offsets, and the offsets of what is none."""
    controls, rest = [], []
    for at, record in others:
        offset = raw["offset"][at]
        if isinstance(record, Control):
            controls.append((offset, record))
        else:
            rest.append(offset)
    return controls, rest


class _Log:
    """What the controls say."""

    def __init__(self, controls: Sequence[tuple[int, Control]]) -> None:
        self.specs: list[tuple[int, SymbolSpec]] = []
        self.events: list[tuple[int, str, str]] = []
        self.marks: dict[str, list[tuple[int, int]]] = {}
        self.coverage: dict[str, int] = {}
        self.gaps: dict[str, list[tuple[int, int, int]]] = {}
        shards: dict[str, list[str]] = {}
        for offset, control in controls:
            shard = f"{control.feed}/{control.shard}"
            named = [control.symbol] if control.symbol else shards.get(shard, [])
            if control.kind == ControlKind.SYMBOL_SPEC and control.spec:
                self.specs.append((offset, control.spec))
                shards.setdefault(shard, []).append(control.spec.symbol)
            elif control.kind == ControlKind.COVERAGE:
                self.coverage |= dict.fromkeys(named, control.time)
            elif control.kind == ControlKind.GAP:
                for symbol in named:
                    self.gaps.setdefault(symbol, []).append((offset, control.from_ or 0, control.to or 0))
            elif control.kind == ControlKind.WATERMARK:
                highest = self.marks[shard][-1][1] if shard in self.marks else -1
                self.marks.setdefault(shard, []).append((offset, max(control.time, highest)))
            if control.kind in {ControlKind.COVERAGE, ControlKind.GAP}:
                self.events += ((offset, control.kind.value, symbol) for symbol in named)
        self.terms = pl.DataFrame(
            [
                {
                    "symbol": spec.symbol,
                    "own_feed": spec.feed,
                    "shard": f"{spec.feed}/{spec.shard}",
                    "point": spec.point,
                    "zone": spec.zone,
                    "calendar": spec.calendar,
                    "by_last": spec.chart_mode == ChartMode.LAST,
                    "keep": spec.crossed == CrossedPolicy.KEEP,
                    "coverage": self.coverage[spec.symbol],
                    "rules": terms_of(spec, TOLERANCE_MS).hash,
                }
                for _, spec in self.specs
            ]
        )
        self._marks = pl.DataFrame(
            [(shard, offset, time) for shard, marks in self.marks.items() for offset, time in marks],
            schema={"shard": pl.String, "offset": pl.Int64, "mark": pl.Int64},
            orient="row",
        )

    def marked(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """With the watermark that stood when each came."""
        marks = self._marks.sort("offset")
        joined = ticks.sort("offset").join_asof(marks, on="offset", by="shard", check_sortedness=False)
        return joined.with_columns(pl.col("mark").fill_null(-1))

    def passed(self, clean: pl.DataFrame) -> pl.DataFrame:
        """By symbol, at which offset which time had first passed, so that bars closed: clean ticks and watermarks."""
        ticks = clean.select("symbol", "offset", time=pl.col("ts_event"))
        marks = self._marks.join(self.terms.select("symbol", "shard"), on="shard")
        both = pl.concat([ticks, marks.select("symbol", "offset", time=pl.col("mark") + 1)])
        risen = both.sort("offset").with_columns(pl.col("time").cum_max().over("symbol"))
        return risen.unique(["symbol", "time"], keep="first", maintain_order=True).sort("time")

    def gapped(self, bars: pl.DataFrame, by: str) -> pl.DataFrame:
        """With how much of each bar lies in gaps that were told up to the offset in column ``by``."""
        rows = [(symbol, *gap) for symbol, gaps in self.gaps.items() for gap in gaps]
        schema = {"symbol": pl.String, "told": pl.Int64, "lost": pl.Int64, "found": pl.Int64}
        gaps = pl.DataFrame(rows, schema=schema, orient="row")
        bars = bars.with_row_index("row")
        told = (pl.col("told") <= pl.col(by)) & (pl.col("lost") < pl.col("ts_close"))
        spans = (
            bars.lazy()
            .select("row", "symbol", "ts_open", "ts_close", by)
            .join(gaps.lazy(), on="symbol")
            .filter(told & (pl.col("found") > pl.col("ts_open")))
            .select("row", start=pl.max_horizontal("lost", "ts_open"), end=pl.min_horizontal("found", "ts_close"))
            .sort("row", "start")
            .with_columns(reached=pl.col("end").cum_max().shift(1).over("row"))
            .group_by("row")
            .agg(feed_gap_ms=(pl.col("end") - pl.max_horizontal("start", "reached")).clip(0).sum())
            .collect()
        )
        return bars.join(spans, on="row", how="left").drop("row").with_columns(pl.col("feed_gap_ms").fill_null(0))


def _judged(ticks: pl.DataFrame) -> pl.DataFrame:
    """With ``known``, the series' highest identity before each, and its ``fate``; what is too late comes later."""
    ident, corrected = pl.col("identity"), pl.col("correction")
    ticks = ticks.sort("offset").with_columns(
        identity=pl.col("ts_event") * _ORDINAL + pl.col("ordinal"),
        future=(pl.col("ts_event") - TOLERANCE_MS) * 1_000 > pl.col("ts_recv"),
    )
    highest = pl.when(~pl.col("future")).then(ident).cum_max().forward_fill()
    ticks = ticks.with_columns(known=highest.shift(1).over("symbol").fill_null(-1))
    ticks = ticks.with_columns(
        old=ident <= pl.col("known"),
        newest=pl.max_horizontal("known", 0) // _ORDINAL,
        again=corrected & (pl.int_range(pl.len()).over("symbol", "identity", "correction") > 0),
    )
    ahead = pl.when(pl.col("future") & ~pl.col("old")).then(ident).cum_max().forward_fill()
    ticks = ticks.with_columns(ahead=ahead.shift(1).over("symbol").fill_null(-1))
    number = ["bid", "ask", "volume"]
    finite = pl.all_horizontal([pl.col(name).is_finite() & (pl.col(name) >= 0) for name in number])
    last_moved = pl.col("flags") & 8 != 0
    last_good = ~last_moved | (pl.col("last").is_finite() & (pl.col("last") > 0))
    priced = pl.when("by_last").then(last_good).otherwise((pl.col("bid") > 0) & (pl.col("ask") > 0))
    crossed = (pl.col("bid") > pl.col("ask")) & ~pl.col("keep") & (~pl.col("by_last") | (pl.col("ask") > 0))
    repeat = pl.when(corrected).then(pl.col("again") & (pl.col("ts_event") >= pl.col("newest") - DAY)).otherwise("old")
    repeat |= pl.col("future") & (ident <= pl.col("ahead"))
    fate = (
        pl.when(repeat)
        .then(pl.lit("repeat"))
        .when("future")
        .then(pl.lit("future"))
        .when(~(finite & priced))
        .then(pl.lit("not_positive"))
        .when(crossed)
        .then(pl.lit("crossed"))
    )
    return ticks.with_columns(closed=_closed()).with_columns(
        fate=fate.when(pl.col("closed") != "").then("closed").otherwise(pl.lit("clean"))
    )


def _closed() -> pl.Expr:
    """The four calendars of the streams, read from their JSON by the eye."""
    local = _local(pl.col("ts_event"), _NEW_YORK)
    day, time = local.dt.weekday(), local.dt.hour()
    fx = (day == 6) | ((day == 5) & (time >= 17)) | ((day == 7) & (time < 17))
    metals = (day == 6) | ((day == 5) & (time >= 17)) | ((day == 7) & (time < 18)) | (time == 17)
    holiday = (local.dt.month() == 3) & (local.dt.day() == 10)
    calendar, shut = pl.col("calendar"), pl.lit("market_closed")
    always = calendar.str.contains('"zone":"UTC"', literal=True)
    of_metals = calendar.str.contains("18:00", literal=True)
    with_holiday = calendar.str.contains("2025-03-10", literal=True)
    return (
        pl.when(always)
        .then(pl.lit(""))
        .when(of_metals & metals)
        .then(shut)
        .when(~of_metals & fx)
        .then(shut)
        .when(with_holiday & holiday)
        .then(pl.lit("holiday"))
        .otherwise(pl.lit(""))
    )


def _too_late(ticks: pl.DataFrame) -> pl.DataFrame:
    """Corrections that are more than a day older than the last tick; others whose minute a watermark has ended."""
    minute_end = pl.col("ts_event") // 60_000 * 60_000 + 60_000
    old = pl.col("correction") & (pl.col("ts_event") < pl.col("newest") - DAY)
    ended = ~pl.col("correction") & (pl.col("ts_event") <= pl.col("mark")) & (minute_end <= pl.col("mark") + 1)
    late = (pl.col("fate") == "clean") & (old | ended)
    ticks = ticks.with_columns(fate=pl.when(late).then(pl.lit("too_late")).otherwise("fate"))
    passed = pl.when(pl.col("fate") == "clean").then("ts_event").cum_max().forward_fill().shift(1).over("symbol")
    return ticks.with_columns(
        closed_to=pl.max_horizontal(passed.fill_null(-1), pl.col("mark") + 1),
        over_to=pl.max_horizontal("newest", pl.col("mark") + 1),
    )


def _local(times: pl.Expr, zone: str) -> pl.Expr:
    """What a clock of the zone shows."""
    return pl.from_epoch(times, "ms").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _bounds(ticks: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """With ``ts_open`` and ``ts_close`` of each tick's bar; up to H1 in UTC, beyond by the server's clock."""
    if timeframe in _LENGTHS:
        length = _LENGTHS[timeframe]
        opens = pl.col("ts_event") // length * length
        return ticks.with_columns(ts_open=opens, ts_close=opens + length)
    parts = []
    for (zone,), part in ticks.group_by("zone", maintain_order=True):
        name = str(zone)
        if name == "New_York+7":
            shown = _local(pl.col("ts_event"), _NEW_YORK) + pl.duration(hours=7)
        else:
            shown = pl.from_epoch("ts_event", "ms") + pl.duration(hours=int(name.removeprefix("UTC") or 0))
        step = {"H4": "4h", "D1": "1d", "W1": "1w", "MN1": "1mo"}[timeframe]
        if timeframe == "W1":  # polars begins weeks on Mondays
            opens = (shown + pl.duration(days=1)).dt.truncate(step) - pl.duration(days=1)
        else:
            opens = shown.dt.truncate(step)
        parts.append(part.with_columns(ts_open=_utc(opens, name), ts_close=_utc(opens.dt.offset_by(step), name)))
    return pl.concat(parts).sort("offset")


def _utc(shown: pl.Expr, zone: str) -> pl.Expr:
    if zone != "New_York+7":
        return (shown - pl.duration(hours=int(zone.removeprefix("UTC") or 0))).dt.epoch("ms")
    local = (shown - pl.duration(hours=7)).dt.replace_time_zone(_NEW_YORK, ambiguous="earliest")
    return local.dt.convert_time_zone("UTC").dt.epoch("ms")


class _Bars:
    """One timeframe's bars of a partition."""

    def __init__(self, clean: pl.DataFrame, timeframe: str, passed: pl.DataFrame) -> None:
        self.timeframe = timeframe
        made = clean.filter(~pl.col("by_last") | (pl.col("flags") & 8 != 0))
        points = ((pl.col("ask") - pl.col("bid")) / pl.col("point")).clip(-_LIMIT, _LIMIT)
        no_book = (pl.col("ask") <= 0) | (pl.col("bid") <= 0)
        made = _bounds(made, timeframe).select(
            *("symbol", "feed", "offset", "ts_event", "ordinal", "identity", "rules", "coverage"),
            *("ts_open", "ts_close", "correction", "closed_to", "over_to"),
            price=pl.when("by_last").then("last").otherwise("bid"),
            ask=pl.col("ask") + 0.0,
            counted=(pl.col("by_last") | (pl.col("flags") & 2 != 0)).cast(pl.Int64),
            traded=pl.when(pl.col("flags") & 24 != 0).then("volume").otherwise(0.0),
            points=pl.when(no_book).then(0.0).otherwise(points).round(mode="half_to_even").cast(pl.Int64),
        )
        born_late = pl.col("over_to").first().over(_BUCKET) >= pl.col("ts_close")
        made = made.with_columns(late=born_late | (pl.col("closed_to") >= pl.col("ts_close")))
        assert not made.filter(pl.col("late") & ~pl.col("correction")).height
        self._made = made
        first = _aggregated(made.filter(~pl.col("late"))).sort("ts_close")
        named = passed.rename({"offset": "cause"})
        first = first.join_asof(
            named, left_on="ts_close", right_on="time", by="symbol", strategy="forward", check_sortedness=False
        ).drop("time", strict=False)
        self.first = first.with_columns(revision=pl.lit(0, pl.Int32), timeframe=pl.lit(timeframe))

    @property
    def open(self) -> pl.DataFrame:
        """Those that nothing has closed."""
        return self.first.filter(pl.col("cause").is_null())

    def published(self) -> pl.DataFrame:
        """All revisions of those that are covered from their beginning."""
        closed = self.first.filter(pl.col("cause").is_not_null()).with_columns(offset="cause").drop("cause")
        both = pl.concat([closed, self._revised().select(closed.columns)])
        return both.filter(pl.col("ts_open") >= pl.col("coverage")).drop("coverage")

    def _revised(self) -> pl.DataFrame:
        """The bar as each late correction left it."""
        made = self._made.filter(pl.col("late").any().over(_BUCKET))
        low, high = pl.col("identity").cum_min().over(_BUCKET), pl.col("identity").cum_max().over(_BUCKET)
        before = pl.col("late").cast(pl.Int32).cum_sum().over(_BUCKET)
        rows = made.select(
            *("symbol", "feed", "ts_open", "ts_close", "late", "coverage", "offset"),
            high=pl.col("price").cum_max().over(_BUCKET),
            low=pl.col("price").cum_min().over(_BUCKET),
            ask_high=pl.col("ask").cum_max().over(_BUCKET),
            ask_low=pl.col("ask").cum_min().over(_BUCKET),
            tick_volume=pl.col("counted").cum_sum().over(_BUCKET),
            real_volume=pl.col("traded").cum_sum().over(_BUCKET),
            spread=pl.col("points").cum_min().over(_BUCKET),
            tick_count=pl.col("counted").cum_count().over(_BUCKET).cast(pl.Int64),
            rules=pl.col("rules"),
            first_offset=pl.col("offset").first().over(_BUCKET),
            last_offset=pl.col("offset"),
            revision=before,
            first_identity=low,
            last_identity=high,
            timeframe=pl.lit(self.timeframe),
        ).filter("late")
        prices = made.select("symbol", "identity", "price", "ask")
        for end, name in (("first", "open"), ("last", "close")):
            rows = rows.join(
                prices.rename({"identity": f"{end}_identity", "price": name, "ask": f"ask_{name}"}),
                on=["symbol", f"{end}_identity"],
                how="left",
            )
        return rows.with_columns(_ends())


def _aggregated(made: pl.DataFrame) -> pl.DataFrame:
    by = pl.col("identity")
    return (
        made.group_by(_BUCKET, maintain_order=True)
        .agg(
            pl.col("feed", "ts_close", "rules", "coverage").first(),
            open=pl.col("price").get(by.arg_min()),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").get(by.arg_max()),
            ask_open=pl.col("ask").get(by.arg_min()),
            ask_high=pl.col("ask").max(),
            ask_low=pl.col("ask").min(),
            ask_close=pl.col("ask").get(by.arg_max()),
            tick_volume=pl.col("counted").sum(),
            real_volume=pl.col("traded").sum(),
            spread=pl.col("points").min(),
            tick_count=pl.len().cast(pl.Int64),
            first_identity=by.min(),
            last_identity=by.max(),
            first_offset=pl.col("offset").first(),
            last_offset=pl.col("offset").last(),
        )
        .with_columns(_ends())
    )


def _ends() -> list[pl.Expr]:
    return [
        expression
        for end in ("first", "last")
        for expression in (
            (pl.col(f"{end}_identity") // _ORDINAL).alias(f"{end}_tick_ts"),
            (pl.col(f"{end}_identity") % _ORDINAL).alias(f"{end}_tick_ordinal"),
        )
    ]


def _live(ticks: pl.DataFrame, by_timeframe: Sequence[_Bars], log: _Log) -> dict[str, LiveBars]:
    """The last live bars of every symbol."""
    open_bars = pl.concat([one.open for one in by_timeframe])
    open_bars = log.gapped(open_bars.with_columns(end=pl.lit(2**62)), "end")
    highest = pl.col("identity").filter(~pl.col("future")).max()
    ahead = pl.col("identity").filter(pl.col("fate") == "future").max()
    ends = {
        symbol: (last, future)
        for symbol, last, future in ticks.group_by("symbol").agg(highest, ahead.alias("ahead")).iter_rows()
    }
    corrections = ticks.filter(pl.col("correction") & (pl.col("fate") != "repeat"))
    found = {}
    for _, spec in log.specs:
        last, future = ends.get(spec.symbol, (None, None))
        last_ts, last_ordinal = (0, -1) if last is None else divmod(last, _ORDINAL)
        mine = open_bars.filter(pl.col("symbol") == spec.symbol)
        rows = [row | {"status": _status(row, log.coverage[spec.symbol])} for row in mine.iter_rows(named=True)]
        late = corrections.filter((pl.col("symbol") == spec.symbol) & (pl.col("ts_event") >= last_ts - DAY))
        found[spec.symbol] = LiveBars(
            symbol=spec.symbol,
            feed=spec.feed,
            last_ts=last_ts,
            last_ordinal=last_ordinal,
            coverage_from=log.coverage[spec.symbol],
            gaps=tuple(Gap(from_=a, to=b) for a, b in sorted({gap[1:] for gap in log.gaps.get(spec.symbol, [])})),
            spec=spec,
            bars=tuple(_bar(row) for row in rows),
            corrections=tuple(
                TickId(ts=ident // _ORDINAL, ordinal=ident % _ORDINAL)
                for ident in late["identity"].unique().sort().to_list()
            ),
            offsets=tuple(OffsetRange(first=row["first_offset"], last=row["last_offset"]) for row in rows),
            timeframes=tuple(TimeframeStart(timeframe=name, from_=0) for name in TIMEFRAMES),
            future=None if future is None else TickId(ts=future // _ORDINAL, ordinal=future % _ORDINAL),
            published_from=1,
        )
    return found


def _status(row: dict[str, object], coverage: int) -> BarStatus:
    whole = row["feed_gap_ms"] == 0 and row["ts_open"] >= coverage  # type: ignore[operator]
    return BarStatus.FINAL if whole else BarStatus.PARTIAL


def _bar(row: dict[str, object]) -> Bar:
    names = set(Bar.__dataclass_fields__)
    return Bar(**{name: value for name, value in row.items() if name in names})  # type: ignore[arg-type]
