"""One record to and from Confluent's wire format: a zero byte, the schema id (4 bytes, big endian), the datum.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format
"""

from __future__ import annotations

import dataclasses
import io
import struct
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache, cached_property
from operator import attrgetter, itemgetter
from typing import Any, Final, Protocol, cast

import fastavro

from schemas import records
from schemas.definitions import NAMES, NAMESPACE, Schema, parse, parsed
from schemas.errors import DecodeError
from schemas.records import Record
from schemas.writing import writer

HEADER: Final = struct.Struct(">bI")


class SchemaStore(Protocol):
    """What the codec needs of a registry; `schemas.registry.Registry` is the real one."""

    def id_of(self, name: str) -> int:
        """The id under which record ``name``'s current schema is registered."""

    def schema_of(self, schema_id: int) -> Schema:
        """The writer's schema of an id. Raises UnknownSchemaError, or RegistryError when it is away."""


class Codec:
    """Encodes and decodes single records; one instance a process, safe to share between threads."""

    def __init__(self, store: SchemaStore) -> None:
        self._store = store
        self._writers: dict[int, tuple[str, Schema]] = {}

    @cached_property
    def headers(self) -> Mapping[str, bytes]:
        """The five bytes before a datum, by record name."""
        return {name: HEADER.pack(0, self._store.id_of(name)) for name in NAMES}

    def encode(self, record: Record) -> bytes:
        """The record's bytes as they stand in a topic."""
        name = type(record).__name__
        return self.headers[name] + writer(name)(record)

    def decode(self, data: bytes) -> Record:
        """The record in ``data``, whichever it is.

        Raises DecodeError for bytes that are not a record of ours, UnknownSchemaError for an id the registry does
        not have.
        """
        name, writer = self.writer(schema_id(data))
        return from_avro(name, datum(name, writer, data))

    def writer(self, schema_id: int) -> tuple[str, Schema]:
        """Record name and parsed writer's schema of an id. Raises DecodeError for a record that is not ours."""
        known = self._writers.get(schema_id)
        if known is None:
            schema = self._store.schema_of(schema_id)
            name = full_name(schema).removeprefix(f"{NAMESPACE}.")
            if name not in NAMES:
                raise DecodeError(f"schema {schema_id} is of {full_name(schema) or 'no record'}, not of ours")
            try:
                writer, own = parse(schema), parsed(name)
                known = self._writers[schema_id] = (name, own if writer == own else writer)
            except Exception as error:  # whatever fastavro stumbles over in a stranger's schema
                raise DecodeError(f"schema {schema_id} of {name} cannot be used: {error}") from error
        return known


def schema_id(data: bytes) -> int:
    """The schema id of a message. Raises DecodeError unless it is in Confluent's wire format."""
    if len(data) < HEADER.size or data[0] != 0:
        raise DecodeError("not in Confluent's wire format (a zero byte and a schema id first)")
    return int(HEADER.unpack_from(data)[1])


def datum(name: str, writer: Schema, data: bytes) -> dict[str, Any]:
    """The message ``data`` of ``writer``'s schema, resolved to record ``name``'s. Raises DecodeError."""
    stream = io.BytesIO(data)
    stream.seek(HEADER.size)
    try:
        own = parsed(name)
        found = fastavro.schemaless_reader(stream, writer, None if writer is own else own)
    except Exception as error:  # fastavro raises what it stumbles over: EOFError, IndexError, UnicodeDecodeError
        raise DecodeError(f"not a {name}: {str(error) or type(error).__name__}") from error
    if stream.tell() != len(data):
        raise DecodeError(f"{name} with {len(data) - stream.tell()} bytes after its end")
    return cast("dict[str, Any]", found)


def full_name(schema: Any) -> str:
    """``namespace.name`` of a record schema; empty for anything else."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return ""
    name, space = str(schema.get("name", "")), schema.get("namespace")
    return name if "." in name or not space else f"{space}.{name}"


def to_avro(record: Any) -> dict[str, Any]:
    """The record's datum: plain values by their Avro names."""
    names, values, converters = _writing(cast("Any", type(record)))
    datum = dict(zip(names, values(record), strict=True))
    for name, convert in converters:
        datum[name] = convert(datum[name])
    return datum


def from_avro(name: str, datum: Mapping[str, Any]) -> Record:
    """The typed record from a decoded datum."""
    return cast("Record", _build(getattr(records, name), datum))


def _build(cls: type[Any], datum: Mapping[str, Any]) -> Any:
    names, values, converters = _reading(cast("Any", cls))
    fields = dict(zip(names, values(datum), strict=True))
    for name, convert in converters:
        fields[name] = convert(fields[name])
    return cls(**fields)


_Convert = Callable[[Any], Any] | None


@cache
def _fields(cls: Any) -> tuple[tuple[str, str, _Convert, _Convert], ...]:
    hints = typing.get_type_hints(cls)
    return tuple(
        (field.name, field.name.rstrip("_"), *_converters(hints[field.name])) for field in dataclasses.fields(cls)
    )


@cache
def _writing(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], Sequence[Any]], tuple[tuple[str, Any], ...]]:
    """A record's Avro names, how to get its fields' values at once, and those that are converted."""
    fields = _fields(cls)
    return (
        tuple(avro_name for _, avro_name, _, _ in fields),
        attrgetter(*(name for name, _, _, _ in fields)),
        tuple((avro_name, convert) for _, avro_name, convert, _ in fields if convert),
    )


@cache
def _reading(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], Sequence[Any]], tuple[tuple[str, Any], ...]]:
    """The same the other way round: a record's names, how to get their values from a datum, and what is converted."""
    fields = _fields(cls)
    return (
        tuple(name for name, _, _, _ in fields),
        itemgetter(*(avro_name for _, avro_name, _, _ in fields)),
        tuple((name, convert) for name, _, _, convert in fields if convert),
    )


def _converters(hint: Any) -> tuple[_Convert, _Convert]:
    """How a field's value goes to Avro and comes back; None where it stays as it is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if (isinstance(origin, type) and issubclass(origin, types.UnionType)) or origin is typing.Union:
        hint = next(arg for arg in args if arg is not type(None))
        to, back = _converters(hint)
        return to and _optional(to), back and _optional(back)
    if origin is tuple:
        to, back = _converters(args[0])
        return (lambda items: list(map(to, items))) if to else list, (
            (lambda items: tuple(back(item) for item in items)) if back else tuple
        )
    if dataclasses.is_dataclass(hint):
        return to_avro, lambda datum: _build(cast("type[Any]", hint), datum)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str, hint
    return None, None


def _optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)
