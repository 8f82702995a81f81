"""``arbitrex verify``: a world's bars derived once more and compared."""

from __future__ import annotations

import re
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.stopping import INTERRUPTED, stopping
from infra.cli.times import FORMS, moment
from infra.iso import iso
from schemas.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from infra.proof.comparing import Comparison, Difference
    from infra.proof.matching import Account
    from infra.proof.verification import Report, Scope

_DIFFERENT: Final = 1
_EXAMPLES: Final = 10
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def verify(
    *,
    date_: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="One UTC day, instead of --from and --to.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help=f"Bars from then on; all unless said. {FORMS}", show_default=False)
    ] = None,
    to: Annotated[str | None, typer.Option(help="Bars that end by then.", show_default=False)] = None,
    symbols: Annotated[str | None, typer.Option(help="EURUSD,XAUUSD; all unless said.", show_default=False)] = None,
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
) -> None:
    """Prove that the bars are right: derive them once more, from the ticks, and compare every field.

    The derivation is code of its own. It takes the ticks of ticks.clean and the specs, gaps and coverage of ticks.raw,
    and holds what should be there against the last revision of each bar in the topic bars, with its provenance. Each
    tick of ticks.raw is found again, too: clean, rejected, a repeat or a dead letter. Where the world has the
    terminal's own bars (rates), it is said where they differ.

    Exit code 0: all is equal; 1: something is not; 2: nothing could be verified.
    """
    from rich.console import Console

    from infra import provision
    from infra.proof.reading import Reader, StoppedError
    from infra.proof.verification import records_to_read
    from infra.proof.verification import verify as prove
    from infra.registry.client import registry
    from infra.settings import load
    from infra.supervisor.runfile import attached
    from infra.topics import BARS, RATES
    from infra.worlds import World
    from schemas.codec import Codec

    scope = _scope(date_, from_, to, symbols)
    settings = attached(load(**({"world": world} if world else {})))
    present, name = provision.world_topics(settings), World(settings.world)
    if name.topic(BARS.name) not in present:
        raise UsageError(
            f"Kafka at {settings.kafka.bootstrap_servers} has no world {settings.world}; see: arbitrex world list"
        )
    console = Console(stderr=True, highlight=False)
    with stopping() as stop:
        codec = Codec(registry(settings.registry))
        total = records_to_read(Reader(settings, codec, stop), scope)
        try:
            with _progress(console) as progress:
                task = progress.add_task("reading", total=total)
                reader = Reader(settings, codec, stop, lambda count: progress.update(task, advance=count))
                report = prove(settings, reader, scope, with_rates=name.topic(RATES.name) in present)
        except StoppedError:
            console.print("interrupted: nothing can be said yet")
            raise typer.Exit(INTERRUPTED) from None
    _show(Console(highlight=False), report, settings.world)
    if not report.proved:
        raise typer.Exit(_DIFFERENT)
    if not report.bars.tallies and not report.account.raw:
        raise UsageError(f"world {settings.world} has neither ticks nor bars there: nothing was verified")


def _scope(date_: str | None, from_: str | None, to: str | None, symbols: str | None) -> Scope:
    from infra.proof.verification import FOREVER, Scope

    now = time.time_ns() // 1_000_000
    first, last = (0 if from_ is None else moment(from_, now)), (FOREVER if to is None else moment(to, now))
    if date_ is not None:
        if from_ is not None or to is not None:
            raise UsageError("give either --date, or --from and --to")
        if not _DAY.fullmatch(date_):
            raise UsageError(f"not a day: {date_!r}; give it as 2026-11-02")
        first = moment(date_, now)
        last = moment((date.fromisoformat(date_) + timedelta(days=1)).isoformat(), now)
    if first >= last:
        raise UsageError("the range is empty: --to must come after --from")
    return Scope(first, last, tuple(sorted(set((symbols or "").replace(",", " ").split()))))


