"""A record's datum, by a writer that is put together once from its schema.

fastavro looks at the schema again for every field of every record, and wants dicts: of live bars, with a bar in each
timeframe, that was most of what a small batch cost.
Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import keyword
import struct
from collections.abc import Callable
from functools import cache, lru_cache
from operator import attrgetter, call
from typing import Any, Final

from schemas.definitions import NAMESPACE, definition

Write = Callable[[Any], bytes]

_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80
_LONG: Final = range(-(2**63), 2**63)


@cache
def writer(name: str) -> Write:
    """What gives the datum of a record of type ``name``; of numbers beyond a long it raises OverflowError."""
    return _of(definition(name), {})


@lru_cache(16_384)
def varint(number: int) -> bytes:
    """A long: zigzag, seven bits a byte, the lowest first. Times and counts come again and again in a symbol's bars.

    Raises OverflowError for a number that is none.
    """
    if number not in _LONG:
        raise OverflowError(f"{number} is no long")
    rest = int(number) << 1 if number >= 0 else (-int(number) << 1) - 1
    out = bytearray()
    while rest > _SEVEN_BITS:
        out.append(rest & _SEVEN_BITS | _MORE)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@lru_cache(4_096)
def _text(text: str) -> bytes:
    content = text.encode()
    return varint(len(content)) + content


_PLAIN: Final[dict[str, Write]] = {
    "boolean": (b"\x00", b"\x01").__getitem__,
    "int": varint,
    "long": varint,
    "double": struct.Struct("<d").pack,
    "string": _text,
}


def _of(schema: Any, named: dict[str, Write]) -> Write:
    """The writer of ``schema``, in which ``named`` types may be called by their name."""
    if isinstance(schema, str):
        return named[schema] if schema in named else _PLAIN[schema]
    if isinstance(schema, list):
        return _optional(schema, named)
    match schema["type"]:
        case "record":
            made = _record(schema, named)
        case "enum":
            made = {symbol: varint(at) for at, symbol in enumerate(schema["symbols"])}.__getitem__
        case "array":
            return _array(_of(schema["items"], named))
        case other:
            return _of(other, named)
    named[f"{NAMESPACE}.{schema['name']}"] = made
    return made


def _record(schema: Any, named: dict[str, Write]) -> Write:
    names = [field["name"] for field in schema["fields"]]
    writers = [_of(field["type"], named) for field in schema["fields"]]
    values = attrgetter(*(f"{name}_" if keyword.iskeyword(name) else name for name in names))
    if len(names) == 1:
        return lambda record: writers[0](values(record))
    return lambda record: b"".join(map(call, writers, values(record)))


def _optional(branches: list[Any], named: dict[str, Write]) -> Write:
    nothing = varint(branches.index("null"))
    ((at, branch),) = ((at, branch) for at, branch in enumerate(branches) if branch != "null")
    something, write = varint(at), _of(branch, named)
    return lambda value: nothing if value is None else something + write(value)


def _array(write: Write) -> Write:
    return lambda items: b"".join([varint(len(items)), *map(write, items), b"\x00"]) if items else b"\x00"
