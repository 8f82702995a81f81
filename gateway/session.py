"""One WebSocket connection: commands in, a bounded queue of messages out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

from gateway import protocol
from gateway.hub import Hub
from gateway.protocol import ALL, Code, ListSubscriptions, Message, Ping, Refusal, Stream, Subscribe
from gateway.wire import JSON, Wire
from infra import metrics
from infra.settings import GatewaySettings

OWN_CLOSE_CODES: Final = 4_000
"""A close code of ours is this plus the error's number."""
_ANSWER: Final = "answer"
"""In place of the channel, for metrics."""
_PEER_PING_SECONDS: Final = 30.0
_GOODBYE_SECONDS: Final = 2.0
"""How long a client may take over its farewell before it is cut off."""
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 10
"""Refused messages, in seconds' worth of the limit, that end a connection."""
_LONGEST_REASON: Final = 123
"""Bytes of a close frame that are left for the reason. Source: RFC 6455, 5.5."""


class Socket(web.WebSocketResponse):
    """aiohttp's socket, which closes with a reason when a message is too large.

    The rest of such a message is read and dropped for a while: closing at once would reset the connection, and the
    reason would be lost on the way.
    """

    def __init__(self, limit: int, transport: asyncio.BaseTransport | None) -> None:
        super().__init__(max_msg_size=limit, compress=False, heartbeat=_PEER_PING_SECONDS, timeout=_GOODBYE_SECONDS)
        self._limit = limit
        self._transport = transport

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        if code == WSCloseCode.MESSAGE_TOO_BIG and self._transport is not None:
            metrics.CLIENT_ERRORS.labels(Code.TOO_LARGE.value).inc()
            reason = b"%d: a message has at most %d bytes" % (Code.TOO_LARGE, self._limit)
            with contextlib.suppress(ConnectionError):
                await self.send_frame(code.to_bytes(2, "big") + reason, WSMsgType.CLOSE)
            for _ in range(round(_GOODBYE_SECONDS / _LOOK_SECONDS)):
                if self._transport.is_closing():
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        return await super().close(code=code, message=message, drain=drain)


