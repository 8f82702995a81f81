"""What a replay copies, without Kafka."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.replay.selection import Copy, Selection
from schemas.records import Control, ControlKind, Replay, SymbolSpec, Tick
from tests.core.streams import CODEC, START, SYMBOLS, Maker, Message, message, spec

FROM, TO = START + 60_000, START + 120_000
PLAN = Replay(source="main.ticks.raw", asked="", partition=0, first=0, end=10**9, from_=FROM, to=TO, next_offset=0)


def tick(symbol: str, ts: int, ordinal: int = 0, *, correction: bool = False) -> Copy:
    made = Tick(
        symbol=symbol, ts_event=ts, ordinal=ordinal, bid=1.0, ask=1.1, flags=6, feed="sim", server_time=ts,
        ts_recv=ts * 1_000, correction=correction,
    )  # fmt: skip
    return copy(message(made))


def control(kind: ControlKind, time: int, symbol: str | None = "EURUSD", **more: object) -> Copy:
    return copy(message(Control(kind=kind, feed="sim", shard="a", symbol=symbol, time=time, **more)))  # type: ignore[arg-type]


def copy(item: Message) -> Copy:
    return Copy(item.key, CODEC.encode(item.record), item.stamp)


def watermark(time: int, kind: ControlKind = ControlKind.WATERMARK) -> Copy:
    return control(kind, time, None)


def selected(plan: Replay, log: list[Copy]) -> list[Copy]:
    selection = Selection(plan, CODEC)
    return selection.opening() + [out for offset, record in enumerate(log) for out in selection.take(record, offset)]


def decoded(copies: list[Copy]) -> list[Tick | Control]:
    found = [CODEC.decode(each.value or b"") for each in copies]
    assert all(isinstance(record, Tick | Control) for record in found)
    return found  # type: ignore[return-value]


def test_records_of_the_range_are_the_same_bytes_in_the_same_order() -> None:
    inside = [
        tick("EURUSD", TO - 1),
        tick("USDJPY", FROM),
        Copy(b"EURUSD", b"rubbish", FROM + 5, [("from", b"somebody")]),
        Copy(None, None, FROM + 6),
        watermark(FROM + 7),
        tick("EURUSD", FROM + 1, correction=True),
    ]
    outside = [tick("EURUSD", FROM - 1), tick("USDJPY", TO), Copy(b"EURUSD", b"rubbish", TO), watermark(FROM - 1)]
    log = [each for pair in zip(inside, [*outside, *outside], strict=False) for each in pair]
    assert selected(PLAN, log) == inside
    assert selected(replace(PLAN, from_=None, to=None), log) == log


def test_what_was_said_outside_the_range_counts_as_of_its_nearest_moment() -> None:
    said = [
        control(ControlKind.SYMBOL_SPEC, FROM - 9, spec=spec("EURUSD")),
        control(ControlKind.COVERAGE, FROM - 9),
        control(ControlKind.GAP, FROM - 5, from_=FROM - 50, to=FROM + 50),
        control(ControlKind.GAP, FROM - 5, from_=FROM - 50, to=FROM),
        control(ControlKind.GAP, TO + 9, from_=TO - 50, to=TO + 50),
        control(ControlKind.GAP, TO + 9, from_=TO, to=TO + 50),
        control(ControlKind.COVERAGE, TO),
        watermark(TO + 500),
        watermark(TO + 900),
        watermark(TO + 901, ControlKind.RETIRED),
    ]
    found = decoded(selected(PLAN, said))
    assert [(record.kind, record.time) for record in found if isinstance(record, Control)] == [
        (ControlKind.SYMBOL_SPEC, FROM),
        (ControlKind.COVERAGE, FROM),
        (ControlKind.GAP, FROM),
        (ControlKind.GAP, TO - 1),
        (ControlKind.WATERMARK, TO - 1),
    ]
    assert [each.timestamp for each in selected(PLAN, said)] == [FROM, FROM, FROM, TO - 1, TO - 1]
    retired = selected(PLAN, [watermark(TO + 901, ControlKind.RETIRED)])
    assert decoded(retired) == [Control(kind=ControlKind.WATERMARK, feed="sim", shard="a", time=TO - 1)]
    assert retired[0].key == b"@sim/a"


def test_coverage_that_is_uncertain_begins_behind_the_first_tick() -> None:
    uncertain = Control(kind=ControlKind.COVERAGE, feed="sim", shard="a", symbol="EURUSD", time=START)
    plan = replace(PLAN, uncertain=(uncertain,))
    log = [
        tick("USDJPY", FROM),
        tick("EURUSD", FROM - 1),
        tick("EURUSD", FROM + 2, correction=True),
        tick("EURUSD", FROM + 5, 1),
        tick("EURUSD", FROM + 5, 2),
    ]
    found = selected(plan, log)
    assert found[:3] + found[4:] == [log[0], *log[2:]]
    assert decoded(found[3:4]) == [replace(uncertain, time=FROM + 6)]


def test_symbols_by_name_and_pattern_and_every_watermark() -> None:
    log = [tick(symbol, FROM + at) for at, symbol in enumerate(SYMBOLS)] + [watermark(FROM + 10), Copy(None, b"", FROM)]
    chosen = selected(replace(PLAN, symbols=("EURUSD", "*JPY")), log)
    assert [each.key for each in chosen] == [b"EURUSD", b"USDJPY", b"@sim/a"]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 400), max_size=4), st.integers(0, 1))
def test_wherever_it_stops_it_goes_on_the_same(seed: int, stops: list[int], filtered: int) -> None:
    log = [copy(item) for item in Maker(seed, 0.2).make(400)]
    times = sorted(each.timestamp for each in log)
    early = Control(kind=ControlKind.COVERAGE, feed="sim", shard="a", symbol="EURUSD", time=times[0])
    in_force = SymbolSpec(symbol="EURUSD", feed="sim", shard="a", broker_name="", digits=5, point=1e-5)
    plan = replace(
        PLAN,
        from_=times[len(times) // 4],
        to=times[3 * len(times) // 4],
        symbols=("EURUSD", "XAU*") if filtered else (),
        controls=(replace(early, kind=ControlKind.SYMBOL_SPEC, spec=in_force),),
        uncertain=(early,),
    )
    whole = selected(plan, log)
    pieces: list[Copy] = []
    standing = plan
    for stop in [*sorted(stops), len(log)]:
        selection = Selection(standing, CODEC)
        pieces += selection.opening()
        for offset in range(standing.next_offset, max(stop, standing.next_offset)):
            pieces += selection.take(log[offset], offset)
        standing = CODEC.decode(CODEC.encode(selection.standing()))  # type: ignore[assignment]
        assert standing.written == len(pieces)
    assert pieces == whole
