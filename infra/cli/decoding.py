"""Any topic's messages for people: Avro by the registry, whoever's schema it is; else what is wrong with them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import fastavro
from confluent_kafka import Message

from infra.iso import PER_SECOND, iso
from schemas.codec import HEADER, full_name, schema_id
from schemas.definitions import NAMESPACE, Schema, parse
from schemas.errors import DecodeError, UnknownSchemaError
from schemas.registry import Registry

_BYTES_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """One message, ready to print; all times are ISO 8601."""

    topic: str
    partition: int
    offset: int
    time: str | None
    """Of the record, UTC; None where it has none."""
    key: str | None
    headers: dict[str, str | None]
    type: str
    """The record's name; empty for what is no Avro record."""
    value: dict[str, Any] | str | None
    """The record, or the bytes as text; None: deleted."""
    error: str = ""
    """What is wrong with it."""

    @property
    def symbol(self) -> str | None:
        """Whose record it is: its own ``symbol``, else what its key begins with."""
        named = self.value.get("symbol") if isinstance(self.value, dict) else None
        if isinstance(named, str):
            return named
        return None if self.key is None else self.key.split("|")[0].rpartition("/")[2]


class Decoder:
    """Decodes single messages of any writer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, tuple[str, Schema, Schema]] = {}

    def show(self, message: Message) -> Shown:
        """The message as it is shown. Raises RegistryError when the registry is away."""
        data = message.value()
        kind, error = "", ""
        value: dict[str, Any] | str | None = None
        if data is not None:
            try:
                kind, value = self._decode(data)
            except (DecodeError, UnknownSchemaError) as problem:
                value, error = text_of(data[:_BYTES_SHOWN]), f"{problem} ({len(data)} bytes)"
        key, headers, time = message.key(), dict(message.headers() or ()), message.timestamp()[1]
        return Shown(
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            iso(time) if time >= 0 else None,
            None if key is None else text_of(key),
            {name: None if each is None else text_of(each) for name, each in headers.items()},
            kind,
            value,
            error,
        )

    def _decode(self, data: bytes) -> tuple[str, dict[str, Any]]:
        number = schema_id(data)
        name, schema, parsed = self._schema(number)
        stream = io.BytesIO(data)
        stream.seek(HEADER.size)
        try:
            found: Any = fastavro.schemaless_reader(stream, parsed, None)
        except Exception as error:  # fastavro raises what it stumbles over
            raise DecodeError(f"not a {name}: {str(error) or type(error).__name__}") from error
        if stream.tell() != len(data):
            raise DecodeError(f"{name} with {len(data) - stream.tell()} bytes after its end")
        return name, readable(found, schema, {})

    def _schema(self, number: int) -> tuple[str, Schema, Schema]:
        known = self._schemas.get(number)
        if known is None:
            schema = self._registry.schema_of(number)
            if not full_name(schema):
                raise DecodeError(f"schema {number} is of no Avro record")
            try:
                parsed = parse(schema)
            except Exception as error:  # whatever fastavro stumbles over in a stranger's schema
                raise DecodeError(f"schema {number} cannot be used: {error}") from error
            known = full_name(schema).removeprefix(f"{NAMESPACE}."), schema, parsed
            self._schemas[number] = known
        return known


def readable(value: Any, schema: Any, named: dict[str, Any]) -> Any:
    """The decoded value with times as ISO 8601 and bytes as text, by its schema."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        schema = branches[0] if len(branches) == 1 else None
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(value, bytes):
        return text_of(value)
    if value is None or not isinstance(schema, dict):
        return value
    if isinstance(value, int):
        return _moment(value, str(schema.get("logicalType", "")))
    return _nested(value, schema, named)


def _nested(value: Any, schema: dict[str, Any], named: dict[str, Any]) -> Any:
    kind = schema.get("type")
    match kind:
        case "record":
            named[full_name(schema)] = schema
            return {field["name"]: readable(value[field["name"]], field["type"], named) for field in schema["fields"]}
        case "array":
            return [readable(item, schema["items"], named) for item in value]
        case "map":
            return {name: readable(item, schema["values"], named) for name, item in value.items()}
        case _:
            return readable(value, kind, named) if isinstance(kind, dict | list) else value


def _moment(count: int, logical: str) -> int | str:
    unit = logical.rpartition("-")[2]
    if "timestamp-" not in logical or unit not in PER_SECOND:
        return count
    return iso(count, unit, utc=not logical.startswith("local"))


def text_of(data: bytes | str) -> str:
    """Bytes as text if they are printable UTF-8, else in hexadecimal."""
    if isinstance(data, str):
        return data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    return text if text.isprintable() else f"0x{data.hex()}"
