"""Pairs of schemas and what Avro says of them: (what changes, old, new, new reads old, old reads new)."""

from __future__ import annotations

from typing import Any, NamedTuple

Schema = dict[str, Any]


def record(*fields: Any, name: str = "Order", **more: Any) -> Schema:
    return {"type": "record", "name": name, "namespace": "shop", "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> Schema:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> Schema:
    return {"type": "enum", "name": "Side", "namespace": "shop", "symbols": list(symbols), **more}


class Case(NamedTuple):
    what: str
    old: Schema
    new: Schema
    backward: bool
    forward: bool


ID = field("id", "long")
CASES = [
    Case("same", record(ID), record(ID), True, True),
    Case("doc", record(ID), record(ID, doc="an order"), True, True),
    Case("add with default", record(ID), record(ID, field("n", "int", default=0)), True, True),
    Case("add without default", record(ID), record(ID, field("n", "int")), False, True),
    Case("remove with default", record(ID, field("n", "int", default=0)), record(ID), True, True),
    Case("remove without default", record(ID, field("n", "int")), record(ID), True, False),
    Case("wider number", record(field("n", "int")), record(field("n", "long")), True, False),
    Case("narrower number", record(field("n", "double")), record(field("n", "float")), False, True),
    Case("other type", record(field("n", "int")), record(field("n", "string")), False, False),
    Case("string to bytes", record(field("n", "string")), record(field("n", "bytes")), True, True),
    Case("nullable", record(field("n", "int")), record(field("n", ["null", "int"], default=None)), True, False),
    Case(
        "more branches", record(field("n", ["null", "int"])), record(field("n", ["null", "int", "string"])), True, False
    ),
    Case("more symbols", record(field("s", enum("buy"))), record(field("s", enum("buy", "sell"))), True, False),
    Case(
        "more symbols with defaults",
        record(field("s", enum("none", "buy", default="none"))),
        record(field("s", enum("none", "buy", "sell", default="none"))),
        True,
        True,
    ),
    Case("other name", record(ID), record(ID, name="Invoice"), False, False),
    Case("renamed with alias", record(field("a", "int")), record(field("b", "int", aliases=["a"])), True, False),
    Case(
        "array of wider",
        record(field("a", {"type": "array", "items": "int"})),
        record(field("a", {"type": "array", "items": "long"})),
        True,
        False,
    ),
    Case(
        "map of other",
        record(field("a", {"type": "map", "values": "int"})),
        record(field("a", {"type": "map", "values": "string"})),
        False,
        False,
    ),
    Case(
        "nested add without default",
        record(field("o", record(ID, name="Inner"))),
        record(field("o", record(ID, field("x", "int"), name="Inner"))),
        False,
        True,
    ),
]
