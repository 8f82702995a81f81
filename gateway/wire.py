"""How a message becomes the bytes of a frame: a head of one connection before a body that all share.

Rows are encoded once for every codec in use, whatever the number of clients; the head holds the connection's ``seq``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
import ormsgpack
from aiohttp import WSMsgType

_FIXMAP: Final = 0x80
_ARRAY32: Final = b"\xdd"


class Wire(Protocol):
    """One encoding."""

    name: str
    frame_type: WSMsgType

    def load(self, data: bytes | str) -> Any:
        """A client's message. Raises ValueError."""

    def body(self, message: Mapping[str, Any]) -> bytes:
        """The shared part of a message, which is an object of 1 to 14 fields."""

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Some rows, to be put together by `batch`."""

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> bytes:
        """The body of a message with these fields, and ``count`` rows as its ``data``."""

    def frame(self, seq: int, body: bytes) -> bytes:
        """The whole message, ``seq`` being its first field."""


class JsonWire:
    """JSON in text frames."""

    name = "json"
    frame_type = WSMsgType.TEXT

    def load(self, data: bytes | str) -> Any:
        return orjson.loads(data)

    def body(self, message: Mapping[str, Any]) -> bytes:
        return orjson.dumps(message)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return orjson.dumps(rows)[1:-1]

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> bytes:  # noqa: ARG002
        return b'%b,"data":[%b]}' % (orjson.dumps(fields)[:-1], b",".join(parts))

    def frame(self, seq: int, body: bytes) -> bytes:
        return b'{"seq":%d,%b' % (seq, body[1:])


class MsgpackWire:
    """MessagePack in binary frames; an object's first byte counts its fields."""

    name = "msgpack"
    frame_type = WSMsgType.BINARY

    def load(self, data: bytes | str) -> Any:
        if isinstance(data, str):
            raise ValueError("text where binary frames were agreed upon")  # noqa: TRY004 - the one error of load
        return ormsgpack.unpackb(data)

    def body(self, message: Mapping[str, Any]) -> bytes:
        return ormsgpack.packb(message)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return b"".join(map(ormsgpack.packb, rows))

    def batch(self, fields: Mapping[str, Any], count: int, parts: Sequence[bytes]) -> bytes:
        return b"%c%b%b%b%b%b" % (
            _FIXMAP | (len(fields) + 1),
            ormsgpack.packb(fields)[1:],
            _DATA,
            _ARRAY32,
            count.to_bytes(4, "big"),
            b"".join(parts),
        )

    def frame(self, seq: int, body: bytes) -> bytes:
        return b"%c%b%b%b" % (body[0] + 1, _SEQ, ormsgpack.packb(seq), body[1:])


_DATA: Final = ormsgpack.packb("data")
_SEQ: Final = ormsgpack.packb("seq")

JSON: Final = JsonWire()
MSGPACK: Final = MsgpackWire()
WIRES: Final[dict[str, Wire]] = {JSON.name: JSON, MSGPACK.name: MSGPACK}
