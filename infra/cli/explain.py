"""``arbitrex explain``: one bar, back to its ticks."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.stopping import INTERRUPTED, stopping
from infra.cli.times import FORMS, moment
from infra.iso import iso

if TYPE_CHECKING:
    from rich.console import Console

    from infra.proof.explanation import Explanation

_PLACE: Final = re.compile(r"(\d{12,13})\.(\d{1,9})")
"""How the key of a tick, volume or value bar ends: day and number."""
_HEAD: Final = 10
_TAIL: Final = 5
_MADE: Final = {
    "ts_open": "{begin}",
    "ts_close": "{end}",
    "open": "{price} of the first tick",
    "high": "highest {price}",
    "low": "lowest {price}",
    "close": "{price} of the last tick",
    "ask_open": "ask of the first tick",
    "ask_high": "highest ask",
    "ask_low": "lowest ask",
    "ask_close": "ask of the last tick",
    "tick_volume": "{counted}",
    "real_volume": "volume of the ticks on which last or volume moved",
    "spread": "least ask less bid, in points of {point}",
    "tick_count": "ticks that make it",
    "feed_gap_ms": "how much of it lies in gaps",
    "status": "revised, else partial if a gap or a change of zone is in it",
    "revision": "corrections that changed it after it had closed",
    "rules": "hash of the rules, calendar and spec",
    "first_tick_ts": "the first tick by time and ordinal",
    "last_tick_ts": "the last one",
    "first_offset": "its place in ticks.raw (header)",
    "last_offset": "of the last that came (header)",
    "cause": "of what closed or revised it (header)",
}


def explain(
    symbol: Annotated[str, typer.Argument(help="EURUSD, …", show_default=False)],
    timeframe: Annotated[str, typer.Argument(help="M1 … MN1, or T:1000, V:500, N:1000000.", show_default=False)],
    at: Annotated[
        str,
        typer.Argument(
            metavar="TIME",
            help=f"A moment within the bar: {FORMS}. Or how its key ends: 1399000000000.3.",
            show_default=False,
        ),
    ],
    *,
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
) -> None:
    """Explain one bar: its ticks read back by its provenance, how each field comes of them, and whether it does.

    Shown as well: its revisions, gaps, and the ticks of its window that were rejected, with the reason. Where there is
    no such bar, it says why, as far as the log tells, and names the nearest ones.

        arbitrex explain EURUSD M1 2014-05-07T12:31Z

        arbitrex explain EURUSD T:1000 1399000000000.3

    Exit code 0: the log is as it should be; 1: the bar is not what its ticks make.
    """
    from rich.console import Console

    from infra.proof.explaining import explain as look
    from infra.proof.reading import Reader, StoppedError
    from infra.registry.client import registry
    from infra.settings import load
    from infra.supervisor.runfile import attached
    from schemas.codec import Codec

    settings = attached(load(**({"world": world} if world else {})))
    place = _PLACE.fullmatch(at.strip())
    when = moment(place[1] if place else at, time.time_ns() // 1_000_000)
    number = int(place[2]) if place else None
    progress = Console(stderr=True, highlight=False)
    with stopping() as stop:
        codec = Codec(registry(settings.registry))
        try:
            with progress.status("reading") as status:
                read = [0]

                def advance(count: int) -> None:
                    read[0] += count
                    status.update(f"reading: {read[0]:,} records")

                reader = Reader(settings, codec, stop, advance)
                found = look(settings, reader, symbol, timeframe, when, number=number)
        except StoppedError:
            progress.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
    _show(Console(highlight=False), found)
    if not found.proved:
        raise typer.Exit(1)


def _show(console: Console, found: Explanation) -> None:
    def say(text: str, style: str | None = None) -> None:
        console.print(text, markup=False, soft_wrap=True, style=style)

    which = "" if found.number is None else f"{found.day}.{found.number}, "
    bounds = f"{iso(found.ts_open)} to {iso(found.ts_close)}"
    say(f"{found.symbol} {found.timeframe} {which}{bounds}, partition {found.partition}")
    if found.others:
        say(f"  (of its day the moment is in {', '.join(map(str, found.others))} as well: TIME may be DAY.NUMBER)")
    _revisions(found, say)
    _ticks(found, say)
    for gap in found.gaps:
        say(f"gap: ticks from {iso(gap.from_)} to {iso(gap.to)} are lost (ticks.raw offset {gap.offset})")
    if found.cause:
        say(f"closed or revised by {found.cause}")
    if found.derived is not None and found.day is not None:
        say(_filled(found.timeframe, found.derived))
    if found.derived is not None or found.revisions:
        console.print(_fields(found), soft_wrap=True)
    say(*_verdict(found))


def _revisions(found: Explanation, say: Any) -> None:
    for row in found.revisions:
        say(
            f"  bars offset {row['at']}: revision {row['revision']}, {row['status']}, open {row['open']} "
            f"high {row['high']} low {row['low']} close {row['close']}, {row['tick_count']} ticks"
        )
    if found.revisions and found.revisions[0]["revision"] > 0:
        say("  (revisions before it are compacted away, or it had no tick when it ended)")
    if not found.revisions:
        say("there is no such bar", style="yellow")
        for reason in found.absent:
            say(f"  {reason}")
        _nearest(found, say)


def _verdict(found: Explanation) -> tuple[str, str]:
    """What to say of it in the end, and how."""
    if found.doubt:
        return f"{found.doubt}: nobody can say any more whether it is right", "yellow"
    if not found.revisions and found.derived is None:
        return "that there is none is right", "green"
    if not found.revisions:
        return "NOT right: it should be there", "red"
    if found.derived is None:
        return "NOT right: the ticks and controls of the log make no such bar", "red"
    if found.unlike:
        return f"NOT right: {', '.join(found.unlike)}", "red"
    return "it is what its ticks make", "green"


def _ticks(found: Explanation, say: Any) -> None:
    ticks = found.raw or [row | {"fate": "clean"} for row in found.made.iter_rows(named=True)]
    if not ticks:
        return
    where = "ticks.raw, by its provenance" if found.raw else "ticks.clean"
    if any(row["source"] < 0 for row in ticks):
        where += "; the sources of some are gone"
    say(f"{len(ticks):,} ticks of its window ({where}):")
    hidden = len(ticks) - _HEAD - _TAIL
    for row in ticks[:_HEAD] if hidden > 0 else ticks:
        say(_tick(row))
    if hidden > 0:
        say(f"  … {hidden:,} more …")
        for row in ticks[-_TAIL:]:
            say(_tick(row))
        rejected = [row for row in ticks[_HEAD:-_TAIL] if row["fate"] not in {"clean", "repeat"}]
        for row in rejected[:_HEAD]:
            say(_tick(row))
        if len(rejected) > _HEAD:
            say(f"  … {len(rejected) - _HEAD:,} more rejected …")


def _tick(row: dict[str, Any]) -> str:
    fate = "" if row["fate"] == "clean" else f"  {row['fate']}"
    correction = "  correction" if row["correction"] else ""
    price = f"bid {row['bid']} ask {row['ask']}" + (f" last {row['last']}" if row["last"] else "")
    volume = f" volume {row['volume']}" if row["volume"] else ""
    return (
        f"  {iso(row['ts_event'])} #{row['ordinal']}  {price}{volume}  flags {row['flags']}  "
        f"offset {row['source']}{correction}{fate}"
    )


def _fields(found: Explanation) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("field", "in bars", "derived", "how", box=SIMPLE_HEAD)
    last = found.revisions[-1] if found.revisions else {}
    by_last = found.spec is not None and found.spec.chart_mode == "last"
    words = {
        "price": "last price" if by_last else "bid",
        "counted": "trades" if by_last else "ticks on which the bid moved",
        "point": found.spec.point if found.spec else "?",
        "begin": "the start of the interval on the server's clock",
        "end": "the end of the interval on the server's clock",
    }
    if found.day is not None:
        words["begin"] = "where the bar before ended, at most the first tick's time"
        words["end"] = "the filling tick's time + 1, or the server's next midnight"
    for name, how in _MADE.items():
        there, own = (_shown(name, row.get(name)) for row in (last, found.derived or {}))
        wrong = name in found.unlike or bool(last and found.derived is None)
        table.add_row(name, there, own, how.format(**words), style="red" if wrong else None)
    return table


def _filled(timeframe: str, derived: dict[str, Any]) -> str:
    """Whether the bar is full, and of what."""
    from infra.market.counts import Counted, measure_of

    measure = measure_of(timeframe)
    what = {Counted.TICKS: "ticks", Counted.VOLUME: "volume", Counted.VALUE: "price times volume"}[measure.counted]
    how = "full with its last tick" if derived["full"] else "not full when its day ended"
    return f"{derived['sum']:,.10g} of {measure.size:,.10g} {what}: {how}"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_ts") or name.startswith("ts_"):
        return iso(value)
    return f"{value[:12]}…" if name == "rules" else str(value)


def _nearest(found: Explanation, say: Any) -> None:
    for where, row in (("before", found.before), ("after", found.after)):
        if row is not None:
            say(f"  the nearest bar {where}: {iso(row['ts_open'])}, close {row['close']}, {row['tick_count']} ticks")
