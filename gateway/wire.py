"""How a message becomes bytes: once for all who get it, but for the ``seq`` of each connection.

Rows are encoded once for every codec in use, whatever the number of clients.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson
import ormsgpack
from aiohttp import WSMsgType

_FIXMAP: Final = 0x80
_ARRAY32: Final = b"\xdd"
_UINT32_FIRST: Final = 0xCE
_UINT32: Final = struct.Struct(">BI").pack
_FINAL: Final = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""In place of a payload's length: how many bytes after it tell it."""


class Body(NamedTuple):
    """What all who get a message share: it is ``start``, their `Wire.number`, ``rest``."""

    start: bytes
    rest: bytes

    def message(self, number: bytes) -> bytes:
        return b"".join((self.start, number, self.rest))


class Wire(Protocol):
    """One encoding."""

    name: str
    frame_type: WSMsgType

    def load(self, data: bytes | str) -> Any:
        """A client's message. Raises ValueError."""

    def body(self, message: Mapping[str, Any]) -> Body:
        """A message, which is an object of 1 to 14 fields; its first one will be ``seq``."""

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Some rows, to be put together by `batch`."""

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> Body:
        """A message with these fields, and ``count`` rows as its ``data``."""

    def number(self, seq: int) -> bytes:
        """The value of ``seq``."""


class JsonWire:
    """JSON in text frames."""

    name = "json"
    frame_type = WSMsgType.TEXT

    def load(self, data: bytes | str) -> Any:
        return orjson.loads(data)

    def body(self, message: Mapping[str, Any]) -> Body:
        return Body(_JSON_SEQ, b",%b" % orjson.dumps(message)[1:])

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return orjson.dumps(rows)[1:-1]

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> Body:  # noqa: ARG002
        return Body(_JSON_SEQ, b',%b,"data":[%b]}' % (orjson.dumps(fields)[1:-1], b",".join(parts)))

    def number(self, seq: int) -> bytes:
        return b"%d" % seq


class MsgpackWire:
    """MessagePack in binary frames; an object's first byte counts its fields."""

    name = "msgpack"
    frame_type = WSMsgType.BINARY

    def load(self, data: bytes | str) -> Any:
        if isinstance(data, str):
            raise ValueError("text where binary frames were agreed upon")  # noqa: TRY004 - the one error of load
        return ormsgpack.unpackb(data)

    def body(self, message: Mapping[str, Any]) -> Body:
        packed = ormsgpack.packb(message)
        return Body(bytes([packed[0] + 1]) + _SEQ, packed[1:])

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return b"".join(map(ormsgpack.packb, rows))

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> Body:
        rest = (ormsgpack.packb(fields)[1:], _DATA, _ARRAY32, count.to_bytes(4, "big"), *parts)
        return Body(bytes([_FIXMAP | (len(fields) + 2)]) + _SEQ, b"".join(rest))

    def number(self, seq: int) -> bytes:
        return _UINT32(_UINT32_FIRST, seq) if seq < 1 << 32 else ormsgpack.packb(seq)


_JSON_SEQ: Final = b'{"seq":'
_DATA: Final = ormsgpack.packb("data")
_SEQ: Final = ormsgpack.packb("seq")


def header(kind: WSMsgType, size: int) -> bytes:
    """What comes before a server's payload of ``size`` bytes in one frame. Source: RFC 6455, 5.2."""
    first = _FINAL | kind
    if size < _TWO_BYTES:
        return struct.pack("!BB", first, size)
    if size < 1 << 16:
        return struct.pack("!BBH", first, _TWO_BYTES, size)
    return struct.pack("!BBQ", first, _EIGHT_BYTES, size)


JSON: Final = JsonWire()
MSGPACK: Final = MsgpackWire()
WIRES: Final[dict[str, Wire]] = {JSON.name: JSON, MSGPACK.name: MSGPACK}
