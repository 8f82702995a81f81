"""A terminal's own bars into ``rates``: several terminals' processes ask, one thread publishes."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Event
from typing import Final, Protocol

from infra.kafka_log import beginnings, read_to_end
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.topics import RATES
from infra.worlds import World
from producers.files.days import Span, StoppedError
from producers.history.rates import TERMINAL_TIMEFRAMES, Stood, bars, unpublished
from producers.history.spans import MINUTE_MS, chunks, in_parts
from producers.history.terminals import Question, TerminalProcess
from producers.publisher import Publisher
from producers.restore import server_time
from producers.terminal import Rates
from schemas.codec import Codec
from schemas.errors import BrokerError
from schemas.records import Bar, BarStatus, EventKind, FeedEvent

_WAIT_SECONDS: Final = 0.2
_AHEAD: Final = 4
"""Answers that wait to be published, a worker."""


class Watcher(Protocol):
    """Who is told how it goes."""

    def reading(self, what: str) -> None:
        """A span's turn has come."""

    def chunk_done(self, bars: int, published: int) -> None:
        """A span is on its way: so many bars, so many of them new or changed."""

    def waiting(self) -> None:
        """Kafka does not answer."""


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol's bars of one timeframe."""

    symbol: str
    broker_name: str
    timeframe: str

    @property
    def prefix(self) -> bytes:
        """What the keys of its records begin with."""
        return f"{self.symbol}|{self.timeframe}|".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked for."""

    feed: str
    zone: ServerZone
    start: int
    """Bars that open from then on, UTC ms."""
    end: int
    """Bars that open before, and have ended by then."""
    maxbars: int
    workers: int
    now: int
    """When this is done, UTC ms: what the ledger says."""

    def spans(self, timeframe: str) -> Iterator[Span]:
        """Server time, as a terminal can be asked."""
        start, end = server_time(self.start, self.zone), server_time(self.end, self.zone)
        return chunks(start, end, _usual_ms(timeframe), self.maxbars)


@dataclass(slots=True)
class Summary:
    """What was done."""

    bars: int = 0
    published: int = 0
    revised: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One answer."""

    series: Series
    rates: Rates
    last: bool
    """Of its series."""


