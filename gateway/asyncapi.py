"""The WebSocket's description as AsyncAPI 3, made of the protocol's own vocabulary. Pure.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from typing import Any, Final

from gateway.protocol import (
    BARS,
    CHANNELS,
    EVENTS,
    LEAST_SPEED,
    LIVE,
    METHODS,
    MOST_SPEED,
    MOST_SYMBOLS,
    PAUSE,
    REPLAY,
    RESUMABLE,
    RESUME,
    SEEK,
    SPEED,
    STATES,
    STEP,
    TICKS,
    TO_LIVE,
    WITH_TIMEFRAME,
    Code,
)
from schemas.definitions import definition

Schema = dict[str, Any]

_RECORDS: Final = {TICKS: "Tick", BARS: "Bar", LIVE: "Bar", EVENTS: "FeedEvent"}
_TYPES: Final = {
    "string": "string", "int": "integer", "long": "integer", "double": "number", "boolean": "boolean",
}  # fmt: skip
_ID: Final[Schema] = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "maxLength": 64}]}
_NAMES: Final[Schema] = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_TIME: Final[Schema] = {"type": "integer", "description": "UTC epoch milliseconds"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}
_SPEED: Final[Schema] = {"oneOf": [{"type": "number", "minimum": LEAST_SPEED, "maximum": MOST_SPEED}, {"const": "max"}]}


def asyncapi(version: str) -> Schema:
    """The whole description."""
    sent, received = _commands(), answers()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Arbitrex gateway", "version": version, "description": "docs/websocket.md is its text."},
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/v1/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*sent, *received)},
            }
        },
        "operations": {
            "command": _operation("receive", sent),
            "tell": _operation("send", received),
        },
        "components": {"messages": {name: {"payload": schema} for name, schema in (sent | received).items()}},
    }


def answers() -> dict[str, Schema]:
    """What the gateway says, by kind."""
    found = {
        "subscribed": _answer(["subscribe", "unsubscribe"], result=_stream(snapshot=True)),
        "listed": _answer(["subscriptions"], result={"type": "array", "items": _stream(snapshot=False)}),
        "authenticated": _answer(["authenticate"], result={"type": "object"}),
        "sought": _answer([SEEK], result=_sought()),
        "speed": _answer([SPEED], result=_object({"speed": _SPEED})),
        "stepped": _answer([STEP], result={"oneOf": _steps()}),
        "steered": _answer([PAUSE, RESUME, TO_LIVE], result=_object({})),
        "replay": _message(REPLAY, ["update"], _replay(), {"cursor": _TEXT}, ("cursor",)),
        "pong": _object({"method": {"const": "pong"}}, _ENVELOPE),
        "error": _error(),
        "heartbeat": _message("heartbeat", ["update"], _heartbeat(), {}),
        "status": _message("status", ["snapshot", "update"], _status(), {"heartbeat_interval": _COUNT}, ()),
    }
    for channel in CHANNELS:
        more: Schema = {"merged": _COUNT} if channel in STATES else {}
        cursor: Schema = {"cursor": _TEXT} if channel in RESUMABLE else {}
        found[channel] = _message(channel, ["snapshot", "update"], row(channel), more | cursor, tuple(more))
        if channel in (TICKS, BARS):
            found[f"{channel}.replay"] = _message(channel, [REPLAY], row(channel), {"cursor": _TEXT})
        found[f"{channel}.skipped"] = _message(
            channel, ["skipped"], _object({"messages": _COUNT, "rows": _COUNT}), cursor, tuple(cursor)
        )
        if cursor:
            lost = _object(
                {"reason": _TEXT},
                {"partition": _COUNT, "records": _COUNT, "from": _nullable(_TIME), "to": _nullable(_TIME)},
            )
            found[f"{channel}.history_lost"] = _message(channel, ["history_lost"], lost, {})
            found[f"{channel}.resumed"] = _message(channel, ["resumed"], {}, cursor)
    return found


def row(channel: str) -> Schema:
    """A row of a channel: the fields of its Avro record, and for bars whether it is closed."""
    fields = {field["name"]: _field(field["type"]) for field in definition(_RECORDS[channel])["fields"]}
    if channel in WITH_TIMEFRAME:
        fields["closed"] = {"const": channel == BARS}
    needed = {"symbol", "ts_event", "ordinal", "bid", "ask", "feed"} if channel == TICKS else set(fields)
    return _object({name: each for name, each in fields.items() if name in needed}, fields)


def _commands() -> dict[str, Schema]:
    place: Schema = {"channel": {"enum": list(CHANNELS)}, "symbol": _NAMES, "timeframe": _NAMES}
    pair: Schema = {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}
    place["series"] = {"type": "array", "items": pair, "minItems": 1}
    terms: Schema = {"snapshot": {"type": ["boolean", "integer"]}, "cursor": _TEXT, "interval": _COUNT}
    params = {
        "subscribe": _object({"channel": place["channel"]}, place | terms),
        "unsubscribe": _object({"channel": place["channel"]}, place),
        "authenticate": _object({"token": _TEXT}),
        SEEK: _object(
            {"time": _TIME, "symbol": _NAMES | {"description": f"at most {MOST_SYMBOLS}, no patterns"}},
            {"timeframe": _NAMES, "to": _TIME, "speed": _SPEED, "paused": {"type": "boolean"}, "cursor": _TEXT},
        ),
        SPEED: _object({"speed": _SPEED}),
        STEP: {"oneOf": _steps()},
    }
    return {
        method: _object(
            {"method": {"const": method}} | ({"params": params[method]} if method in params else {}), {"req_id": _ID}
        )
        for method in METHODS
    }


_ENVELOPE: Final[Schema] = {
    "seq": {"type": "integer", "minimum": 1},
    "time_in": _TIME,
    "time_out": _TIME,
    "req_id": _ID,
}


def _answer(methods: list[str], **fields: Schema) -> Schema:
    needed: Schema = {"seq": _COUNT, "method": {"enum": methods}, "success": {"const": True}} | fields
    return _object(needed, _ENVELOPE)


def _error() -> Schema:
    about: Schema = {"method": {"enum": list(METHODS)}, "channel": _TEXT, "symbol": _TEXT, "timeframe": _TEXT}
    needed = {
        "seq": _COUNT,
        "success": {"const": False},
        "code": {"enum": [code.value for code in Code]},
        "error": _TEXT,
    }
    return _object(needed, _ENVELOPE | about)


def _stream(*, snapshot: bool) -> Schema:
    more: Schema = {"snapshot": {"type": "boolean"}, "resumed": {"const": True}, "interval": _COUNT} if snapshot else {}
    return _object({"channel": {"enum": list(CHANNELS)}, "symbol": _TEXT}, {"timeframe": _TEXT} | more)


def _message(
    channel: str, kinds: list[str], item: Schema, more: Schema, optional: tuple[str, ...] | None = None
) -> Schema:
    needed: Schema = {"seq": _COUNT, "channel": {"const": channel}, "type": {"enum": kinds}}
    needed["data"] = {"type": "array", "items": item}
    left_out = tuple(more) if optional is None else optional
    return _object(needed | {name: each for name, each in more.items() if name not in left_out}, more)


def _sought() -> Schema:
    names: Schema = {"type": "array", "items": _TEXT}
    fields = {"time": _TIME, "to": _nullable(_TIME), "speed": _SPEED, "paused": {"type": "boolean"}}
    return _object(fields | {"symbol": names, "timeframe": names})


def _steps() -> list[Schema]:
    return [_object({"ticks": {"type": "integer", "minimum": 1}}), _object({"timeframe": _TEXT})]


def _replay() -> Schema:
    states = {"enum": ["playing", "paused", "ended", "live"]}
    cursors = _object({}, dict.fromkeys(RESUMABLE, _TEXT))
    return _object({"state": states, "time": _TIME, "speed": _SPEED}, {"cursors": cursors})


def _heartbeat() -> Schema:
    newest = {channel: _nullable(_TIME) for channel in CHANNELS}
    cursors = dict.fromkeys(RESUMABLE, _TEXT)
    return _object({"time": _TIME, "newest": _object(newest), "cursors": _object(cursors)})


def _status() -> Schema:
    return _object({"feed": _TEXT, "shard": _TEXT, "state": _TEXT, "since": _TIME, "text": _TEXT})


def _object(needed: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object", "properties": (optional or {}) | needed, "required": list(needed),
        "additionalProperties": False,
    }  # fmt: skip


def _nullable(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _field(kind: Any) -> Schema:
    if isinstance(kind, list):
        (branch,) = (each for each in kind if each != "null")
        return _nullable(_field(branch))
    if isinstance(kind, str):
        return {"type": _TYPES[kind]}
    if kind["type"] == "enum":
        return {"type": "string"}
    return {"type": _TYPES[kind["type"]]}


def _operation(action: str, messages: Schema) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "messages": [{"$ref": f"#/channels/socket/messages/{name}"} for name in messages],
    }
