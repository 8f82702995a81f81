"""How a message becomes the bytes of a frame: a head of one connection before a body that all share.

The body is encoded once for every codec in use, whatever the number of clients; the head holds the connection's
``seq``. Another encoding is another `Wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson
from aiohttp import WSMsgType


class Wire(Protocol):
    """One encoding."""

    frame_type: WSMsgType

    def body(self, message: Mapping[str, Any]) -> bytes:
        """The shared part of a message, which is an object that is not empty."""

    def frame(self, seq: int, body: bytes) -> bytes:
        """The whole message with ``seq`` as its first field."""


class JsonWire:
    """JSON in text frames."""

    frame_type = WSMsgType.TEXT

    def body(self, message: Mapping[str, Any]) -> bytes:
        return orjson.dumps(message)

    def frame(self, seq: int, body: bytes) -> bytes:
        return b'{"seq":%d,%b' % (seq, body[1:])


JSON: Final = JsonWire()
