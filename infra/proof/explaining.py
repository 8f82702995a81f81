"""One bar explained: what stands in the log, the ticks it was made of, and whether they make it."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import polars as pl
from confluent_kafka import Message

from infra import topics
from infra.kafka import partition_for
from infra.market.counts import is_count, measure_of
from infra.market.timeframes import TIMEFRAMES, bounds
from infra.market.zones import ServerZone
from infra.proof.absence import why_absent
from infra.proof.comparing import Book, unlike
from infra.proof.counts import FIELDS, CountBook, paired
from infra.proof.explanation import Explanation, Row
from infra.proof.reading import Reader
from infra.proof.series import ORDINAL_BITS, Series
from infra.proof.verification import Proof, Scope, beside
from infra.settings import Settings
from schemas.errors import UsageError


def explain(
    settings: Settings, reader: Reader, symbol: str, timeframe: str, at: int, *, number: int | None = None
) -> Explanation:
    """Explain the bar of the moment ``at``; with ``number``, that one of the server day that opens then.

    Of tick, volume and value bars it is the last that holds the moment. Raises UsageError for a symbol, a timeframe
    or a number that the world does not have, SettingsError for a name such as T:0, and what `verify` raises.
    """
    count = len(reader.extents(topics.TICKS_RAW))
    partition = partition_for(symbol, count)
    live = reader.live(partition).get(symbol)
    bars, deleted = _bars(reader, partition, f"{symbol}|{timeframe}|".encode())
    if live is None and not bars.height:
        raise _unknown(reader, symbol, count)
    if is_count(timeframe):
        measure_of(timeframe)
    elif timeframe not in TIMEFRAMES and not bars.height:
        raise UsageError(f"no timeframe {timeframe!r}; give one of {' '.join(TIMEFRAMES)}, or T:1000, V:500, N:1000000")
    elif number is not None:
        raise UsageError(f"only tick, volume and value bars have a number; give a moment of the {timeframe} bar")
    found = Explanation(symbol, timeframe, at, at, partition, live.spec if live else None, at, number=number)
    if number is not None:
        found.at, found.day = None, at
    last = bars.unique(("day", "number") if is_count(timeframe) else "ts_open", keep="last", maintain_order=True)
    _window(found, last, at)
    scope = Scope(found.ts_open, found.ts_close, (symbol,))
    proof = Proof(settings, reader, partition, scope, reader.progress().get(partition, 0))
    ticks, derived = _derived(proof)
    series = proof.partition.series.get(symbol, Series(symbol))
    if is_count(timeframe):
        _count(found, bars, proof.counts, series)
    else:
        _time(found, bars, proof, derived)
    found.deleted = None if found.revisions else deleted.get(found.key.encode())
    found.made = ticks.filter(found.inside).sort("ts_event", "ordinal") if ticks.height else ticks
    _neighbours(found, last)
    for part in reader.rejected(partition, found.ts_open, [symbol.encode()]):
        found.rejected |= dict(part.filter(found.inside).select("source", "reason").iter_rows())
    _read_back(found, reader)
    found.gaps = sorted({gap for gap in series.gaps if gap.from_ < found.ts_close and gap.to > found.ts_open})
    if not found.revisions:
        found.absent = list(why_absent(found, live, series))
    return found


def _bars(reader: Reader, number: int, prefix: bytes) -> tuple[pl.DataFrame, dict[bytes, int]]:
    """All revisions there are of the bars with such keys, in order; and of those deleted since, where."""
    revisions: dict[bytes, list[Message]] = {}
    deleted: dict[bytes, int] = {}
    for batch in reader.messages(topics.BARS, number):
        for message in batch:
            key = message.key() or b""
            if not key.startswith(prefix):
                continue
            if message.value() is None:
                revisions.pop(key, None)
                deleted[key] = message.offset() or 0
            else:
                revisions.setdefault(key, []).append(message)
    return reader.bars_of([message for each in revisions.values() for message in each]).sort("at"), deleted


def _window(found: Explanation, last: pl.DataFrame, at: int) -> None:
    """Which bar it is, if there is one, and the bounds within which it is derived.

    Those are the bar's own, or by the symbol's zone; of tick, volume and value bars the server day's.
    """
    holding = (pl.col("ts_open") <= at) & (pl.col("ts_close") > at)
    if found.day is not None:
        holding = (pl.col("day") == found.day) & (pl.col("number") == found.number)
    held = last.filter(holding).sort("ts_open", "number").tail(1).to_dicts()
    counted = is_count(found.timeframe)
    if held and not counted:
        found.ts_open, found.ts_close = held[0]["ts_open"], held[0]["ts_close"]
        return
    if held:
        at, found.number = held[0]["day"], held[0]["number"]
    zone = ServerZone.parse(found.spec.zone if found.spec else "UTC")
    opens, closes = bounds("D1" if counted else found.timeframe, np.array([at], np.int64), zone)
    found.ts_open, found.ts_close = int(opens[0]), int(closes[0])
    if found.day is not None and not held and found.day != found.ts_open:
        raise UsageError(f"no day of the server opens at {found.day}; the one that holds it opens at {found.ts_open}")
    if counted:
        found.day = at if held else found.ts_open


def _derived(proof: Proof) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The clean ticks of the proof's window that make bars, and the timeframes' bars that they make."""
    made: list[pl.DataFrame] = []

    def watch(ticks: pl.DataFrame) -> None:
        made.append(ticks)
        proof.counts.take(ticks)

    proof.partition.watch = watch
    bars = pl.concat(list(proof.derived()))
    return pl.concat(made) if made else pl.DataFrame(), bars