class Ingest:
    """One run; used by one thread."""

    def __init__(self, settings: Settings, codec: Codec, terms: Terms, watcher: Watcher, stopping: Event) -> None:
        self._settings, self._codec, self._terms = settings, codec, terms
        self._watcher, self._stopping = watcher, stopping
        self._answers: queue.Queue[_Chunk] = queue.Queue(_AHEAD * terms.workers)
        self._counts: dict[Series, Summary] = {}
        self.summary = Summary()

    def run(self, every: Sequence[Series], terminal: TerminalProcess) -> Summary:
        """Publish what does not stand yet; the first worker asks ``terminal``. Raises BrokerError and SourceError."""
        standing = self._standing(every)
        todo: queue.SimpleQueue[Series] = queue.SimpleQueue()
        for series in every:
            todo.put(series)
        publisher = Publisher(self._settings, self._codec, self._stopping, feed=self._terms.feed, shard="rates")
        with ExitStack() as ending:
            ending.callback(publisher.close)
            threads = ending.enter_context(ThreadPoolExecutor(self._terms.workers, thread_name_prefix="rates"))
            others = [TerminalProcess(self._settings, self._stopping) for _ in range(self._terms.workers - 1)]
            working = [threads.submit(self._work, each, todo) for each in (terminal, *others)]
            try:
                self._publish(publisher, working, standing)
                self._settle(publisher)
            except BaseException:
                self._stopping.set()  # for the workers
                raise
        self.summary.finished = not self._stopping.is_set()
        return self.summary

    def _publish(self, publisher: Publisher, working: list[Future[None]], standing: dict[str, Stood]) -> None:
        """Publish answers until every worker is done, or asked to stop. Raises what a worker raised."""
        while not self._stopping.is_set():
            done = all(future.done() for future in working)
            for future in working:
                if future.done():
                    future.result()
            try:
                chunk = self._answers.get(timeout=0 if done else _WAIT_SECONDS)
            except queue.Empty:
                if done:
                    return
                continue
            self._take(publisher, chunk, standing)

    def _take(self, publisher: Publisher, chunk: _Chunk, standing: dict[str, Stood]) -> None:
        terms, series = self._terms, chunk.series
        found = [
            bar
            for bar in bars(
                chunk.rates,
                symbol=series.symbol,
                feed=terms.feed,
                timeframe=series.timeframe,
                zone=terms.zone,
                closed_by=terms.end,
            )
            if bar.ts_open >= terms.start
        ]
        fresh = list(unpublished(found, standing))
        publisher.rates(series.symbol, fresh)
        revised = sum(bar.status == BarStatus.REVISED for bar in fresh)
        for count in (self.summary, self._counts.setdefault(series, Summary())):
            count.bars += len(found)
            count.published += len(fresh)
            count.revised += revised
        self._watcher.chunk_done(len(found), len(fresh))
        if chunk.last:
            publisher.event(self._event(publisher, series))

    def _event(self, publisher: Publisher, series: Series) -> FeedEvent:
        count, terms = self._counts[series], self._terms
        return FeedEvent(
            time=terms.now,
            kind=EventKind.HISTORY,
            feed=terms.feed,
            shard=publisher.shard,
            symbol=series.symbol,
            from_=terms.start,
            to=terms.end,
            text=f"rates of {series.broker_name} {series.timeframe}: {count.bars} bars, {count.published} of them new, "
            f"{count.revised} revised",
        )

    def _settle(self, publisher: Publisher) -> None:
        while not publisher.flush(1.0):
            self._watcher.waiting()
            if self._stopping.is_set() and not publisher.flush(5.0):
                raise BrokerError("Kafka does not take the last bars; the same command publishes what is missing")

    def _work(self, terminal: TerminalProcess, todo: queue.SimpleQueue[Series]) -> None:
        """Ask a terminal for one series after another."""
        with terminal, suppress(StoppedError, queue.Empty):
            while True:
                self._ask(terminal, todo.get_nowait())

    def _ask(self, terminal: TerminalProcess, series: Series) -> None:
        spans = list(self._terms.spans(series.timeframe))
        number = TERMINAL_TIMEFRAMES[series.timeframe]

        def ask(span: Span) -> Rates:
            return terminal.ask(Question(series.broker_name, -(-span[0] // 1_000), -(-span[1] // 1_000) - 1, number))

        for span in spans:
            self._watcher.reading(f"{series.symbol} {series.timeframe}")
            chunk = _Chunk(series, in_parts(ask, span), last=span is spans[-1])
            while True:
                try:
                    self._answers.put(chunk, timeout=_WAIT_SECONDS)
                    break
                except queue.Full:
                    if self._stopping.is_set():
                        raise StoppedError from None

    def _standing(self, every: Sequence[Series]) -> dict[str, Stood]:
        """What of these series stands in ``rates``, by key."""
        prefixes = {series.prefix for series in every}
        starts = beginnings(self._settings.kafka, World(self._settings.world).topic(RATES.name))
        found: dict[str, Stood] = {}
        for messages in read_to_end(self._settings.kafka, starts):
            for message in messages:
                key, value = message.key() or b"", message.value()
                if value is not None and key[: key.rfind(b"|") + 1] in prefixes:
                    record = self._codec.decode(value)
                    if isinstance(record, Bar):
                        found[record.key] = Stood.of(record)
        return found


def _usual_ms(timeframe: str) -> int:
    """How long a bar of the timeframe is, at least about."""
    minutes = {"M": 1, "H": 60, "D": 1_440, "W": 10_080}
    if timeframe == "MN1":
        return 28 * 1_440 * MINUTE_MS
    return minutes[timeframe[0]] * int(timeframe[1:]) * MINUTE_MS
