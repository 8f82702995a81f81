"""``arbitrex replay``: historical ticks once more, in a world of their own."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from infra.cli.stopping import INTERRUPTED, interruptible
from infra.cli.times import FORMS, moment, span
from schemas.errors import BrokerError, SettingsError, UsageError

if TYPE_CHECKING:
    from infra.settings import Settings
    from producers.replay.planning import Bound, Request
    from producers.replay.replayer import Summary
    from schemas.records import Replay

_REGISTRY_SECONDS: Final = 15.0
_OFFSET: Final = re.compile(r"(\d*)@(\d+)")


def replay(
    *,
    into: Annotated[str, typer.Option(help="The world to write; a new one, or the one to go on with.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help=f"Where to begin: {FORMS}; or offsets: @5000 in every partition, 2@5000,3@70 in those alone. "
            "All that is kept unless said.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Where to end, that moment or offset not included; what there is now unless said."),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Names or patterns, such as EURUSD,XAU*; all unless said.", show_default=False)
    ] = None,
    speed: Annotated[str, typer.Option(help="Times real time, such as 10 or 0.5; or max.")] = "max",
    loop: Annotated[
        bool,
        typer.Option(
            "--loop",
            help="Again and again, in worlds INTO, INTO-2, INTO-3, …; a finished round drops the one before it.",
        ),
    ] = False,
    run: Annotated[bool, typer.Option("--run", help="Process the world meanwhile, until it is drained.")] = False,
    source: Annotated[str, typer.Option(help="The world to read.")] = "main",
) -> None:
    """Write a range of a world's ticks.raw into a world of its own.

    The same bytes, times, order and partitions. What was in force at its start
    (specs, coverage, open gaps) is written first, so that bars are as honest as
    they were: one that began before the range is not published.

    Space pauses and goes on. Killed or interrupted at any moment, the same
    command goes on where it stopped, with the range that it found first.

        arbitrex replay --from "last 2 h" --into again --run

        arbitrex replay --from 9h --to 8h --symbols "EUR*" --speed 10 --into slow

    Order is kept within a partition: where the source wrote one series ahead of
    another, as an import does, a paced replay does the same.
    """
    if into == "main":
        raise UsageError("a replay needs a world of its own, since nothing old enters main: give another with --into")
    if into == source:
        raise UsageError(f"world {source} cannot be replayed into itself: give another with --into")
    request, times = _request(source, from_, to, symbols), _speed(speed)
    if not loop:
        _Round(into, request, times, run=run).work()
        return
    for number in itertools.count(_newest(into)):
        this, before = (_Round(_name(into, each), request, times, run=run) for each in (number, number - 1))
        if not this.work(before.pattern if number > 1 else list):
            raise UsageError("the range holds no record of these symbols: there is nothing to repeat")
        if number > 1:
            before.drop()


class _Round:
    """One world that is written."""

    def __init__(self, world: str, request: Request, speed: float | None, *, run: bool) -> None:
        from infra import logs
        from infra.settings import load
        from infra.supervisor.runfile import attached

        self._settings = attached(load(world=world))
        self._request, self._speed, self._run = request, speed, run
        logs.configure(self._settings.log, "replay")

    def work(self, pattern: Callable[[], list[Replay]] = list) -> int:
        """Write it, to ``pattern`` if there is one, and process it if asked to; how many records it holds."""
        from infra.cli import keys
        from infra.cli.progress import ReplayProgress
        from infra.registry.client import connect
        from producers.pace import Pace
        from producers.replay.service import Destination

        stopping = threading.Event()
        with _alone(self._settings):
            self._provide()
            codec = connect(self._settings, stopping, wait_seconds=_REGISTRY_SECONDS)
            destination = Destination(self._settings, codec, self._request)
            pace = Pace(self._speed, stopping)
            hint = "space pauses" if keys.available() else ""
            with (
                ReplayProgress(self._settings.world, hint) as watcher,
                keys.pressed({" ": lambda: watcher.held(held=pace.toggle())}),
            ):
                summary = self._write(
                    lambda: destination.write(pace, watcher, stopping, pattern), stopping, watcher.say
                )
            watcher.sum_up(summary)
        if not summary.finished:
            _interrupted()
        return summary.written + summary.before

    def pattern(self) -> list[Replay]:
        """What is to be repeated."""
        from infra.registry.client import connect
        from producers.replay.planning import again
        from producers.replay.service import Destination

        return again(Destination(self._settings, connect(self._settings), self._request).standing())

    def drop(self) -> None:
        """Delete the world, unless somebody uses it."""
        from infra import provision, world_admin
        from infra.supervisor import runfile

        world = self._settings.world
        if not provision.world_topics(self._settings):
            return
        running = runfile.read(self._settings.home)
        if running is not None and running.world == world:
            _say(f"world {world} stays: a stack runs it")
            return
        try:
            world_admin.drop_from_kafka(self._settings)
        except BrokerError as error:
            _say(f"world {world} stays: {error}")
            return
        world_admin.drop_from_lake(self._settings)
        world_admin.drop_files(self._settings)
        _say(f"world {world} dropped")

    def _provide(self) -> None:
        """The world's topics, with as many partitions as the source has."""
        from infra import provision
        from infra.topics import TICKS_RAW
        from infra.worlds import World

        source = self._settings.model_copy(update={"world": self._request.source})
        try:
            if World(source.world).topic(TICKS_RAW.name) not in provision.world_topics(source):
                raise UsageError(f"there is no world {source.world} to replay; arbitrex world list shows what there is")
            there = World(self._settings.world).topic(TICKS_RAW.name) in provision.world_topics(self._settings)
            if there and not provision.is_historical(self._settings):
                raise UsageError(f"world {self._settings.world} is a live one: give another with --into")
            kafka = self._settings.kafka.model_copy(update={"partitions": provision.partitions(source)})
            changes = provision.apply(self._settings.model_copy(update={"kafka": kafka}), historical=True)
        except BrokerError as error:
            raise BrokerError(
                f"{error}. Start a stack first (arbitrex up), or set ARBITREX_KAFKA__BOOTSTRAP_SERVERS"
            ) from error
        if changes:
            _say(f"world {self._settings.world}: {len(changes)} topics prepared")

    def _write(self, write: Callable[[], Summary], stopping: threading.Event, say: Callable[[str], None]) -> Summary:
        from infra.cli.drain import drain

        if not self._run:
            with interruptible(stopping):
                return write()
        with ThreadPoolExecutor(1, thread_name_prefix="replay") as threads:
            writing = threads.submit(write)
            try:
                drained = drain(self._settings, say, lambda: writing.done() and writing.result().finished)
            finally:
                stopping.set()
            summary = writing.result()
        if summary.finished and not drained:
            _say("interrupted before all was processed; the same command goes on")
            raise typer.Exit(INTERRUPTED)
        return summary