def _time(found: Explanation, bars: pl.DataFrame, proof: Proof, derived: pl.DataFrame) -> None:
    """The timeframe's bar of the window."""
    found.doubt = "its ticks are no longer in the log" if found.ts_open < proof.since else ""
    found.first, found.until = found.ts_open << ORDINAL_BITS, found.ts_close << ORDINAL_BITS
    found.revisions = bars.filter(pl.col("ts_open") == found.ts_open).to_dicts()
    own = derived.filter((pl.col("timeframe") == found.timeframe) & (pl.col("ts_open") == found.ts_open))
    if not own.height:
        return
    found.derived = own.to_dicts()[0]
    if found.revisions:
        pair = beside(own, pl.DataFrame(found.revisions[-1:], schema=proof.found.schema))
        found.unlike = [name for name in Book.FIELDS if pair.select(unlike(name)).item()]


def _count(found: Explanation, bars: pl.DataFrame, book: CountBook, series: Series) -> None:
    """The tick, volume or value bar, of the day that is the window."""
    day, name = found.begin, found.timeframe
    found.doubt = book.doubt(series, name, day)
    derived = [] if found.doubt else book.derived(series, name, day)
    last = bars.filter(pl.col("day") == day).unique("number", keep="last", maintain_order=True)
    around = derived or last.sort("number").to_dicts()
    if found.at is not None:
        holding = [bar["number"] for bar in around if bar["ts_open"] <= found.at < bar["ts_close"]]
        found.number = next(reversed(holding), None) if found.number is None else found.number
        found.others = [other for other in holding if other != found.number]
    found.revisions = bars.filter((pl.col("day") == day) & (pl.col("number") == pl.lit(found.number))).to_dicts()
    own = next((bar for bar in derived if bar["number"] == found.number), None)
    there = found.revisions[-1] if found.revisions else None
    if derived and not own and not there and found.number is not None:
        raise UsageError(f"there is no bar {found.key}: the ticks of its day make {len(derived)}, numbered from 0")
    if not there and not book.published(series, name, day):
        found.doubt = ""  # whatever its ticks are
    _bound(found, own or there, around)
    if own and there:
        pair = paired(own, there, series)
        frame = pl.DataFrame([pair], infer_schema_length=None)
        found.derived = {field: pair[field] for field in own}
        found.unlike = [field for field in FIELDS if frame.select(unlike(field)).item()]
    elif own and own["due"]:
        found.derived = own


