"""What clients say to commands: every input is one, or a numbered refusal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeGuard

import orjson

from gateway.cursor import Cursor
from gateway.patterns import ALL, MOST_STARS, is_pattern, is_usable
from gateway.place import Place
from gateway.protocol import (
    BARS,
    CHANNELS,
    END_OF_TIME,
    EVENTS,
    KEPT_ROWS,
    LEAST_SPEED,
    LIVE,
    METHODS,
    MOST_SPEED,
    MOST_SYMBOLS,
    RESUMABLE,
    SEEK,
    SPEED,
    STATES,
    STEP,
    TICKS,
    WITH_TIMEFRAME,
    Authenticate,
    Code,
    Command,
    ListSubscriptions,
    Message,
    Ping,
    Refusal,
    Seek,
    Speed,
    Steer,
    Step,
    Stream,
    Subscribe,
)

_LONGEST_TEXT: Final = 64
_LONGEST_LIST: Final = 1_000
_LARGEST_ID: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
_LONGEST_INTERVAL: Final = 60_000
_LONGEST_TOKEN: Final = 256
_MOST_STEPS: Final = 10_000
_PLACE: Final = frozenset({"channel", "symbol", "timeframe", "series"})
_PARAMETERS: Final = {
    "subscribe": _PLACE | {"snapshot", "cursor", "interval"},
    "unsubscribe": _PLACE,
    "authenticate": frozenset({"token"}),
    SEEK: frozenset({"time", "symbol", "timeframe", "to", "speed", "paused", "cursor"}),
    SPEED: frozenset({"speed"}),
    STEP: frozenset({"ticks", "timeframe"}),
}

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
        return _command(message, method, timeframes, req_id)
    except _RefusedError as refused:
        return Refusal(refused.code, str(refused), method, req_id)


def _command(message: Message, method: str, timeframes: Sequence[str], req_id: int | str | None) -> Command:
    params = _params(message, method) if method in _PARAMETERS else {}
    found: Command
    match method:
        case "ping":
            found = Ping(req_id)
        case "subscriptions":
            found = ListSubscriptions(req_id)
        case "authenticate":
            found = Authenticate(_token(params), req_id)
        case "seek":
            found = _seek(params, timeframes, req_id)
        case "speed":
            found = Speed(method, req_id, _speed(params))
        case "step":
            found = _step(params, timeframes, req_id)
        case "subscribe" | "unsubscribe":
            found = _subscription(method, params, timeframes, req_id)
        case _:
            found = Steer(method, req_id)
    return found


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


def _seek(params: Message, timeframes: Sequence[str], req_id: int | str | None) -> Seek:
    symbols = _words(params.get("symbol"))
    if symbols is None or len(symbols) > MOST_SYMBOLS or any(map(is_pattern, symbols)):
        raise _RefusedError(Code.SYNTAX, f"symbol is a name or a list of 1 to {MOST_SYMBOLS} names, without {ALL}")
    wanted = _words(params.get("timeframe", [])) or ()
    if "timeframe" in params and (not wanted or any(name not in timeframes for name in wanted)):
        raise _no_timeframe(params["timeframe"], timeframes)
    start, end, paused = _time(params, "time"), None, params.get("paused", False)
    if params.get("to") is not None:
        end = _time(params, "to")
        if end < start:
            raise _RefusedError(Code.SYNTAX, "to is before time")
    if not isinstance(paused, bool):
        raise _RefusedError(Code.SYNTAX, "paused is true or false")
    return Seek(start, symbols, wanted, end, _speed(params, 1), paused, _place(params), req_id)


def _step(params: Message, timeframes: Sequence[str], req_id: int | str | None) -> Step:
    ticks, timeframe = (params.get(name) for name in ("ticks", "timeframe"))
    if (ticks is None) == (timeframe is None):
        raise _RefusedError(Code.SYNTAX, "step is by ticks, or to the next close of a timeframe: give one of them")
    if ticks is None:
        if not isinstance(timeframe, str) or timeframe not in timeframes:
            raise _no_timeframe(timeframe, timeframes)
        return Step(STEP, req_id, timeframe=timeframe)
    if not _whole(ticks) or not 1 <= ticks <= _MOST_STEPS:
        raise _RefusedError(Code.SYNTAX, f"ticks is a number from 1 to {_MOST_STEPS}")
    return Step(STEP, req_id, ticks)


def _place(params: Message) -> Place | None:
    text = params.get("cursor")
    if text is None:
        return None
    try:
        place = Place.parse(text) if isinstance(text, str) else None
    except ValueError:
        place = None
    if place is None or (place.end.ticks.channel, place.end.bars.channel) != (TICKS, BARS):
        raise _RefusedError(Code.SYNTAX, "cursor is none that a message of a replay held")
    return place


def _time(params: Message, name: str) -> int:
    value = params.get(name)
    if not _whole(value) or not 0 <= value < END_OF_TIME:
        raise _RefusedError(Code.SYNTAX, f"{name} is a moment in UTC epoch milliseconds")
    return value


def _speed(params: Message, usual: float | None = None) -> float | None:
    speed = params.get("speed", usual)
    if speed == "max":
        return None
    if isinstance(speed, int | float) and not isinstance(speed, bool) and LEAST_SPEED <= speed <= MOST_SPEED:
        return speed
    raise _RefusedError(Code.SYNTAX, f"speed is a number from {LEAST_SPEED} to {MOST_SPEED}, or max")


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_timeframe(value: Any, known: Sequence[str]) -> _RefusedError:
    return _RefusedError(Code.INVALID_TIMEFRAME, f"timeframe {_shown(value)} is none of {', '.join(known)}")


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
        is_pair = isinstance(pair, list) and names is not None and len(pair) == 2  # noqa: PLR2004 - a pair
        if "symbol" in params or "timeframe" in params or not is_pair:
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