def _progress(console: Console) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("records"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _show(console: Console, report: Report, world: str) -> None:
    console.print(_table(report.bars), soft_wrap=True)
    for difference in report.bars.differences:
        console.print(line(difference), markup=False, soft_wrap=True)
    if len(report.bars.differences) < report.bars.wrong:
        console.print(f"and {report.bars.wrong - len(report.bars.differences):,} more bars")
    console.print(_accounted(report.account), markup=False, soft_wrap=True)
    for text in (*report.account.examples, *report.foreign[:_EXAMPLES]):
        console.print(f"  {text}", markup=False, soft_wrap=True)
    if len(report.foreign) > _EXAMPLES:
        console.print(f"  and {len(report.foreign) - _EXAMPLES:,} more records that do not belong")
    for number, since in sorted(report.since.items()):
        console.print(f"partition {number}: older ticks are gone; verified from {iso(since)} on")
    if report.unprocessed:
        console.print(f"{report.unprocessed:,} records of ticks.raw are not processed yet and were left out")
    if report.rates is not None and report.rates.tallies:
        _show_rates(console, report.rates)
    verdict = "all bars are proved" if report.proved else "NOT as it should be"
    console.print(f"world {world}: {verdict}", markup=False)


def _table(comparison: Comparison) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    gone = any(tally.gone for _, tally in comparison.sorted())
    names = ["bars", "equal", "differing", "missing", "extra", *(["ticks gone"] if gone else [])]
    table = Table("symbol", "timeframe", box=SIMPLE_HEAD)
    for name in names:
        table.add_column(name, justify="right")
    for (symbol, timeframe), tally in comparison.sorted():
        counts = [tally.bars, tally.equal, tally.differing, tally.missing, tally.extra, tally.gone]
        style = "red" if tally.wrong else None
        table.add_row(symbol, timeframe, *(f"{count:,}" for count in counts[: len(names)]), style=style)
    return table


def line(difference: Difference) -> str:
    """A bar that is not as it should be, in one line."""
    bar = f"{difference.symbol} {difference.timeframe} {iso(difference.ts_open)}"
    if difference.what == "missing":
        return f"{bar}: missing, although its ticks are there"
    if difference.what == "extra":
        return f"{bar}: there, although its ticks and controls make no such bar"
    fields = ", ".join(
        f"{name} {_value(name, found)}, not {_value(name, own)}" for name, found, own in difference.fields
    )
    return f"{bar}: {fields}"


def _value(name: str, value: Any) -> Any:
    return iso(value) if name.endswith("_ts") or name.startswith("ts_") else value


def _accounted(account: Account) -> str:
    rejected = f"{account.rejected.total():,} rejected"
    if account.rejected:
        rejected += f" ({', '.join(f'{count:,} {reason}' for reason, count in account.rejected.most_common())})"
    text = (
        f"ticks.raw: {account.raw:,} ticks = {account.clean:,} clean + {rejected} "
        f"+ {account.repeats:,} repeats + {account.dead:,} dead letters"
    )
    if account.forgotten:
        text += f" + {account.forgotten:,} whose rejection is no longer in ticks.rejected"
    wrong = {
        "lost": account.lost,
        "in ticks.clean or ticks.rejected without a source": account.foreign,
        "altered": account.altered,
        "out of order": account.disordered,
    }
    return "; ".join([text, *(f"{count:,} {what}" for what, count in wrong.items() if count)])


def _show_rates(console: Console, rates: Comparison) -> None:
    compared = sum(tally.bars for tally in rates.tallies.values())
    differing = sum(tally.differing for tally in rates.tallies.values())
    console.print(f"the terminal's own bars (rates): {compared:,} compared, {differing:,} differ")
    if differing:
        console.print(_table(rates), soft_wrap=True)
    for difference in rates.differences[:_EXAMPLES]:
        console.print(f"  rates: {line(difference)}", markup=False, soft_wrap=True)
