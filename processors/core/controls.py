"""What controls say of series: specs, coverage, gaps, retirement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from processors.core.series import Series
from processors.core.terms import shard_key, terms_of
from processors.core.work import Work
from schemas.errors import DecodeError
from schemas.records import Control, ControlKind, EventKind, Record, SymbolSpec


def check_control(record: Record, key: bytes | None, timestamp: int, future_tolerance_ms: int) -> Control:
    """The control, if it can be worked with. Raises DecodeError."""
    if not isinstance(record, Control):
        raise DecodeError(f"a {type(record).__name__} among the ticks")
    whole_shard = record.symbol is None or record.kind in {ControlKind.WATERMARK, ControlKind.RETIRED}
    expected = f"@{shard_key(record.feed, record.shard)}" if whole_shard else record.symbol or ""
    if key != expected.encode():
        raise DecodeError(f"a {record.kind} of {expected} under the key {key!r}")
    if timestamp != record.time:
        raise DecodeError(f"a {record.kind} of {expected} at {record.time} under the timestamp {timestamp}")
    match record.kind:
        case ControlKind.UNKNOWN:
            raise DecodeError(f"a control of {expected} of a kind unknown to this version")
        case ControlKind.GAP:
            if record.from_ is None or record.to is None or record.from_ >= record.to:
                raise DecodeError(f"a gap of {expected} from {record.from_} to {record.to}")
        case ControlKind.SYMBOL_SPEC:
            spec = record.spec
            if spec is None or (spec.symbol, spec.feed) != (record.symbol, record.feed):
                raise DecodeError(f"a symbol_spec of {expected} that holds {spec}")
            terms_of(spec, future_tolerance_ms)
        case _:
            pass
    return record


def apply_control(work: Work, position: int, control: Control, symbols: Collection[str] | None) -> None:
    """Change the series it names, or those of its shard; of ``symbols`` only, unless none."""
    named = None if control.kind == ControlKind.RETIRED else control.symbol
    if control.kind == ControlKind.WATERMARK or (symbols is not None and named is not None and named not in symbols):
        return
    if control.kind == ControlKind.SYMBOL_SPEC:
        if control.spec is not None:
            _spec(work, position, control, control.spec)
        return
    for series in _named(work, control, symbols):
        if control.kind == ControlKind.COVERAGE:
            # What was covered stays so: only a gap says what was lost since.
            if series.coverage_from is None or control.time < series.coverage_from:
                series.coverage_from, series.published_from = control.time, series.last[0] + 1
            work.event(position, EventKind.COVERAGE, control, series.symbol, "every tick from here on is in the log")
        elif control.kind == ControlKind.GAP:
            span = (control.from_ or 0, control.to or 0)
            series.gaps |= {span}
            text = f"ticks of {(span[1] - span[0]) / 1_000:g} s are lost"
            work.event(position, EventKind.GAP, control, series.symbol, text)
        else:
            work.event(position, EventKind.RETIRED, control, series.symbol, "no more ticks from this shard")
        work.touch(series.symbol, position)


def _named(work: Work, control: Control, symbols: Collection[str] | None) -> list[Series]:
    if control.symbol is not None and control.kind != ControlKind.RETIRED:
        return [work.own(control.symbol, control.feed)]
    shard = shard_key(control.feed, control.shard)
    return [
        work.own(series.symbol, series.feed)
        for series in list(work.series.values())
        if series.terms and series.terms.shard == shard and (symbols is None or series.symbol in symbols)
    ]


def _spec(work: Work, position: int, control: Control, spec: SymbolSpec) -> None:
    """A change closes nothing: open bars keep their bounds and rules, the next ones get the new."""
    series = work.own(spec.symbol, spec.feed)
    before = series.spec
    if before == spec:
        return
    terms = terms_of(spec, work.rules.future_tolerance_ms)
    if series.terms is not None and series.terms.zone.name != terms.zone.name:
        series.zone_from = series.last[0] + 1
    if series.terms is not None and series.terms.hash != terms.hash:
        series.rules_from = series.last[0] + 1
    series.spec, series.terms, series.feed = spec, terms, spec.feed
    work.specs.append((position, spec))
    work.touch(spec.symbol, position)
    if before is not None:
        old = asdict(before)
        changes = [f"{name} {old[name]} -> {value}" for name, value in asdict(spec).items() if value != old[name]]
        work.event(position, EventKind.SYMBOL_SPEC, control, spec.symbol, ", ".join(changes))
