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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any, Final, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from schemas import codec as codecs
from schemas.codec import HEADER, Codec
from schemas.columns import Plan, dtypes, plan, read_container, row_lengths
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


def decode_batch(values: Sequence[bytes | None] | pl.Series, codec: Codec, columnar: str = "Tick") -> Decoded:
    """The messages ``values`` (a series: Binary): records of type ``columnar`` as a frame, others one by one.

    Times are Int64 as in `schemas.records`, enums String. Raises RegistryError when a schema cannot be looked up
    because the registry is away or refuses: that is not the data's fault.
    """
    if len(values) <= SMALL:
        return _one_by_one(values, codec, columnar)
    messages = _Messages.of(values)
    frames: list[pl.DataFrame] = []
    others: list[tuple[int, Record]] = []
    bad: list[tuple[int, ArbitrexError]] = []
    for header, places in messages.by_header():
        try:
            if header is None:
                raise DecodeError("no value")  # noqa: TRY301 - one way out for all that is bad
            name, writer = codec.writer(codecs.schema_id(header))
        except (DecodeError, UnknownSchemaError) as error:
            bad.extend((place, error) for place in places.tolist())
            continue
        some = messages.at(places)
        if name == columnar:
            part = _Part(name, writer)
            frames.extend(part.decode(places, some))
            bad.extend(part.bad)
        else:
            _decode_others(places, some, codec, others, bad)
    others.sort(key=_place)
    bad.sort(key=_place)
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=_schema(columnar))
    return Decoded(frame.sort(INDEX) if len(frames) > 1 else frame, others, bad)


def _one_by_one(values: Sequence[bytes | None] | pl.Series, codec: Codec, columnar: str) -> Decoded:
    rows: list[tuple[Any, ...]] = []
    others: list[tuple[int, Record]] = []
    bad: list[tuple[int, ArbitrexError]] = []
    for place, message in enumerate(values.to_list() if isinstance(values, pl.Series) else values):
        try:
            if message is None:
                raise DecodeError("no value")  # noqa: TRY301 - one way out for all that is bad
            name, writer = codec.writer(codecs.schema_id(message))
            if name == columnar:
                rows.append((place, *_row(name, writer, message)))
            else:
                others.append((place, codec.decode(message)))
        except (DecodeError, UnknownSchemaError) as error:
            bad.append((place, error))
    return Decoded(pl.DataFrame(rows, schema=_schema(columnar), orient="row"), others, bad)


def _row(name: str, writer: Schema, message: bytes) -> tuple[Any, ...]:
    """The message's fields. Raises DecodeError."""
    row = codecs.datum(name, writer, message)
    for field in _ints(name):
        if row[field] is not None and row[field] not in _INT:
            raise DecodeError(f"not a {name}: {field} {row[field]} is not an int")
    return _fields(name)(row)


_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Messages:
    """Messages in one piece of memory."""

    array: Any
    """As Arrow's large_binary."""
    content: NDArray[np.uint8]
    starts: _Ints
    lengths: _Ints
    """-1 for none."""

    @classmethod
    def of(cls, values: Sequence[bytes | None] | pl.Series) -> Self:
        array: Any = values.to_arrow() if isinstance(values, pl.Series) else pa.array(values, pa.large_binary())
        return cls._of(array)

    @classmethod
    def _of(cls, array: Any) -> Self:
        _, ends, content = array.buffers()
        whole = np.frombuffer(ends, np.int64) if len(array) else np.zeros(1, np.int64)
        bounds = whole[array.offset :][: len(array) + 1]
        lengths = np.diff(bounds)
        if array.null_count:
            lengths[array.is_null().to_numpy(zero_copy_only=False)] = -1
        return cls(array, np.frombuffer(content or b"", np.uint8), bounds[:-1], lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, places: _Ints) -> Self:
        """Some of them."""
        return self if len(places) == len(self) else self._of(self.array.take(places))

    def part(self, start: int, stop: int) -> Self:
        """Those from one place to before another."""
        return self._of(self.array[start:stop])

    def datums(self) -> NDArray[np.uint8]:
        """All of them, one after the other, if none is none."""
        return self.content[self.starts[0] : self.starts[-1] + self.lengths[-1]]

    def by_header(self) -> Iterator[tuple[bytes | None, _Ints]]:
        """Places by what stands before the datum; None for a message without a value."""
        for place in np.flatnonzero(self.lengths < HEADER.size).tolist():
            yield self.array[place].as_py(), np.array([place])
        places = np.flatnonzero(self.lengths >= HEADER.size)
        if not len(places):
            return
        heads = np.zeros((len(places), 8), np.uint8)
        heads[:, : HEADER.size] = self.content[self.starts[places, None] + np.arange(HEADER.size)]
        codes = heads.view(np.int64).ravel()
        kinds = codes[:1] if (codes == codes[0]).all() else np.unique(codes)
        for kind in kinds:
            yield kind.tobytes()[: HEADER.size], places if len(kinds) == 1 else places[codes == kind]


def _decode_others(
    places: _Ints,
    messages: _Messages,
    codec: Codec,
    others: list[tuple[int, Record]],
    bad: list[tuple[int, ArbitrexError]],
) -> None:
    for place, message in zip(places.tolist(), messages.array.to_pylist(), strict=True):
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

    def decode(self, places: _Ints, messages: _Messages) -> list[pl.DataFrame]:
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
            frames += self.decode(places[start : start + step], messages.part(start, start + step))
        return frames

    def _one_by_one(self, places: _Ints, messages: _Messages) -> pl.DataFrame:
        rows: list[tuple[Any, ...]] = []
        for place, message in zip(places.tolist(), messages.array.to_pylist(), strict=True):
            try:
                rows.append((place, *_row(self._name, self._writer, message)))
            except DecodeError as error:
                self.bad.append((place, error))
        return pl.DataFrame(rows, schema=_schema(self._name), orient="row")


def _native(messages: _Messages, how: Plan) -> pl.DataFrame | None:
    """The frame of all ``messages``, or None unless every one of them is exactly one datum."""
    frame = read_container(how.header, len(messages), messages.datums())
    if frame is None or not np.array_equal(row_lengths(frame, how), messages.lengths - HEADER.size):
        return None
    return how.finish(frame)


@cache
def _ints(name: str) -> tuple[str, ...]:
    return tuple(column for column, dtype in dtypes(name).items() if dtype == pl.Int32)


@cache
def _fields(name: str) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """How to get a record's fields from a datum, in the frame's order."""
    return itemgetter(*dtypes(name))


@cache
def _schema(name: str) -> pl.Schema:
    return pl.Schema({INDEX: pl.Int64(), **dtypes(name)})


def _place(item: tuple[int, object]) -> int:
    return item[0]
