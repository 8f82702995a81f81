"""What REST offers: the one table that requests are checked against and that OpenAPI is made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.protocol import END_OF_TIME, LEAST_SPEED, MOST_SPEED
from gateway.query import MOST_ROWS, USUAL_ROWS

_TIME: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": END_OF_TIME},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
    ],
    "description": "UTC epoch milliseconds, or ISO 8601 (UTC when it says no zone)",
}
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "symbol": {"type": "string", "minLength": 1},
    "timeframe": {"type": "string", "minLength": 1},
    "from": _TIME,
    "to": _TIME,
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": USUAL_ROWS},
    "cursor": {"type": "string", "pattern": r"^\d{1,15}\.\d{1,15}$", "description": "`next` of the page before"},
    "speed": {
        "anyOf": [{"type": "number", "minimum": LEAST_SPEED, "maximum": MOST_SPEED}, {"const": "max"}],
        "description": "how many times its pace; max: as fast as can be",
        "default": "max",
    },
    "codec": {"type": "string", "enum": ["json", "msgpack"], "default": "json"},
    "slow": {"type": "string", "enum": ["close", "skip", "conflate"], "default": "close"},
    "compress": {"type": "string", "enum": ["true", "false"], "default": "false"},
}
TABLES: Final = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}
"""What rows may be asked for as, by media type."""
STREAMS: Final = ("application/x-ndjson", "application/vnd.apache.arrow.stream")
"""What a replay may be asked for as."""
_ERRORS: Final = {
    "400": "a parameter is wrong",
    "401": "no token, or one that is not taken",
    "403": "the token, the host or the origin does not allow it",
    "404": "unknown symbol",
    "429": "too many requests",
    "503": "the lake, Kafka or the registry is away, or too many wait",
}
_OF_SOCKET: Final = {"426": "this is a WebSocket"}
_OF_ROWS: Final = {"406": "rows are not given as what Accept asks for"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address; all are GET."""

    summary: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    rows: bool = False
    """Its answer is rows, in any of `TABLES`."""
    streams: tuple[str, ...] = ()
    """The media types that its answer comes as, if that is no JSON."""
    socket: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.required + self.optional


ENDPOINTS: Final = {
    "/v1/symbols": Endpoint(
        "The world, its timeframes, and every symbol's spec; with a symbol, that one's with its calendar",
        optional=("symbol",),
    ),
    "/v1/latest": Endpoint("The newest tick and the open bars", ("symbol",)),
    "/v1/bars": Endpoint(
        "Closed bars by opening, each in its last revision. With from the first limit bars, without it the last",
        ("symbol", "timeframe"),
        ("from", "to", "limit"),
        rows=True,
    ),
    "/v1/ticks": Endpoint("Clean ticks by time and ordinal", ("symbol",), ("from", "to", "limit", "cursor"), rows=True),
    "/v1/replay": Endpoint(
        "The clean ticks of several symbols in the order of their time, as a stream: NDJSON or Arrow",
        ("symbol", "from", "to"),
        ("speed",),
        streams=STREAMS,
    ),
    "/v1/missing": Endpoint(
        "Why bars do not exist: market_closed, quiet or feed_gap", ("symbol", "timeframe", "from"), ("to",)
    ),
    "/v1/gaps": Endpoint("Since when the log holds every tick of a symbol, and except for which gaps", ("symbol",)),
    "/v1/openapi.json": Endpoint("This description"),
    "/v1/asyncapi.json": Endpoint("The WebSocket's description, AsyncAPI 3"),
    "/v1/ws": Endpoint("The WebSocket: docs/websocket.md", optional=("codec", "slow", "compress"), socket=True),
    "/health": Endpoint("Whether the process lives"),
    "/ready": Endpoint("Whether Kafka is followed"),
    "/metrics": Endpoint("Prometheus", streams=("text/plain",)),
}


def openapi(version: str) -> dict[str, Any]:
    """The description of REST, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Arbitrex gateway", "version": version},
        "paths": {path: {"get": _operation(path, endpoint)} for path, endpoint in ENDPOINTS.items()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["code", "message"],
                            "properties": {
                                "code": {"type": "integer"},
                                "message": {"type": "string"},
                                "parameter": {"type": "string"},
                            },
                        }
                    },
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def _operation(path: str, endpoint: Endpoint) -> dict[str, Any]:
    errors = _ERRORS | (_OF_ROWS if endpoint.rows else {}) | (_OF_SOCKET if endpoint.socket else {})
    return {
        "summary": endpoint.summary,
        "operationId": path.strip("/").replace("/", "_").replace(".", "_"),
        "parameters": [
            {"name": name, "in": "query", "required": name in endpoint.required, "schema": _PARAMETERS[name]}
            for name in endpoint.parameters
        ],
        "responses": _success(endpoint) | {code: _failure(text) for code, text in errors.items()},
    }


def _success(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.socket:
        return {"101": {"description": endpoint.summary}}
    content: dict[str, Any] = {media: {} for media in endpoint.streams}
    if not content:
        content = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.rows:
        content |= {media: {} for media in TABLES if media != "application/json"}
    return {"200": {"description": endpoint.summary, "content": content}}


def _failure(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
