"""The words of the protocol: channels, error numbers, commands. No sockets, no clock.

docs/websocket.md is the reference for client authors; `gateway.parsing` makes commands of messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gateway.cursor import Cursor
from gateway.patterns import ALL
from gateway.place import Place

TICKS: Final = "ticks"
BARS: Final = "bars"
LIVE: Final = "bars.live"
EVENTS: Final = "events"
CHANNELS: Final = (TICKS, BARS, LIVE, EVENTS)
WITH_TIMEFRAME: Final = frozenset({BARS, LIVE})
RESUMABLE: Final = (TICKS, BARS, EVENTS)
"""Channels that a cursor goes on in; of the other one the snapshot is the state."""
STATES: Final = frozenset({TICKS, LIVE})
"""Channels whose newest row stands for the ones before it, so that they may be conflated."""
SEEK, SPEED, STEP, PAUSE, RESUME, TO_LIVE = "seek", "speed", "step", "pause", "resume", "live"
METHODS: Final = (
    "subscribe", "unsubscribe", "subscriptions", "ping", "authenticate", SEEK, SPEED, STEP, PAUSE, RESUME, TO_LIVE,
)  # fmt: skip
KEPT_ROWS: Final = 100
"""Closed bars of every series, and events, that a snapshot may hold."""

REPLAY: Final = "replay"
"""The channel on which a replay tells its state, and the type of its data messages."""
RESTING: Final = frozenset({TICKS, BARS, LIVE})
"""Channels whose subscriptions rest while a connection is in the past."""
MOST_SYMBOLS: Final = 50
"""Of one replay."""
LEAST_SPEED: Final = 0.1
MOST_SPEED: Final = 10_000
END_OF_TIME: Final = 253_402_300_800_000
"""The year 10000, UTC epoch milliseconds."""

Message = dict[str, Any]


class Code(IntEnum):
    """Error numbers. Those from 400 to 410 and 500 mean what they mean at Alpaca; the others are our own."""

    SYNTAX = 400
    NOT_AUTHENTICATED = 401
    AUTHENTICATION_FAILED = 402
    AUTHENTICATION_TIMEOUT = 404
    SYMBOL_LIMIT = 405
    CONNECTION_LIMIT = 406
    SLOW_CLIENT = 407
    NOT_ALLOWED = 409
    INVALID_CHANNEL = 410
    UNKNOWN_METHOD = 411
    UNKNOWN_SYMBOL = 412
    TOO_LARGE = 413
    INVALID_TIMEFRAME = 414
    NOT_SUBSCRIBED = 415
    CATCHING_UP = 416
    IN_THE_PAST = 417
    NOT_IN_THE_PAST = 418
    REPLAY_LIMIT = 419
    TOO_MANY_MESSAGES = 429
    INTERNAL = 500


class Stream(NamedTuple):
    """One subscription: a channel, a symbol or a pattern, a timeframe or ``*``."""

    channel: str
    symbol: str
    timeframe: str = ALL

    def as_message(self) -> Message:
        """As it stands in acknowledgements; the timeframe only where a channel has one."""
        message = {"channel": self.channel, "symbol": self.symbol}
        return message | {"timeframe": self.timeframe} if self.channel in WITH_TIMEFRAME else message


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done; becomes an error message."""

    code: Code
    text: str
    method: str | None = None
    req_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    req_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Authenticate:
    token: str
    req_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class ListSubscriptions:
    req_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Take on (or give up) streams of one channel."""

    method: str
    channel: str
    streams: tuple[Stream, ...]
    snapshot: int = KEPT_ROWS
    """At most so many rows of each series; 0: no snapshot."""
    cursor: Cursor | None = None
    """Go on from here."""
    interval: int = 0
    """Milliseconds in which at most one message comes, telling the newest; 0: every row."""
    req_id: int | str | None = None

    @property
    def adding(self) -> bool:
        return self.method == "subscribe"

    def refusal(self, code: Code, text: str) -> Refusal:
        """This command's refusal."""
        return Refusal(code, text, self.method, self.req_id)


@dataclass(frozen=True, slots=True)
class Seek:
    """Go to a moment of the past and play from there. Times: UTC epoch milliseconds."""

    time: int
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...] = ()
    """Whose closed bars come as well."""
    to: int | None = None
    """Where it ends; None: it runs on into the present."""
    speed: float | None = 1.0
    """How many times its pace; None: as fast as the client reads."""
    paused: bool = False
    cursor: Place | None = None
    """Where an earlier replay of the same stood: go on from there."""
    req_id: int | str | None = None
    method: str = SEEK

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What is played."""
        ticks = (Stream(TICKS, symbol) for symbol in self.symbols)
        bars = (Stream(BARS, symbol, timeframe) for symbol in self.symbols for timeframe in self.timeframes)
        return (*ticks, *bars)

    def refusal(self, code: Code, text: str) -> Refusal:
        """This command's refusal."""
        return Refusal(code, text, self.method, self.req_id)


@dataclass(frozen=True, slots=True)
class Steer:
    """What is done to the replay: ``pause``, ``resume``, leave it for what is ``live``, or as the subclasses say."""

    method: str
    req_id: int | str | None = None

    def refusal(self, code: Code, text: str) -> Refusal:
        """This command's refusal."""
        return Refusal(code, text, self.method, self.req_id)


@dataclass(frozen=True, slots=True)
class Speed(Steer):
    """Another speed."""

    speed: float | None = None
    """How many times its pace; None: as fast as the client reads."""


@dataclass(frozen=True, slots=True)
class Step(Steer):
    """Go on by so many ticks, or to the next close of a bar, and pause there."""

    ticks: int = 0
    timeframe: str = ""


Command = Ping | ListSubscriptions | Subscribe | Authenticate | Seek | Steer
