"""Avro records as polars columns: types, the container that polars reads, and how long each row was.

Container format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PanicException

from schemas.definitions import Schema, parsed
from schemas.writing import varint

_MARK: Final = bytes(range(16))
"""The container's sync marker; a file has a random one to resume at after damage, which memory does not need."""

_PRIMITIVES: Final[dict[str, pl.DataType]] = {
    "string": pl.String(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
}
_WIRE_HEADER: Final = ("boolean", "float")
"""Types of one and four bytes, as which the five before each datum are read: cheaper than cutting them off."""
_READ_AS: Final = {"int": "long", "enum": "long"}
_FIXED_LENGTH: Final = {"double": 8, "boolean": 1}
_THRESHOLDS: Final = np.array([1 << (7 * n - 1) for n in range(1, 10)], np.int64)
"""From the n-th on, a varint takes n + 1 bytes."""


_FEW: Final = 100
"""Rows up to which Python takes some of them quicker than polars gets its threads to."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field as its writer wrote it."""

    name: str
    type: str
    """A primitive's name, or ``enum``."""
    nullable: bool = False
    symbols: tuple[str, ...] = ()
    """An enum's, as the reader sees them: those it does not know replaced by its default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How datums of one writer's schema become the reader's columns natively."""

    columns: tuple[Column, ...]
    """The writer's."""
    defaults: dict[str, Any]
    """Of the reader's fields that the writer does not have."""
    dtypes: dict[str, pl.DataType]
    """The reader's."""
    header: bytes

    def finish(self, read: pl.DataFrame) -> pl.DataFrame | None:
        """The reader's columns from those polars read, or None when a value is outside its type."""
        columns = {column.name: column for column in self.columns}
        finished = []
        for name, dtype in self.dtypes.items():
            if name in self.defaults:
                series: pl.Series | None = pl.Series(name, [self.defaults[name]], dtype).new_from_index(0, read.height)
            elif columns[name].type == "enum":
                series = _symbols(read[name], columns[name].symbols)
            elif columns[name].type == "int":
                series = _narrowed(read[name])
            else:
                series = read[name]
            if series is None:
                return None
            finished.append(series)
        return pl.DataFrame(finished)


@cache
def dtypes(name: str) -> dict[str, pl.DataType]:
    """The columns of record ``name`` and their types, in the schema's order."""
    return _field_dtypes(parsed(name), {})


def plan(writer: Schema, reader: Schema) -> Plan | None:
    """How to read ``writer``'s datums as ``reader`` natively; None where only Avro's full resolution will do.

    Natively go: fields of primitive type, those that may be null, enums; fields that one of the two lacks; enums
    whose symbols differ.
    """
    written = [_column(field) for field in writer["fields"]]
    columns = {column.name: column for column in written if column}
    if len(columns) < len(writer["fields"]):
        return None
    defaults = {}
    for field in reader["fields"]:
        known, wanted = columns.get(field["name"]), _column(field)
        if known is None:
            if "default" not in field or "aliases" in field:
                return None
            defaults[field["name"]] = field["default"]
        elif wanted is None or (known.type, known.nullable) != (wanted.type, wanted.nullable):
            return None
        elif known.type == "enum":
            fallback = field["type"].get("default")
            if fallback is None and not set(known.symbols) <= set(wanted.symbols):
                return None
            columns[known.name] = Column(
                known.name, "enum", symbols=tuple(s if s in wanted.symbols else fallback for s in known.symbols)
            )
    return Plan(
        tuple(columns.values()),
        defaults,
        _field_dtypes(reader, {}),
        _header(list(columns.values())),
    )


def row_lengths(frame: pl.DataFrame, how: Plan) -> NDArray[np.int64]:
    """How many bytes each row takes as a datum, each number in as few as it can be written."""
    total = np.zeros(frame.height, np.int64)
    for column in how.columns:
        series = frame[column.name]
        if column.type in _FIXED_LENGTH:
            length: NDArray[Any] | int = _FIXED_LENGTH[column.type]
        elif column.type == "string":
            size = _present(series.str.len_bytes().cast(pl.Int64), column)
            length = size + varint_lengths(size)
        else:
            length = varint_lengths(_present(series, column))
        if column.nullable:
            length = 1 + np.where(series.is_null().to_numpy(), 0, length)
        total += length
    return total


def _present(numbers: pl.Series, column: Column) -> NDArray[np.int64]:
    return (numbers.fill_null(0) if column.nullable else numbers).to_numpy()


def varint_lengths(numbers: NDArray[np.int64]) -> NDArray[np.int64] | int:
    """Bytes of each number in zigzag coding: seven bits each, of 2n or -2n-1."""
    folded = numbers ^ (numbers >> 63)
    low, high = 1 + np.searchsorted(_THRESHOLDS, [folded.min(), folded.max()], "right")
    return int(low) if low == high else 1 + np.searchsorted(_THRESHOLDS, folded, "right")


def container_header(fields: Sequence[Schema]) -> bytes:
    """What a container of datums with these fields begins with."""
    schema = json.dumps({"type": "record", "name": "row", "fields": fields}).encode()
    meta = [b"avro.schema", schema, b"avro.codec", b"null"]
    return b"".join([b"Obj\x01", varint(2), *(varint(len(part)) + part for part in meta), varint(0), _MARK])


def read_container(header: bytes, count: int, datums: NDArray[np.uint8] | bytes) -> pl.DataFrame | None:
    """The columns of ``count`` datums, or None if polars makes something else of them.

    Datums have no bounds: whether each of them took its own bytes and no others is the caller's to see.
    """
    parts: list[Any] = [header, varint(count), varint(len(datums)), datums, _MARK]
    try:
        frame = pl.read_avro(io.BytesIO(b"".join(parts)))
    except Exception:  # noqa: BLE001 - polars raises its own, OSError, and what its parser stumbles over
        return None
    except PanicException:  # a BaseException
        return None
    return frame if frame.height == count else None


def _header(columns: Sequence[Column]) -> bytes:
    fields: list[Schema] = [{"name": f"wire {kind}", "type": kind} for kind in _WIRE_HEADER]
    for column in columns:
        kind = _READ_AS.get(column.type, column.type)
        fields.append({"name": column.name, "type": ["null", kind] if column.nullable else kind})
    return container_header(fields)


def _column(field: Schema) -> Column | None:
    """The field as a column that polars reads; None when it is not that simple."""
    kind, nullable = _unwrap(field["type"])
    if isinstance(kind, dict):
        if kind.get("type") == "enum" and not nullable:
            return Column(field["name"], "enum", symbols=tuple(kind["symbols"]))
        kind = kind.get("type")
    return Column(field["name"], kind, nullable) if isinstance(kind, str) and kind in _PRIMITIVES else None


def _unwrap(kind: Any) -> tuple[Any, bool]:
    if isinstance(kind, list) and len(kind) == 2 and kind[0] == "null":  # noqa: PLR2004 - null and one other
        return kind[1], True
    return kind, False


def _field_dtypes(record: Schema, named: dict[str, pl.DataType]) -> dict[str, pl.DataType]:
    return {field["name"]: _dtype(field["type"], named) for field in record["fields"]}


def _dtype(kind: Any, named: dict[str, pl.DataType]) -> pl.DataType:
    """The column type of an Avro type; ``named`` holds those that were defined before and are referred to by name."""
    kind, _ = _unwrap(kind)
    if isinstance(kind, str):
        return named[kind] if kind in named else _PRIMITIVES[kind]
    if kind["type"] == "enum":
        return named.setdefault(kind["name"], pl.String())
    if kind["type"] == "array":
        return pl.List(_dtype(kind["items"], named))
    if kind["type"] == "record":
        return named.setdefault(kind["name"], pl.Struct(_field_dtypes(kind, named)))
    return _dtype(kind["type"], named)


def _narrowed(numbers: pl.Series) -> pl.Series | None:
    """The numbers as Int32, or None when one does not fit."""
    narrow = numbers.cast(pl.Int32, strict=False)
    return narrow if narrow.null_count() == numbers.null_count() else None


def _symbols(indices: pl.Series, symbols: Sequence[str]) -> pl.Series | None:
    """The enum's symbols, or None when an index is of none of them."""
    if indices.min() < 0 or indices.max() >= len(symbols):  # type: ignore[operator]
        return None
    return pl.Series(symbols, dtype=pl.String).gather(indices).alias(indices.name)


def taken(series: pl.Series, places: NDArray[np.int64]) -> pl.Series:
    """Its values at rising ``places``."""
    if len(places) == len(series):
        return series
    if len(places) > _FEW:
        return series.gather(places)
    values = series.to_list() if len(series) <= _FEW else series
    return pl.Series(series.name, [values[place] for place in places.tolist()], series.dtype)
