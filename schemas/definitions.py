"""The Avro schemas: read from ``avsc/``, with every reference inlined, so that each stands alone in a registry."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

import fastavro

Schema = dict[str, Any]

NAMESPACE: Final = "arbitrex"
NAMES: Final = ("Tick", "Control", "Bar", "LiveBars", "SymbolSpec", "FeedEvent", "Cursor", "Progress", "Replay")


def subject(name: str) -> str:
    """The registry subject of a record: its full name."""
    return f"{NAMESPACE}.{name}"


@cache
def definition(name: str) -> Schema:
    """The schema of record ``name`` as a plain dict, references inlined where they are first used."""
    return cast("Schema", _inline(_read(name), set()))


def text(name: str) -> str:
    """The schema as it is registered: JSON, keys in a stable order."""
    return json.dumps(definition(name), separators=(",", ":"))


@cache
def parsed(name: str) -> Schema:
    """The schema ready for fastavro, with times as plain integers (see `plain`)."""
    return parse(definition(name))


def parse(schema: Schema) -> Schema:
    """A foreign writer's schema ready for fastavro, with times as plain integers."""
    return cast("Schema", fastavro.parse_schema(plain(schema)))


def plain(schema: Any) -> Any:
    """The schema without logical types: the same bytes, but times stay epoch integers instead of datetimes."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    return schema


def _read(name: str) -> Schema:
    raw: Schema = json.loads((files("schemas") / "avsc" / f"{name}.avsc").read_text("utf-8"))
    return raw


def _inline(node: Any, known: set[str]) -> Any:
    if isinstance(node, str) and node.startswith(f"{NAMESPACE}.") and node not in known:
        return _inline(_read(node.removeprefix(f"{NAMESPACE}.")), known)
    if isinstance(node, list):
        return [_inline(item, known) for item in node]
    if isinstance(node, dict):
        if node.get("type") in ("record", "enum"):
            known.add(f"{NAMESPACE}.{node['name']}")
        return {
            key: _inline(value, known) if key in {"fields", "type", "items"} else value for key, value in node.items()
        }
    return node
