"""A terminal in a process of its own, asked for its past: a call that hangs is killed with its process.

The package's calls never give way, so neither a limit nor Ctrl-C could end one in the process that made it.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Event
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra import logs, metrics
from infra.settings import Settings
from producers import sources
from producers import terminal as api
from producers.failures import TerminalAwayError, TooMuchError, TryAgainError, failure
from producers.files.days import StoppedError
from producers.opening import open_terminal
from producers.terminal import COPY_TICKS_ALL
from producers.zones import detect
from schemas.errors import ArbitrexError, SourceError

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
_LAG_MS: Final = 60_000
_LEAST_TRIES: Final = 3
"""However long each took."""
_LOOK_SECONDS: Final = 0.1
_START_SECONDS: Final = 30.0
"""What a process needs to begin, beside the terminal's own time."""

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A span of a symbol's past, whole seconds of the server's clock."""

    broker_name: str
    first: int
    last: int
    """Inclusive."""
    timeframe: int | None = None
    """None: ticks."""

    def __str__(self) -> str:
        call = "copy_ticks_range" if self.timeframe is None else "copy_rates_range"
        return f"{call}({self.broker_name}, {self.first}, {self.last})"


@dataclass(frozen=True, slots=True)
class Offered:
    """What the broker says of a symbol."""

    name: str
    digits: int
    point: float
    chart_mode: int
    description: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A connected terminal."""

    name: str
    maxbars: int
    now_ms: int
    """Its world's clock, UTC."""
    zone: str
    """Its broker's clock: the settings', or found in its bars."""
    symbols: tuple[Offered, ...]

    @property
    def settled_ms(self) -> int:
        """Up to when its history can be taken for complete: it lags what it quotes. UTC."""
        return self.now_ms - _LAG_MS


class TerminalProcess:
    """One process with one terminal; used by one thread.

    Its calls raise SourceError when trying again cannot help or has taken ``patience_seconds``, SettingsError for a
    source that there is not, TooMuchError for what is to be asked for in parts, StoppedError when asked to stop.
    """

    def __init__(self, settings: Settings, stopping: Event) -> None:
        self._settings, self._stopping = settings, stopping
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._opened: Opened | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def open(self) -> Opened:
        """The terminal, connected."""
        return self._until(self._open)

    def ask(self, question: Question) -> NDArray[np.void]:
        """The rows of an answer."""

        def once() -> NDArray[np.void]:
            self._open()
            rows: NDArray[np.void] = self._call(question, self._settings.producer.call_seconds)
            return rows

        return self._until(once)

    def _open(self) -> Opened:
        if self._opened is None:
            seconds = _START_SECONDS + self._settings.producer.terminal.timeout_seconds
            opened: Opened = self._call(None, seconds)
            self._opened = opened
        return self._opened

    def _until(self, once: Callable[[], T]) -> T:
        """What ``once`` gives, tried again as long as that can help."""
        pause, deadline = _FIRST_PAUSE, time.monotonic() + self._settings.producer.patience_seconds
        tries = 0
        while True:
            tries += 1
            try:
                return once()
            except (TerminalAwayError, TryAgainError) as error:
                self._count(error)
                if isinstance(error, TerminalAwayError):
                    self._opened = None
                if time.monotonic() >= deadline and tries >= _LEAST_TRIES:
                    raise SourceError(
                        f"{error}; gave up after {tries} tries and ARBITREX_PRODUCER__PATIENCE_SECONDS="
                        f"{self._settings.producer.patience_seconds:g}; the same command goes on"
                    ) from error
                log.info("asking the terminal again", reason=str(error))
            if self._stopping.wait(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                raise StoppedError
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _call(self, question: Question | None, seconds: float) -> Any:
        """Send a question (None: to connect) and wait for the answer; raise what it raised."""
        if self._process is None:
            self._start()
        assert self._pipe is not None  # noqa: S101 - started together
        deadline = time.monotonic() + seconds
        try:
            self._pipe.send(question)
            while not self._pipe.poll(_LOOK_SECONDS):
                if self._stopping.is_set():
                    self._kill()
                    raise StoppedError
                if time.monotonic() >= deadline:
                    self._kill()
                    raise TerminalAwayError(
                        f"{question or 'initialize'}: no answer in {seconds:g} s, its process was killed"
                    )
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._kill()
            raise TerminalAwayError(f"the process of the terminal has ended ({type(error).__name__})") from error
        if isinstance(answer, ArbitrexError):
            raise answer
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._settings), daemon=True, name="terminal")
        with _uninterrupted():
            self._process.start()
        theirs.close()

    def _kill(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = self._opened = None

    def _count(self, error: SourceError) -> None:
        producer = self._settings.producer
        metrics.SOURCE_ERRORS.labels(producer.feed, producer.shard, type(error).__name__).inc()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started within the block is not reached by Ctrl-C: that is for the one who asks."""
    if sys.platform == "win32":
        yield  # there the process ignores it itself, once it runs
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, settings: Settings) -> None:
    """Answer questions until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    desk = _Desk(settings)
    with suppress(EOFError, OSError):
        while True:
            question: Question | None = pipe.recv()
            try:
                answer: object = desk.connect() if question is None else desk.answer(question)
            except ArbitrexError as error:
                answer = error
            pipe.send(answer)


class _Desk:
    """The terminal's side."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source: sources.Source | None = None

    def connect(self) -> Opened:
        if self._source is None:
            self._source = sources.open_source(self._settings, dict)
        terminal = self._source.terminal
        info = open_terminal(terminal, self._settings.producer.terminal)
        offered = terminal.symbols_get()
        if offered is None:
            raise failure("symbols_get", terminal.last_error())
        symbols = tuple(
            Offered(each.name, each.digits, each.point, each.chart_mode, getattr(each, "description", ""))
            for each in offered
        )
        now = self._source.clock.now_ms()
        zone = sources.zone(self._settings) or detect(terminal, [each.name for each in symbols], now)
        return Opened(info.name, info.maxbars, now, zone.name, symbols)

    def answer(self, question: Question) -> NDArray[np.void]:
        assert self._source is not None  # noqa: S101 - connected before
        terminal, name = self._source.terminal, question.broker_name
        if not terminal.symbol_select(name, True):
            raise failure(f"symbol_select({name})", terminal.last_error())
        rows = (
            terminal.copy_ticks_range(name, question.first, question.last, COPY_TICKS_ALL)
            if question.timeframe is None
            else terminal.copy_rates_range(name, question.timeframe, question.first, question.last)
        )
        if rows is None:
            error = terminal.last_error()
            if error[0] == api.INVALID_PARAMS:  # what it says to more bars than it may have, too
                raise TooMuchError(f"{question}: the terminal says {error[1]} ({error[0]})")
            raise failure(str(question), error)
        return rows
