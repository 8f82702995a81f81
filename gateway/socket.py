"""aiohttp's WebSocket, told more exactly how to write and how to close."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.protocol import Code
from gateway.wire import Body
from infra import metrics

GOODBYE_SECONDS: Final = 2.0
"""How long a client may take over its farewell before it is cut off."""
_PEER_PING_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_AHEAD_BYTES: Final = 65_536
"""What may wait in the transport before a frame has to wait in the queue."""
_FINAL: Final = 0x80
_SHORT, _MEDIUM = 126, 65_536
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_SHORT_HEADER, _MEDIUM_HEADER, _LONG_HEADER = (
    struct.Struct("!BB").pack,
    struct.Struct("!BBH").pack,
    struct.Struct("!BBQ").pack,
)


class Socket(web.WebSocketResponse):
    """Closes with a reason when a message is too large, and writes at once what the transport has room for.

    The rest of a message that is too large is read and dropped for a while: closing at once would reset the
    connection, and the reason would be lost on the way.
    """

    def __init__(self, limit: int, transport: asyncio.Transport | None, *, compress: bool = False) -> None:
        super().__init__(max_msg_size=limit, compress=compress, heartbeat=_PEER_PING_SECONDS, timeout=GOODBYE_SECONDS)
        self._limit = limit
        self._transport = transport

    def write_now(self, body: Body, number: bytes, kind: WSMsgType) -> bool:
        """Write a frame without waiting; False if it has to wait (or to be compressed). Source: RFC 6455, 5.2."""
        transport = self._transport
        if transport is None or self.compress or self.closed or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > _AHEAD_BYTES:
            return False
        start, rest = body
        size = len(start) + len(number) + len(rest)
        if size < _SHORT:
            header = _SHORT_HEADER(_FINAL | kind, size)
        elif size < _MEDIUM:
            header = _MEDIUM_HEADER(_FINAL | kind, _TWO_BYTES, size)
        else:
            header = _LONG_HEADER(_FINAL | kind, _EIGHT_BYTES, size)
        transport.write(b"".join((header, start, number, rest)))
        return True

    def cut_off(self) -> None:
        """Drop a client that hangs."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        if code == WSCloseCode.MESSAGE_TOO_BIG and self._transport is not None:
            metrics.CLIENT_ERRORS.labels(Code.TOO_LARGE.value).inc()
            reason = b"%d: a message has at most %d bytes" % (Code.TOO_LARGE, self._limit)
            with contextlib.suppress(ConnectionError):
                await self.send_frame(code.to_bytes(2, "big") + reason, WSMsgType.CLOSE)
            for _ in range(round(GOODBYE_SECONDS / _LOOK_SECONDS)):
                if self._transport.is_closing():
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        return await super().close(code=code, message=message, drain=drain)
