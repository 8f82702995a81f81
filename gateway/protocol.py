"""What clients may say and what they are told: Kraken's envelope, Alpaca's error numbers. No sockets, no clock.

docs/websocket.md is the reference for client authors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import orjson

from gateway.cursor import Cursor
from gateway.patterns import ALL, MOST_STARS, is_usable

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
METHODS: Final = ("subscribe", "unsubscribe", "subscriptions", "ping", "authenticate")
KEPT_ROWS: Final = 100
"""Closed bars of every series, and events, that a snapshot may hold."""

_LONGEST_TEXT: Final = 64
_LONGEST_LIST: Final = 1_000
_LARGEST_ID: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
_LONGEST_INTERVAL: Final = 60_000
_LONGEST_TOKEN: Final = 256
_PLACE: Final = frozenset({"channel", "symbol", "timeframe", "series"})
_PARAMETERS: Final = {
    "subscribe": _PLACE | {"snapshot", "cursor", "interval"},
    "unsubscribe": _PLACE,
    "authenticate": frozenset({"token"}),
}

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


Command = Ping | ListSubscriptions | Subscribe | Authenticate
Load = Callable[[str | bytes], Any]


class _RefusedError(Exception):
    """Carries a refusal out of parsing."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(data: str | bytes, timeframes: Sequence[str], load: Load = orjson.loads) -> Command | Refusal:
    """The command in a client's message, or why it is none. Raises nothing, whatever the message is."""
    method = req_id = None
    try:
        message = _object(data, load)
        req_id = _request_id(message)
        method = _method(message)
        if method == "ping":
            return Ping(req_id)
        if method == "subscriptions":
            return ListSubscriptions(req_id)
        params = _params(message, method)
        if method == "authenticate":
            return Authenticate(_token(params), req_id)
        return _subscription(method, params, timeframes, req_id)
    except _RefusedError as refused:
        return Refusal(refused.code, str(refused), method, req_id)


def _subscription(method: str, params: Message, timeframes: Sequence[str], req_id: int | str | None) -> Subscribe:
    channel = _channel(params)
    if "series" in params:
        streams = _series(params, channel, timeframes)
    else:
        symbols = _symbols(params, channel)
        wanted = _timeframes(params, channel, timeframes)
        if len(symbols) * len(wanted) > _LONGEST_LIST:
            raise _RefusedError(Code.SYNTAX, f"more than {_LONGEST_LIST} subscriptions in one message")
        streams = tuple(Stream(channel, symbol, timeframe) for symbol in symbols for timeframe in wanted)
    cursor, interval = _cursor(params, channel), _interval(params, channel)
    if cursor is not None and interval:
        raise _RefusedError(Code.SYNTAX, "cursor asks for every row, interval for some: give one of them")
    snapshot = _snapshot(params)
    return Subscribe(method, channel, streams, 0 if cursor else snapshot, cursor, interval, req_id)


def _object(data: str | bytes, load: Load) -> Message:
    try:
        message = load(data)
    except ValueError:
        raise _RefusedError(Code.SYNTAX, "not JSON, nor what this connection's codec writes") from None
    if not isinstance(message, dict):
        raise _RefusedError(Code.SYNTAX, "a message is an object with a method")
    return message


def _request_id(message: Message) -> int | str | None:
    value = message.get("req_id")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ID:
        return value
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST_TEXT):
        return value
    raise _RefusedError(
        Code.SYNTAX, f"req_id is an integer from 0 to {_LARGEST_ID} or a text of at most {_LONGEST_TEXT} characters"
    )


def _method(message: Message) -> str:
    method = message.get("method")
    if not isinstance(method, str):
        raise _RefusedError(Code.SYNTAX, f"method is missing: one of {', '.join(METHODS)}")
    if method not in METHODS:
        raise _RefusedError(Code.UNKNOWN_METHOD, f"method {_shown(method)} is none of {', '.join(METHODS)}")
    return method


def _params(message: Message, method: str) -> Message:
    params, known = message.get("params"), _PARAMETERS[method]
    if not isinstance(params, dict):
        raise _RefusedError(Code.SYNTAX, f"params is an object with some of {', '.join(sorted(known))}")
    if unknown := sorted(map(str, params.keys() - known)):
        raise _RefusedError(Code.SYNTAX, f"parameter {_shown(unknown[0])} is none of {', '.join(sorted(known))}")
    return params


def _token(params: Message) -> str:
    token = params.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= _LONGEST_TOKEN:
        raise _RefusedError(Code.SYNTAX, "token is the text that arbitrex token create printed")
    return token


