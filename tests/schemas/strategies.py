"""Records of every kind, for hypothesis."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

from schemas import records
from schemas.definitions import NAMES, Schema, definition
from schemas.errors import UnknownSchemaError

INT = st.integers(-(2**31), 2**31 - 1)
LONG = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def _ints(node: Any) -> Iterator[tuple[str, str]]:
    """Every (record, field) of Avro's int."""
    if isinstance(node, list):
        for item in node:
            yield from _ints(item)
    elif isinstance(node, dict):
        for field in node.get("fields", ()):
            if field["type"] == "int":
                yield node["name"], field["name"]
            yield from _ints(field["type"])
        yield from _ints(node.get("items"))


INT_FIELDS = set(_ints([definition(name) for name in NAMES]))


class MemoryStore:
    """A schema store without a registry: our schemas have the ids 1…, others are added by a test."""

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {number: definition(name) for number, name in enumerate(NAMES, 1)}

    def id_of(self, name: str) -> int:
        return NAMES.index(name) + 1

    def schema_of(self, schema_id: int) -> Schema:
        try:
            return self.schemas[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"no schema has the id {schema_id}") from None


def record(name: str) -> st.SearchStrategy[Any]:
    return _record(getattr(records, name))


def any_record() -> st.SearchStrategy[Any]:
    return st.one_of([record(name) for name in NAMES])


def _record(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(
        cls, **{field.name: _value((cls.__name__, field.name), hints[field.name]) for field in dataclasses.fields(cls)}
    )


def _value(name: tuple[str, str], hint: Any) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return st.none() | _value(name, next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return st.lists(_value(name, args[0]), max_size=3).map(tuple)
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast("type[Any]", hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    if hint is int:
        return INT if name in INT_FIELDS else LONG
    return {bool: st.booleans(), float: DOUBLE, str: TEXT}[hint]
