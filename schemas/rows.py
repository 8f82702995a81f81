"""Whole batches of records to messages: the way back of `schemas.batch`, for records without records in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Final

import numpy as np

from schemas.codec import Codec
from schemas.columns import Column, Plan, plan
from schemas.definitions import parsed
from schemas.layout import Cells, Ints, doubles, joined, only, row_lengths, same, texts, varints
from schemas.records import Record

FEW: Final = 50
"""Records up to which one by one is quicker."""

_ZEROS: Final = {"string": "", "double": 0.0, "boolean": False, "int": 0, "long": 0}


def encode_batch(records: Sequence[Record], codec: Codec) -> list[bytes]:
    """The bytes of each of ``records``, all of one type, as `Codec.encode` gives them."""
    if len(records) <= FEW or (how := _plan(name := type(records[0]).__name__)) is None:
        return [codec.encode(record) for record in records]
    columns = [same(codec.headers[name], len(records))]
    names = {name.rstrip("_"): name for name in type(records[0]).__dataclass_fields__}
    fields = map(attrgetter(*(names[column.name] for column in how.columns)), records)
    for column, values in zip(how.columns, zip(*fields, strict=True), strict=True):
        columns += _nullable(column, values) if column.nullable else _cells(column, values)
    return messages(columns, len(records))


def messages(columns: Sequence[Cells], count: int) -> list[bytes]:
    """What each row holds; there is one at the least."""
    table, lengths = joined(columns, count), row_lengths(columns, count)
    if (lengths == lengths[0]).all():
        alike: list[bytes] = table.view(f"V{lengths[0]}").tolist()
        return alike
    content, ends = table.tobytes(), np.cumsum(lengths).tolist()
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@cache
def _plan(name: str) -> Plan | None:
    schema = parsed(name)
    return plan(schema, schema)


def _nullable(column: Column, values: Sequence[Any]) -> list[Cells]:
    there = np.array([value is not None for value in values])
    branch: Ints = there.astype(np.int64)
    filled = [_ZEROS[column.type] if value is None else value for value in values]
    return [*varints(branch), *only(there, _cells(column, filled))]


def _cells(column: Column, values: Sequence[Any]) -> list[Cells]:
    match column.type:
        case "string":
            return texts([value.encode() for value in values])
        case "double":
            return [doubles(np.array(values, np.float64))]
        case "boolean":
            return [(np.array(values, np.uint8), None)]
        case "enum":
            return varints(np.fromiter(map(column.symbols.index, values), np.int64, len(values)))
        case _:
            return varints(np.fromiter(values, np.int64, len(values)))
