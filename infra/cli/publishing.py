"""What import and backfill have in common: a world of the past, written and then processed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from infra.cli.stopping import INTERRUPTED
from schemas.errors import BrokerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from infra.settings import Settings
    from producers.files.days import TickDay
    from producers.importer import Summary
    from producers.imports import Terms

REGISTRY_SECONDS: Final = 15.0


def own_world(name: str, what: str) -> Settings:
    """The settings of the world to write, on the running stack if there is one. Raises UsageError for the live one."""
    from infra.settings import load
    from infra.supervisor.runfile import attached

    world = "".join(c if c.isalnum() or c in "-_" else "-" for c in name.lower())
    if world == "main":
        raise UsageError(f"{what} needs a world of its own, since nothing old enters main: give another with --into")
    return attached(load(world=world))


def of_shard(settings: Settings, name: str | None) -> Settings:
    """The settings of one shard's terminal; the first one's unless named. Raises UsageError, SettingsError."""
    from infra.shards import shard, shards

    return shard(settings, name) if name is not None else next(iter(shards(settings).values()))


def publish(settings: Settings, days: Sequence[TickDay], terms: Terms, asked: Event) -> Summary:
    """Publish days of ticks with a progress bar, as far as not ``asked`` to stop."""
    from infra import logs, provision
    from infra.cli.progress import ImportProgress
    from infra.registry.client import connect
    from producers import imports

    logs.configure(settings.log, terms.called)
    try:
        changes = provision.apply(settings, historical=True)
    except BrokerError as error:
        raise BrokerError(
            f"{error}. Start a stack first (arbitrex up), or set ARBITREX_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    if changes:
        say(f"world {settings.world}: {len(changes)} topics prepared")
    codec = connect(settings, asked, wait_seconds=REGISTRY_SECONDS)
    with ImportProgress(len(days)) as watcher:
        summary = imports.publish(settings, codec, days, terms, watcher=watcher, stopping=asked)
    watcher.sum_up(summary, settings.world)
    return summary


def conclude(settings: Settings, summary: Summary, *, run: bool) -> None:
    """Process the world if asked to; exit when this, or the publishing before it, was interrupted."""
    if not summary.finished:
        say("interrupted; the same command goes on where this one stopped")
        raise typer.Exit(INTERRUPTED)
    if run:
        from infra.cli.drain import drain

        if not drain(settings, say):
            say("interrupted before all was processed; the same command goes on")
            raise typer.Exit(INTERRUPTED)


def words(text: str) -> tuple[str, ...]:
    """A list written as ``EURUSD,GBPUSD`` or with blanks."""
    return tuple(text.replace(",", " ").split())


def say(line: str) -> None:
    """A line for people, beside the output."""
    typer.echo(line, err=True)