class Session:
    """The life of one connection. ``now`` gives UTC epoch milliseconds; ``cut_off`` drops a client that hangs."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        hub: Hub,
        limits: GatewaySettings,
        timeframes: Sequence[str],
        *,
        now: Callable[[], int],
        cut_off: Callable[[], None],
    ) -> None:
        self.wire: Wire = JSON
        self._socket = socket
        self._hub = hub
        self._limits = limits
        self._timeframes = timeframes
        self._now = now
        self._cut_off = cut_off
        self._queue: deque[tuple[bytes, str]] = deque()
        self._broadcast = 0
        """How many in the queue are not answers."""
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._farewell: tuple[int, bytes] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until either side closes."""
        self._hub.join(self)
        if len(self._hub.clients) > self._limits.max_connections:
            self.close(Code.CONNECTION_LIMIT, f"at most {self._limits.max_connections} connections")
        tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._write())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._hub.leave(self)
            if self._deadline:
                self._deadline.cancel()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ClientConnectionResetError):
                raise result

    def offer(self, body: bytes, channel: str) -> None:
        """Queue a body; a client that has let its queue fill up is told so and closed."""
        if self._farewell is not None:
            return
        if self._broadcast < self._limits.queue_messages:
            self._broadcast += 1
            self._put(body, channel)
            return
        metrics.SLOW_CLIENTS.labels("close").inc()
        self._queue.clear()
        self._broadcast = 0
        self.close(Code.SLOW_CLIENT, f"slow client: {self._limits.queue_messages} messages were waiting")

    def close(self, code: Code | WSCloseCode, reason: str) -> None:
        """Close once the queue is written. An error of ours is told first and becomes a close code of ours."""
        if self._farewell is not None:
            return
        if isinstance(code, Code):
            self._refuse(Refusal(code, reason))
        number = code + OWN_CLOSE_CODES if isinstance(code, Code) else int(code)
        self._farewell = number, reason.encode()[:_LONGEST_REASON]
        self._deadline = asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self._cut_off)
        self._filled.set()

    async def _read(self) -> None:
        budget = RateLimit(self._limits.max_messages_per_second)
        loop = asyncio.get_running_loop()
        async for message in self._socket:
            await self._drained.wait()  # answers are not bounded by the queue but by this
            if not budget.take(loop.time()):
                text = f"at most {budget.rate} messages a second"
                if budget.refused > _PATIENCE_SECONDS * budget.rate:
                    self.close(Code.TOO_MANY_MESSAGES, text)
                else:
                    self._refuse(Refusal(Code.TOO_MANY_MESSAGES, text))
            elif message.type is WSMsgType.TEXT:
                self._handle(message.data)
            else:
                self._refuse(Refusal(Code.SYNTAX, "binary frames are not understood; send JSON as text"))

    async def _write(self) -> None:
        seq = 0
        while True:
            while self._queue:
                body, channel = self._queue.popleft()
                self._broadcast -= channel != _ANSWER
                seq += 1
                await self._socket.send_frame(self.wire.frame(seq, body), self.wire.frame_type)
                metrics.CLIENT_MESSAGES.labels(channel).inc()
            if self._farewell is not None:
                code, reason = self._farewell
                await self._socket.close(code=code, message=reason)
                return
            self._drained.set()
            self._filled.clear()
            await self._filled.wait()

    def _handle(self, text: str) -> None:
        time_in = self._now()
        command = protocol.parse(text, self._timeframes)
        match command:
            case Refusal():
                self._refuse(command)
            case Ping():
                self._say(protocol.pong(command, time_in, self._now()))
            case ListSubscriptions():
                self._list(command.req_id, time_in)
            case Subscribe():
                for stream in command.streams:
                    if command.adding:
                        self._subscribe(command, stream, time_in)
                    else:
                        self._unsubscribe(command, stream, time_in)
                self._list(command.req_id, time_in)

    def _subscribe(self, command: Subscribe, stream: Stream, time_in: int) -> None:
        held = self._hub.clients[self]
        if stream.symbol != ALL and stream.symbol not in self._hub.market:
            self._refuse(command.refusal(Code.UNKNOWN_SYMBOL, f"unknown symbol {stream.symbol}"), stream)
        elif stream not in held and len(held) >= self._limits.max_subscriptions:
            text = f"at most {self._limits.max_subscriptions} subscriptions"
            self._refuse(command.refusal(Code.SYMBOL_LIMIT, text), stream)
        else:
            self._hub.subscribe(self, stream)
            self._say(protocol.accepted(command, stream, time_in, self._now()))
            if command.snapshot:
                rows = self._hub.market.snapshot(stream)
                self._say(protocol.data(stream.channel, "snapshot", rows))

    def _unsubscribe(self, command: Subscribe, stream: Stream, time_in: int) -> None:
        if self._hub.unsubscribe(self, stream):
            self._say(protocol.accepted(command, stream, time_in, self._now()))
        else:
            self._refuse(command.refusal(Code.NOT_SUBSCRIBED, f"not subscribed to {stream.symbol}"), stream)

    def _list(self, req_id: int | str | None, time_in: int) -> None:
        self._say(protocol.listed(self._hub.subscriptions(self), req_id, time_in, self._now()))

    def _refuse(self, refusal: Refusal, stream: Stream | None = None) -> None:
        metrics.CLIENT_ERRORS.labels(refusal.code.value).inc()
        now = self._now()
        self._say(protocol.refused(refusal, now, now, stream))

    def _say(self, message: Message) -> None:
        if self._farewell is None:
            self._put(self.wire.body(message), _ANSWER)

    def _put(self, body: bytes, channel: str) -> None:
        self._queue.append((body, channel))
        self._drained.clear()
        self._filled.set()


class RateLimit:
    """A bucket of one second's worth of messages, refilled as time passes."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.refused = 0
        """Messages refused since the last second without one."""
        self._left = float(rate)
        self._time: float | None = None

    def take(self, now: float) -> bool:
        """Whether a message at ``now`` (seconds) is within the limit."""
        if self._time is not None:
            self._left = min(self.rate, self._left + (now - self._time) * self.rate)
        self._time = now
        if self._left < 1:
            self.refused += 1
            return False
        if self._left >= self.rate:
            self.refused = 0
        self._left -= 1
        return True
