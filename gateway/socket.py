"""aiohttp's WebSocket, told more exactly how to write and how to close."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from gateway.protocol import Code
from infra import metrics

GOODBYE_SECONDS: Final = 2.0
"""How long a client may take over its farewell before it is cut off."""
_PEER_PING_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_AHEAD_BYTES: Final = 65_536
"""What may wait in the transport before a frame has to wait in the queue."""


class Socket(web.WebSocketResponse):
    """Closes with a reason when a message is too large, and writes at once what the transport has room for.

    The rest of a message that is too large is read and dropped for a while: closing at once would reset the
    connection, and the reason would be lost on the way.
    """

    def __init__(self, limit: int, transport: asyncio.Transport | None, *, compress: bool = False) -> None:
        super().__init__(max_msg_size=limit, compress=compress, heartbeat=_PEER_PING_SECONDS, timeout=GOODBYE_SECONDS)
        self._limit = limit
        self._transport = transport
        self._plain = False
        """Frames may be written as they are: nothing is compressed, and there was no farewell."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        writer = await super().prepare(request)
        self._plain = not self.compress
        return writer

    def room(self) -> asyncio.Transport | None:
        """What a whole frame may be written to at once; None if it has to wait, or to be compressed."""
        transport = self._transport
        if not self._plain or transport is None or transport.is_closing():
            return None
        return transport if transport.get_write_buffer_size() <= _AHEAD_BYTES else None

    def cut_off(self) -> None:
        """Drop a client that hangs."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        self._plain = False
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