def _bound(found: Explanation, own: Row | None, around: list[Row]) -> None:
    """Where the bar begins and ends: in time, and, since ticks of one millisecond may be of two bars, by identity.

    Without the bar it is what the day's others leave around the moment.
    """
    if own:
        found.ts_open, found.ts_close = own["ts_open"], own["ts_close"]
    elif found.at is not None:
        found.ts_open = max([found.ts_open, *(bar["ts_close"] for bar in around if bar["ts_close"] <= found.at)])
        found.ts_close = min([found.ts_close, *(bar["ts_open"] for bar in around if bar["ts_open"] > found.at)])
    found.first, found.until = found.ts_open << ORDINAL_BITS, found.ts_close << ORDINAL_BITS
    if own:
        found.first = max([found.first, *(_after(bar) for bar in around if bar["number"] == own["number"] - 1)])
        found.until = _after(own) if own["last_tick_ts"] + 1 == own["ts_close"] else found.until


def _after(bar: Row) -> int:
    """The identity behind its last tick's."""
    return int((bar["last_tick_ts"] << ORDINAL_BITS) + bar["last_tick_ordinal"] + 1)


def _neighbours(found: Explanation, last: pl.DataFrame) -> None:
    opens, number = pl.col("ts_open"), pl.lit(found.number)
    here = opens == found.ts_open
    before = last.filter((opens < found.ts_open) | (here & (pl.col("number") < number)))
    after = last.filter((opens > found.ts_open) | (here & (pl.col("number") > number)))
    found.before = next(iter(before.sort("ts_open", "number").tail(1).to_dicts()), None)
    found.after = next(iter(after.sort("ts_open", "number").head(1).to_dicts()), None)


def _read_back(found: Explanation, reader: Reader) -> None:
    """The bar's ticks as they lie in ``ticks.raw`` between its first and its last offset, and what closed it."""
    last = found.revisions[-1] if found.revisions else None
    claims = [claim for claim in (last, found.derived) if claim and claim["first_offset"] >= 0]
    if not claims:
        return
    first = min(claim["first_offset"] for claim in claims)
    until = max(max(claim["last_offset"], claim.get("cause", -1)) for claim in claims)
    cause = claims[0].get("cause", -1)
    fates = dict.fromkeys(reader.dead(found.partition), "dead letter") | found.rejected
    seen: set[tuple[int, int]] = set()
    for part in reader.raw(found.partition, [found.symbol.encode()], first):
        for row in part.ticks.filter(found.inside & (pl.col("source") <= until)).iter_rows(named=True):
            own = (row["ts_event"], row["ordinal"])
            fate = fates.get(row["source"], "repeat" if own in seen else "clean")
            seen.add(own)
            found.raw.append(row | {"fate": fate})
        for row in part.ticks.filter(pl.col("source") == cause).with_columns(own=found.inside).iter_rows(named=True):
            kind = "a correction" if row["correction"] else "its last tick" if row["own"] else "the series' next tick"
            found.cause = f"{kind}, {row['ts_event']} #{row['ordinal']}"
        for offset, control in part.controls:
            if offset == cause:
                found.cause = f"a {control.kind.value} of {control.feed}/{control.shard} at {control.time}"
        if part.end >= until:
            break


def _unknown(reader: Reader, symbol: str, count: int) -> UsageError:
    known = sorted({name for number in range(count) for name in reader.live(number)})
    near = get_close_matches(symbol, known, n=4, cutoff=0.4) or known[:8]
    return UsageError(f"the world has no symbol {symbol!r}; it has {', '.join(near) or 'none yet'}")
