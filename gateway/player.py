"""One replay on a socket: history in the order of events, at its pace, and on into what comes now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from gateway import answers
from gateway.clock import Clock
from gateway.hub import Hub
from gateway.market import Row
from gateway.past import Past, is_bar, order, time_of
from gateway.place import Place
from gateway.problems import BusyError
from gateway.protocol import (
    BARS,
    END_OF_TIME,
    REPLAY,
    RESUME,
    TICKS,
    Code,
    Message,
    Refusal,
    Seek,
    Speed,
    Steer,
    Step,
)
from gateway.recent import Gathering
from gateway.replay import MOST_ROWS, Replays, due
from infra import metrics
from schemas.errors import ArbitrexError

_BEAT_SECONDS: Final = 1.0
"""How often the clock is told while it runs."""
_AGAIN_SECONDS: Final = 0.25
"""After which a reader of the past that found no room tries again."""


@dataclass(frozen=True, slots=True)
class Voice:
    """The way to the client."""

    answer: Callable[[Message], None]
    refuse: Callable[[Refusal], None]
    list_all: Callable[[], None]
    """Tell it all its subscriptions."""
    drained: asyncio.Event
    """It has taken what it was told."""


class Player:
    """Plays a stretch of the log after the other, each in the order of events, until there is none left.

    The first one is all that was written when the replay began, the next what was written meanwhile, and so on; so
    every record is told once. While a stretch is played, what comes meanwhile is gathered in memory; when that holds
    all that is left, and it is due, it is told, and the replay is live.
    """

    def __init__(self, seek: Seek, replays: Replays, hub: Hub, voice: Voice) -> None:
        self.seek = seek
        self._replays, self._hub, self._voice = replays, hub, voice
        self._place = seek.cursor or Place(None, replays.here(), seek.time)
        self._gathering: Gathering | None = None
        self._loop = asyncio.get_running_loop()
        self._clock = Clock(self._place.time, seek.speed, self._loop.time)
        self._paused, self._ended = seek.paused, False
        self._step: Step | None = None
        self._changed = asyncio.Event()
        self._next_beat = 0.0

    async def run(self) -> bool:
        """Play. True: nothing is left, and what comes next comes live; False: it has ended where it was to end."""
        self.tell()
        try:
            return await self._run()
        finally:
            self._hub.forget(self._gathering)

    async def _run(self) -> bool:
        if not await self._is_of_this_log():
            self._voice.refuse(self.seek.refusal(Code.SYNTAX, "cursor is of another log; seek without it"))
            self.end()
            return False
        while True:
            self._gather()
            past = self._past()
            while (rows := await self._read(past)) is not None:
                await self._play(rows)
            if self.seek.to is not None:
                self.end()
                return False
            while (missed := self._missed()) is not None:
                self._go_on()
                if self._is_due(missed):
                    self._say(missed)
                    return True
                self._gather()
                await (self._play(missed) if missed else self._at_the_end())
            self._go_on()

    async def _is_of_this_log(self) -> bool:
        """Whether what was to be played was written; another gateway may have been ahead."""
        return all([await self._hub.reached(cursor) for cursor in self._place.end])

    def _gather(self) -> None:
        """Keep what comes behind the stretch; it cannot be had so if the stretch ended a while ago."""
        self._hub.forget(self._gathering)
        self._gathering = None
        if self.seek.to is None and self._place.end == self._replays.here():
            self._gathering = Gathering(self.seek.streams)
            self._hub.gather(self._gathering)

    def _go_on(self) -> None:
        """A stretch is played: the next one is what was written meanwhile."""
        self._place = Place(self._place.end, self._replays.here(), self._clock.time)

    def steer(self, command: Steer) -> None:
        """Do what the client says."""
        if self._ended:
            return
        if isinstance(command, Speed):
            self._clock.change(command.speed)
        else:
            self._paused = command.method != RESUME
            self._step = command if isinstance(command, Step) else None
        self._clock.run(running=not self._paused)
        self._changed.set()
        if self._step is None:
            self.tell()

    def end(self) -> None:
        """Nothing more is played."""
        self._paused, self._ended = True, True
        self._clock.run(running=False)
        self.tell()

    def tell(self, state: str | None = None, **more: Any) -> None:
        """Tell the state."""
        found = state or ("ended" if self._ended else "paused" if self._paused else "playing")
        row = {"state": found, "time": self._clock.time, "speed": answers.shown(self._clock.speed)} | more
        cursor = {} if more else {"cursor": self._cursor()}
        self._answer(answers.data(REPLAY, "update", [row], **cursor))
        self._next_beat = self._loop.time() + _BEAT_SECONDS

    def _past(self) -> Past:
        seek = self.seek
        span = seek.time, END_OF_TIME if seek.to is None else seek.to
        return self._replays.past((seek.symbols, seek.timeframes), span, self._place)

    async def _read(self, past: Past) -> list[Row] | None:
        """What comes next; the clock waits for it."""
        while True:
            self._clock.run(running=False)
            try:
                return await past.more()
            except BusyError:
                await asyncio.sleep(_AGAIN_SECONDS)
            except ArbitrexError as error:
                text = f"the replay cannot go on: {error}; it is paused, and resume tries again"
                self._voice.refuse(self.seek.refusal(Code.INTERNAL, text))
                self._halt()
                while self._paused and self._step is None:
                    await self._wait(None)
            finally:
                self._clock.run(running=not self._paused)

    def _missed(self) -> list[Row] | None:
        """What was written since, as far as it is in memory; of a bar the last revision, as in a stretch."""
        if self._gathering is None or self._gathering.rows is None:
            return None
        found = {order(row): row for row in self._gathering.rows if time_of(row) >= self.seek.time}
        return [found[place] for place in sorted(found)]

    def _is_due(self, rows: Sequence[Row]) -> bool:
        """Whether all of some rows may be told at once."""
        if self._paused or len(rows) > MOST_ROWS:
            return False
        return not rows or self._clock.delay(time_of(rows[-1])) <= 0

    async def _play(self, rows: Sequence[Row]) -> None:
        place = 0
        while place < len(rows):
            await self._until_due(time_of(rows[place]))
            stop = self._reach(rows, place)
            self._say(rows[place:stop])
            if self._paused and self._step is None:
                self.tell()
            place = stop
            await asyncio.sleep(0)  # a client that reads quickly would leave no room for others
            await self._voice.drained.wait()
            self._beat()

    async def _until_due(self, time: int) -> None:
        self._clock.following = time
        while self._step is None:
            delay = None if self._paused else self._clock.delay(time)
            if delay is not None and delay <= 0:
                return
            await self._wait(delay)

    def _reach(self, rows: Sequence[Row], place: int) -> int:
        """Up to where rows are told at once."""
        if self._step is None:
            return due(rows, place, self._clock.speed)
        stop, self._step = stepped(rows, place, self._step)
        return stop

    async def _at_the_end(self) -> None:
        """There is nothing to play, and it does not play: a step ends here, a pause lasts."""
        if self._step is not None:
            self._halt()
        await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        """Wait until something changes, or for some seconds."""
        self._changed.clear()
        if seconds is not None:
            seconds = min(seconds, max(self._next_beat - self._loop.time(), 0.0))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._beat()

    def _halt(self) -> None:
        self._paused, self._step = True, None
        self.tell()

    def _beat(self) -> None:
        if not self._paused and self._loop.time() >= self._next_beat:
            self.tell()

    def _say(self, rows: Sequence[Row]) -> None:
        for bars, group in groupby(rows, key=is_bar):
            told = list(group)
            self._clock.told(time_of(told[-1]))
            self._place = replace(self._place, told=order(told[-1]))
            self._answer(answers.data(BARS if bars else TICKS, REPLAY, told, cursor=self._cursor()))

    def _cursor(self) -> str:
        self._place = replace(self._place, time=self._clock.time)
        return str(self._place)

    def _answer(self, message: Message) -> None:
        metrics.CLIENT_MESSAGES.labels(REPLAY).inc()
        self._voice.answer(message)


def stepped(rows: Sequence[Row], first: int, step: Step) -> tuple[int, Step | None]:
    """Up to where a step goes in some rows, and what is left of it."""
    last = min(first + MOST_ROWS, len(rows))
    if step.timeframe:
        closes = (time_of(row) for row in rows[first:last] if is_bar(row) and row["timeframe"] == step.timeframe)
        close = next(closes, None)
        if close is None:
            return last, step
        behind = (place for place in range(first, len(rows)) if order(rows[place]) >= (close, True))
        return next(behind, len(rows)), None
    left = step.ticks
    for place in range(first, last):
        left -= not is_bar(rows[place])
        if not left:
            return place + 1, None
    return last, replace(step, ticks=left)
