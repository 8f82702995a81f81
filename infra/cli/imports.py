"""``arbitrex import``: publish tick files into a world of their own."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from infra.cli.stopping import INTERRUPTED
from schemas.errors import ArbitrexError, BrokerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import Settings
    from producers.files.lean import TickFile
    from producers.importer import Summary
    from producers.imports import Terms

app = typer.Typer(help="Publish tick files into a world of their own.", no_args_is_help=True)

_REGISTRY_SECONDS: Final = 15.0


class Crossed(StrEnum):
    REJECT = "reject"
    KEEP = "keep"


@app.callback()
def _imports() -> None:
    """Publish tick files into a world of their own."""


@app.command()
def lean(
    paths: Annotated[list[Path], typer.Argument(help="Zip files, or folders that hold them.", show_default=False)],
    *,
    feed: Annotated[str, typer.Option(help="Whose prices these are: oanda, fxcm, …", show_default=False)],
    zone: Annotated[str, typer.Option(help="The clock of the files: UTC, UTC-5, New_York+7 or an IANA name.")],
    symbol: Annotated[str | None, typer.Option(help="Instead of the folder's name, in capitals.")] = None,
    into: Annotated[str | None, typer.Option(help="The world; lean-FEED unless said.", show_default=False)] = None,
    calendar: Annotated[
        str | None,
        typer.Option(
            help="fx, metals, 24/7, hours, JSON, or a library's such as XNYS; by the symbols file unless said."
        ),
    ] = None,
    crossed: Annotated[
        Crossed, typer.Option(help="What becomes of ticks with the bid above the ask.")
    ] = Crossed.REJECT,
    digits: Annotated[int | None, typer.Option(min=0, max=8, help="Decimals; as in the files unless said.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Times real time; as fast as can be unless said.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Process the world until it is drained.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a line is no tick.")] = False,
) -> None:
    """Publish QuantConnect Lean's tick files (…/tick/SYMBOL/YYYYMMDD_quote.zip) with their own times.

    Killed or interrupted at any moment, the same command goes on where it stopped; when all is published it publishes
    nothing.
    """
    from infra.market.library import find_calendar
    from infra.market.zones import ServerZone
    from producers.files.lean import discover
    from producers.imports import Terms, years_of
    from schemas.records import CrossedPolicy

    found = discover(paths, symbol)
    if found.ignored:
        _say(f"ignored {len(found.ignored)} zip files that are no quote ticks ({found.ignored[0]}, …)")
    terms = Terms(
        feed=feed,
        zone=ServerZone.parse(zone),
        calendar=find_calendar(calendar, years_of(found.files)) if calendar is not None else None,
        crossed=CrossedPolicy(crossed),
        digits=digits,
        speed=speed,
    )
    settings = _settings(into, feed)
    summary = _publish(settings, found.files, terms)
    if not summary.finished:
        _say("interrupted; the same command goes on where this one stopped")
        raise typer.Exit(INTERRUPTED)
    if run:
        from infra.cli.drain import drain

        if not drain(settings, _say):
            _say("interrupted before all was processed; the same command goes on")
            raise typer.Exit(INTERRUPTED)
    if strict and summary.malformed:
        raise ArbitrexError(f"{summary.malformed} malformed lines (--strict)")


def _settings(into: str | None, feed: str) -> Settings:
    """The settings of the world to import into, on the running stack if there is one."""
    from infra.settings import load
    from infra.supervisor.runfile import attached

    world = into or "lean-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in feed.lower())
    if world == "main":
        raise UsageError("an import needs a world of its own, since nothing old enters main: give another with --into")
    return attached(load(world=world))


def _publish(settings: Settings, files: Sequence[TickFile], terms: Terms) -> Summary:
    from infra import logs, provision
    from infra.cli.progress import ImportProgress
    from infra.registry.client import connect
    from producers.imports import publish

    logs.configure(settings.log, "import")
    try:
        changes = provision.apply(settings, historical=True)
    except BrokerError as error:
        raise BrokerError(
            f"{error}. Start a stack first (arbitrex up), or set ARBITREX_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    if changes:
        _say(f"world {settings.world}: {len(changes)} topics prepared")
    stopping = threading.Event()
    codec = connect(settings, stopping, wait_seconds=_REGISTRY_SECONDS)
    before = signal.signal(signal.SIGINT, lambda *_: stopping.set())
    try:
        with ImportProgress(len(files)) as watcher:
            summary = publish(settings, codec, files, terms, watcher=watcher, stopping=stopping)
    finally:
        signal.signal(signal.SIGINT, before)
    watcher.sum_up(summary, settings.world)
    return summary


def _say(line: str) -> None:
    typer.echo(line, err=True)
