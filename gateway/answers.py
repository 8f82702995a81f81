"""What clients are told: Kraken's envelope. No sockets, no clock; times are UTC epoch milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.protocol import Authenticate, Message, Ping, Refusal, Seek, Speed, Steer, Step, Stream, Subscribe


def accepted(command: Subscribe, stream: Stream, time_in: int, time_out: int) -> Message:
    """The acknowledgement of one subscription. Times: UTC epoch milliseconds."""
    result = stream.as_message()
    if command.adding:
        result |= {"snapshot": command.snapshot > 0}
        result |= {"resumed": True} if command.cursor else {}
        result |= {"interval": command.interval} if command.interval else {}
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


def authenticated(command: Authenticate, scopes: Message, time_in: int, time_out: int) -> Message:
    """A token was taken; ``scopes`` say what it allows."""
    return _answer("authenticate", command.req_id, time_in, time_out, result=scopes, success=True)


def sought(command: Seek, time_in: int, time_out: int) -> Message:
    """The acknowledgement of a seek: what is played."""
    result = {
        "time": command.time,
        "to": command.to,
        "speed": shown(command.speed),
        "paused": command.paused,
        "symbol": list(command.symbols),
        "timeframe": list(command.timeframes),
    }
    return _answer(command.method, command.req_id, time_in, time_out, result=result, success=True)


def steered(command: Steer, time_in: int, time_out: int) -> Message:
    """The acknowledgement of what is done to a replay."""
    result: Message = {}
    if isinstance(command, Speed):
        result = {"speed": shown(command.speed)}
    elif isinstance(command, Step):
        result = {"timeframe": command.timeframe} if command.timeframe else {"ticks": command.ticks}
    return _answer(command.method, command.req_id, time_in, time_out, result=result, success=True)


def shown(speed: float | None) -> float | str:
    """A speed as clients say it."""
    return "max" if speed is None else speed


def pong(command: Ping, time_in: int, time_out: int) -> Message:
    """The answer to a ping."""
    return _answer("pong", command.req_id, time_in, time_out)


def data(channel: str, kind: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Message:
    """A data message."""
    return {"channel": channel, "type": kind, **more, "data": rows}


def _answer(method: str | None, req_id: int | str | None, time_in: int, time_out: int, **fields: Any) -> Message:
    message: Message = {"method": method} if method else {}
    message |= fields | {"time_in": time_in, "time_out": time_out}
    return message if req_id is None else message | {"req_id": req_id}
