"""Whole batches of messages to columns, in native code.

An Avro container is a header around concatenated datums, so datums that share a schema are put into one in memory
and read by polars, many times quicker than one by one (benchmarks/codec.py). Two things make that safe:

* Container and messages agree on bytes only, so the schema in the header is one made for the purpose: no defaults,
  which polars refuses; enums as their index; int as long, so that what does not fit is seen instead of wrapped.
* Concatenated datums have no bounds: one with a wrong length inside would shift its neighbours in silence. Therefore
  the length of every row is computed from its decoded values and compared with its message's. What is computed is the
  least that any encoding of a value takes; so if all rows agree, exactly its own bytes were read for each of them.

A batch that fails is split until the culprit is in a small part, which is decoded one by one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, cast

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from schemas import codec as codecs
from schemas.codec import HEADER, Codec
from schemas.columns import Plan, dtypes, plan, row_lengths
from schemas.definitions import Schema, parsed
from schemas.errors import ArbitrexError, DecodeError, UnknownSchemaError
from schemas.records import Record

SMALL: Final = 100
"""Messages up to which one by one is quicker."""

INDEX: Final = "index"

_PARTS: Final = 16
"""Into how many a failing batch is split: each level costs one more failure, which polars reports to stderr."""

_INT: Final = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch, decoded; every message of it is in exactly one of the three."""

    frame: pl.DataFrame
    """One row for each record of the asked type, in order: its place in the batch as ``index``, then its fields."""
    others: list[tuple[int, Record]]
    """Records of other types with their place in the batch, in order."""
    bad: list[tuple[int, ArbitrexError]]
    """What could not be decoded, with its place in the batch and why, in order."""


def decode_batch(values: Sequence[bytes | None], codec: Codec, columnar: str = "Tick") -> Decoded:
    """The messages ``values``: records of type ``columnar`` as a frame, others one by one.

    Times are Int64 as in `schemas.records`, enums String. Raises RegistryError when a schema cannot be looked up
    because the registry is away or refuses: that is not the data's fault.
    """
    frames: list[pl.DataFrame] = []
    others: list[tuple[int, Record]] = []
    bad: list[tuple[int, ArbitrexError]] = []
    for header, places in _by_header(values).items():
        try:
            if header is None:
                raise DecodeError("no value")  # noqa: TRY301 - one way out for all that is bad
            name, writer = codec.writer(codecs.schema_id(header))
        except (DecodeError, UnknownSchemaError) as error:
            bad.extend((place, error) for place in places)
            continue
        messages = cast("Sequence[bytes]", values if len(places) == len(values) else [values[p] for p in places])
        if name == columnar:
            part = _Part(name, writer)
            frames.extend(part.decode(places, messages))
            bad.extend(part.bad)
        else:
            _decode_others(places, messages, codec, others, bad)
    others.sort(key=_place)
    bad.sort(key=_place)
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=_schema(columnar))
    return Decoded(frame.sort(INDEX) if len(frames) > 1 else frame, others, bad)


def _by_header(values: Sequence[bytes | None]) -> Mapping[bytes | None, Sequence[int]]:
    """Places in the batch by what stands before the datum; None for messages without a value."""
    first = values[0] if values else None
    if (
        first is not None
        and len(first) >= HEADER.size
        and set(map(type, values)) == {bytes}
        and all(map(bytes.startswith, cast("Sequence[bytes]", values), repeat(first[: HEADER.size])))
    ):
        return {first[: HEADER.size]: range(len(values))}
    groups: dict[bytes | None, list[int]] = {}
    for place, value in enumerate(values):
        groups.setdefault(None if value is None else value[: HEADER.size], []).append(place)
    return groups


def _decode_others(
    places: Sequence[int],
    messages: Sequence[bytes],
    codec: Codec,
    others: list[tuple[int, Record]],
    bad: list[tuple[int, ArbitrexError]],
) -> None:
    for place, message in zip(places, messages, strict=True):
        try:
            others.append((place, codec.decode(message)))
        except DecodeError as error:
            bad.append((place, error))


class _Part:
    """The messages of one batch that share a writer's schema."""

    def __init__(self, name: str, writer: Schema) -> None:
        self._name = name
        self._writer = writer
        self._plan: Plan | None = plan(writer, parsed(name))
        self.bad: list[tuple[int, ArbitrexError]] = []

    def decode(self, places: Sequence[int], messages: Sequence[bytes]) -> list[pl.DataFrame]:
        """Frames in order; culprits go to `bad`."""
        count = len(messages)
        if count <= SMALL or self._plan is None:
            return [self._one_by_one(places, messages)]
        frame = _native(messages, self._plan)
        if frame is not None:
            return [frame.insert_column(0, pl.Series(INDEX, places, pl.Int64))]
        step = -(-count // _PARTS)
        frames = []
        for start in range(0, count, step):
            frames += self.decode(places[start : start + step], messages[start : start + step])
        return frames

    def _one_by_one(self, places: Sequence[int], messages: Sequence[bytes]) -> pl.DataFrame:
        kept, rows = [], []
        for place, message in zip(places, messages, strict=True):
            try:
                rows.append(self._row(message))
                kept.append(place)
            except DecodeError as error:
                self.bad.append((place, error))
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in dtypes(self._name)}
        return pl.DataFrame({INDEX: kept} | columns, schema=_schema(self._name))

    def _row(self, message: bytes) -> dict[str, Any]:
        row = codecs.datum(self._name, self._writer, message)
        for name, dtype in dtypes(self._name).items():
            if dtype == pl.Int32 and row[name] is not None and row[name] not in _INT:
                raise DecodeError(f"not a {self._name}: {name} {row[name]} is not an int")
        return row


def _native(messages: Sequence[bytes], how: Plan) -> pl.DataFrame | None:
    """The frame of all ``messages``, or None unless every one of them is exactly one datum."""
    lengths = np.fromiter(map(len, messages), np.int64, len(messages))
    try:
        frame = pl.read_avro(io.BytesIO(how.container(messages, int(lengths.sum()))))
    except Exception:  # noqa: BLE001 - polars raises its own, OSError, and what its parser stumbles over
        return None
    except PanicException:  # a BaseException
        return None
    if frame.height != len(messages) or not np.array_equal(row_lengths(frame, how), lengths - HEADER.size):
        return None
    return how.finish(frame)


def _schema(name: str) -> pl.Schema:
    return pl.Schema({INDEX: pl.Int64(), **dtypes(name)})


def _place(item: tuple[int, object]) -> int:
    return item[0]