def _channel(params: Message) -> str:
    channel = params.get("channel")
    if not isinstance(channel, str) or channel not in CHANNELS:
        raise _RefusedError(Code.INVALID_CHANNEL, f"channel {_shown(channel)} is none of {', '.join(CHANNELS)}")
    return channel


def _symbols(params: Message, channel: str) -> tuple[str, ...]:
    symbols = _words(params.get("symbol", ALL if channel == EVENTS else None))
    if symbols is None:
        raise _RefusedError(
            Code.SYNTAX,
            f"symbol is a name, {ALL} or a list of 1 to {_LONGEST_LIST} names of at most {_LONGEST_TEXT} characters",
        )
    return _patterned(symbols)


def _patterned(symbols: tuple[str, ...]) -> tuple[str, ...]:
    for symbol in symbols:
        if not is_usable(symbol):
            raise _RefusedError(Code.SYNTAX, f"symbol {_shown(symbol)} has more than {MOST_STARS} {ALL}")
    return symbols


def _series(params: Message, channel: str, known: Sequence[str]) -> tuple[Stream, ...]:
    """Pairs of symbol and timeframe, for subscriptions that are no product of both."""
    pairs = params["series"]
    if channel not in WITH_TIMEFRAME or not isinstance(pairs, list) or not 1 <= len(pairs) <= _LONGEST_LIST:
        raise _RefusedError(Code.SYNTAX, f"series is a list of 1 to {_LONGEST_LIST} pairs of symbol and timeframe")
    streams = []
    for pair in pairs:
        names = _words(pair)
        if "symbol" in params or "timeframe" in params or names is None or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise _RefusedError(Code.SYNTAX, "series holds pairs of symbol and timeframe, and stands for both of them")
        (symbol,) = _patterned((pair[0],))
        (timeframe,) = _timeframes({"timeframe": pair[1]}, channel, known)
        streams.append(Stream(channel, symbol, timeframe))
    return tuple(dict.fromkeys(streams))


def _timeframes(params: Message, channel: str, known: Sequence[str]) -> tuple[str, ...]:
    if "timeframe" not in params:
        return (ALL,)
    if channel not in WITH_TIMEFRAME:
        raise _RefusedError(Code.SYNTAX, f"channel {channel} has no timeframe")
    wanted = _words(params["timeframe"])
    if wanted is None or any(name not in known and name != ALL for name in wanted):
        shown = _shown(params["timeframe"])
        raise _RefusedError(Code.INVALID_TIMEFRAME, f"timeframe {shown} is none of {', '.join(known)}, {ALL}")
    return wanted


def _snapshot(params: Message) -> int:
    snapshot = params.get("snapshot", True)
    if isinstance(snapshot, bool):
        return KEPT_ROWS if snapshot else 0
    if isinstance(snapshot, int) and 1 <= snapshot <= KEPT_ROWS:
        return snapshot
    raise _RefusedError(Code.SYNTAX, f"snapshot is true, false, or how many rows of each series, 1 to {KEPT_ROWS}")


def _cursor(params: Message, channel: str) -> Cursor | None:
    text = params.get("cursor")
    if text is None:
        return None
    if channel not in RESUMABLE:
        raise _RefusedError(Code.SYNTAX, f"{LIVE} tells states: subscribe anew, its snapshot is the newest one")
    try:
        cursor = Cursor.parse(text) if isinstance(text, str) else None
    except ValueError:
        cursor = None
    if cursor is None or cursor.channel != channel:
        raise _RefusedError(Code.SYNTAX, f"cursor is none that a message of {channel} held")
    return cursor


def _interval(params: Message, channel: str) -> int:
    interval = params.get("interval", 0)
    if not isinstance(interval, int) or isinstance(interval, bool) or not 0 <= interval <= _LONGEST_INTERVAL:
        raise _RefusedError(Code.SYNTAX, f"interval is a number of milliseconds from 0 to {_LONGEST_INTERVAL}")
    if interval and channel not in STATES:
        raise _RefusedError(Code.SYNTAX, f"every row of {channel} counts: only {', '.join(sorted(STATES))} have one")
    return interval


def _words(value: Any) -> tuple[str, ...] | None:
    """A name or a list of names without repeats; None for anything else."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not 1 <= len(names) <= _LONGEST_LIST:
        return None
    if not all(isinstance(name, str) and 0 < len(name) <= _LONGEST_TEXT for name in names):
        return None
    return tuple(dict.fromkeys(names))


def _shown(value: Any) -> str:
    """A client's own value, short enough to be told back."""
    try:
        text = orjson.dumps(value).decode(errors="replace")
    except TypeError:  # what only another codec can hold
        text = type(value).__name__
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