def _request(source: str, from_: str | None, to: str | None, symbols: str | None) -> Request:
    from producers.replay.planning import Request

    now = int(time.time() * 1_000)
    if from_ is not None and to is not None and "@" not in from_ + to:
        span(from_, to, now)
    names = tuple((symbols or "").replace(",", " ").split())
    asked = f"{source} from {from_ or 'its beginning'} to {to or 'its end'}, {' '.join(names) or 'all symbols'}"
    return Request(source, asked, _bound(from_, now), _bound(to, now), names)


def _bound(text: str | None, now: int) -> Bound:
    """Raises UsageError."""
    from producers.replay.planning import Bound

    if text is None:
        return Bound()
    if "@" not in text:
        return Bound(time=moment(text, now))
    offsets: dict[int | None, int] = {}
    for part in text.replace(",", " ").split():
        match = _OFFSET.fullmatch(part)
        if match is None:
            raise UsageError(f"{part!r} is no offset: write @5000 for every partition, 2@5000 for partition 2")
        offsets[int(match[1]) if match[1] else None] = int(match[2])
    return Bound(offsets=offsets)


def _speed(text: str) -> float | None:
    """Times real time; None: as fast as can be. Raises UsageError."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.001 <= speed < math.inf:  # noqa: PLR2004 - a thousand times slower than it was
        raise UsageError(f"--speed {text}: give max, or a number of at least 0.001: 10 is ten times real time")
    return speed


def _name(into: str, number: int) -> str:
    return into if number < 2 else f"{into}-{number}"  # noqa: PLR2004 - the first has no number


def _newest(into: str) -> int:
    """The latest round there is of a loop; 1 when there is none."""
    from infra import world_admin
    from infra.settings import load
    from infra.supervisor.runfile import attached

    rounds = re.compile(rf"{re.escape(into)}-(\d+)")
    names = [world.name for world in world_admin.found(attached(load()))]
    return max((int(match[1]) for name in names if (match := rounds.fullmatch(name))), default=1)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """No second replay into the same world from this machine meanwhile. Raises UsageError, SettingsError."""
    from infra.locks import try_lock

    path = settings.home / f"replay-{settings.world}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise SettingsError(
            f"ARBITREX_HOME={settings.home}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    with file:
        if not try_lock(file):
            raise UsageError(f"another replay is writing world {settings.world}; wait for it, or stop it")
        yield


def _interrupted() -> NoReturn:
    _say("interrupted; the same command goes on where this one stopped")
    raise typer.Exit(INTERRUPTED)


def _say(line: str) -> None:
    typer.echo(line, err=True)
