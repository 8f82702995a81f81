"""What clients may say and what they are told: Kraken's envelope, Alpaca's error numbers. No sockets, no clock.

docs/websocket.md is the reference for client authors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import orjson

TICKS: Final = "ticks"
BARS: Final = "bars"
LIVE: Final = "bars.live"
EVENTS: Final = "events"
CHANNELS: Final = (TICKS, BARS, LIVE, EVENTS)
WITH_TIMEFRAME: Final = frozenset({BARS, LIVE})
ALL: Final = "*"
METHODS: Final = ("subscribe", "unsubscribe", "subscriptions", "ping")

_LONGEST_TEXT: Final = 64
_LONGEST_LIST: Final = 1_000
_LARGEST_ID: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
_PARAMETERS: Final = frozenset({"channel", "symbol", "timeframe", "snapshot"})

Message = dict[str, Any]


class Code(IntEnum):
    """Error numbers. 400, 405, 406, 407, 410 and 500 mean what they mean at Alpaca; the others are our own."""

    SYNTAX = 400
    SYMBOL_LIMIT = 405
    CONNECTION_LIMIT = 406
    SLOW_CLIENT = 407
    INVALID_CHANNEL = 410
    UNKNOWN_METHOD = 411
    UNKNOWN_SYMBOL = 412
    TOO_LARGE = 413
    INVALID_TIMEFRAME = 414
    NOT_SUBSCRIBED = 415
    TOO_MANY_MESSAGES = 429
    INTERNAL = 500


class Stream(NamedTuple):
    """One subscription: a channel, a symbol or ``*``, a timeframe or ``*``."""

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
class ListSubscriptions:
    req_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Take on (or give up) the product of symbols and timeframes on one channel."""

    method: str
    streams: tuple[Stream, ...]
    snapshot: bool = True
    req_id: int | str | None = None

    @property
    def adding(self) -> bool:
        return self.method == "subscribe"

    def refusal(self, code: Code, text: str) -> Refusal:
        """This command's refusal."""
        return Refusal(code, text, self.method, self.req_id)


Command = Ping | ListSubscriptions | Subscribe


class _RefusedError(Exception):
    """Carries a refusal out of parsing."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse(text: str | bytes, timeframes: Sequence[str]) -> Command | Refusal:
    """The command in a client's message, or why it is none. Raises nothing, whatever the message is."""
    method = req_id = None
    try:
        message = _object(text)
        req_id = _request_id(message)
        method = _method(message)
        if method == "ping":
            return Ping(req_id)
        if method == "subscriptions":
            return ListSubscriptions(req_id)
        params = _params(message)
        channel = _channel(params)
        symbols = _symbols(params, channel)
        wanted = _timeframes(params, channel, timeframes)
        snapshot = _snapshot(params)
        if len(symbols) * len(wanted) > _LONGEST_LIST:
            raise _RefusedError(Code.SYNTAX, f"more than {_LONGEST_LIST} subscriptions in one message")  # noqa: TRY301
    except _RefusedError as refused:
        return Refusal(refused.code, str(refused), method, req_id)
    streams = tuple(Stream(channel, symbol, timeframe) for symbol in symbols for timeframe in wanted)
    return Subscribe(method, streams, snapshot, req_id)


def _object(text: str | bytes) -> Message:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _RefusedError(Code.SYNTAX, "not JSON") from None
    if not isinstance(message, dict):
        raise _RefusedError(Code.SYNTAX, "a message is a JSON object with a method")
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


def _params(message: Message) -> Message:
    params = message.get("params")
    if not isinstance(params, dict):
        raise _RefusedError(Code.SYNTAX, "params is an object with channel and symbol")
    if unknown := sorted(params.keys() - _PARAMETERS):
        known = ", ".join(sorted(_PARAMETERS))
        raise _RefusedError(Code.SYNTAX, f"parameter {_shown(unknown[0])} is none of {known}")
    return params


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
    return symbols


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


def _snapshot(params: Message) -> bool:
    snapshot = params.get("snapshot", True)
    if not isinstance(snapshot, bool):
        raise _RefusedError(Code.SYNTAX, "snapshot is true or false")
    return snapshot


def accepted(command: Subscribe, stream: Stream, time_in: int, time_out: int) -> Message:
    """The acknowledgement of one subscription. Times: UTC epoch milliseconds."""
    result = stream.as_message() | ({"snapshot": command.snapshot} if command.adding else {})
    return _answer(command.method, command.req_id, time_in, time_out, result=result, success=True)


def refused(refusal: Refusal, time_in: int, time_out: int, stream: Stream | None = None) -> Message:
    """An error message; ``stream`` names the one subscription that it is about."""
    about = stream.as_message() if stream else {}
    return _answer(
        refusal.method,
        refusal.req_id,
        time_in,
        time_out,
        **about,
        code=int(refusal.code),
        error=refusal.text,
        success=False,
    )


def listed(streams: Sequence[Stream], req_id: int | str | None, time_in: int, time_out: int) -> Message:
    """All subscriptions of a connection."""
    return _answer(
        "subscriptions", req_id, time_in, time_out, result=[stream.as_message() for stream in streams], success=True
    )


def pong(command: Ping, time_in: int, time_out: int) -> Message:
    """The answer to a ping."""
    return _answer("pong", command.req_id, time_in, time_out)


def data(channel: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> Message:
    """A data message; ``kind`` is ``snapshot`` or ``update``."""
    return {"channel": channel, "type": kind, "data": rows}


def _answer(method: str | None, req_id: int | str | None, time_in: int, time_out: int, **fields: Any) -> Message:
    message: Message = {"method": method} if method else {}
    message |= fields | {"time_in": time_in, "time_out": time_out}
    return message if req_id is None else message | {"req_id": req_id}


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
    text = orjson.dumps(value).decode(errors="replace")
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
