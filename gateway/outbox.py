"""What a client has still to be sent: bounded in messages and bytes, with a rule for what is too much."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway import answers
from gateway.frames import Frame, Packet
from gateway.market import Row
from gateway.protocol import CHANNELS, STATES, Message
from gateway.socket import Socket
from gateway.wire import Wire
from infra import metrics

_HEARTBEAT: Final = "heartbeat"


class Slow(StrEnum):
    """What becomes of a client that does not keep up."""

    CLOSE = "close"
    SKIP = "skip"
    """What comes while its queue is full is left out, and it is told how much."""
    CONFLATE = "conflate"
    """Of ticks and open bars it gets the newest state once it has caught up; bars and events wait for it."""


@dataclass(slots=True)
class Lost:
    """What a client did not get of one channel."""

    messages: int = 0
    rows: int = 0
    cursor: str | None = None
    """Where it stood before."""

    def add(self, packet: Packet) -> None:
        self.messages += 1
        self.rows += packet.rows


class Outbox:
    """The queue of one connection and what writes it.

    ``newest`` tells the state of all that the client follows on a channel; ``full`` is called once when it is too slow.
    """

    def __init__(
        self,
        socket: Socket,
        wire: Wire,
        slow: Slow,
        *,
        bounds: tuple[int, int],
        newest: Callable[[str], list[Row]],
        full: Callable[[], None],
    ) -> None:
        self.drained = asyncio.Event()
        self._socket, self._wire, self._slow = socket, wire, slow
        self._most_messages, self._most_bytes = bounds
        self._newest, self._full = newest, full
        self._queue: deque[Packet] = deque()
        self._messages = self._bytes = 0
        """What in the queue is no answer."""
        self._lost: dict[str, Lost] = {}
        self._cursors: dict[str, str] = {}
        self._filled = asyncio.Event()
        self._idle = False
        """Nothing waits and nothing is left out: a frame may be written at once."""
        self._closed = False
        self._seq = 0

    def offer(self, frame: Frame) -> None:
        """Send a frame that others get, too, as soon as the client takes it."""
        packet = frame.packet(self._wire)
        if self._idle and (transport := self._socket.room()) is not None:
            self._seq += 1
            transport.write(packet.framed(self._wire.number(self._seq)))
            if packet.cursor is not None:
                self._cursors[frame.channel] = packet.cursor
        elif not (self._closed or (self._lost and self._is_left_out(packet))):
            self._queue_up(packet)

    def answer(self, message: Message) -> None:
        """Send what only this client gets. Not bounded: whoever answers waits until the outbox is `drained`."""
        if self._closed:
            return
        packet = Packet(self._wire, self._wire.body(message))
        if self._idle and (transport := self._socket.room()) is not None:
            self._seq += 1
            transport.write(packet.framed(self._wire.number(self._seq)))
        else:
            self._put(packet)

    def insist(self, frame: Frame) -> None:
        """Send a frame that is part of an answer."""
        packet = frame.packet(self._wire)
        self._remember(packet)
        self._put(Packet(self._wire, packet.body))

    def empty(self) -> None:
        """Forget what waits: the client will not take it."""
        self._queue.clear()
        self._messages = self._bytes = 0
        self._lost.clear()

    def close(self) -> None:
        """Take nothing more; `run` ends when all is written."""
        self._closed, self._idle = True, False
        self._filled.set()

    async def run(self) -> None:
        """Write until closed."""
        while True:
            while self._queue:
                packet = self._queue.popleft()
                if packet.channel is not None:
                    self._messages -= 1
                    self._bytes -= packet.size
                self._seq += 1
                number = self._wire.number(self._seq)
                if (transport := self._socket.room()) is not None:
                    transport.write(packet.framed(number))
                else:
                    await self._socket.send_frame(packet.body.message(number), self._wire.frame_type)
            if self._lost:
                self._tell_lost()
                continue
            if self._closed:
                return
            self._filled.clear()
            self._idle = True
            self.drained.set()
            await self._filled.wait()
            self._idle = False

    def _queue_up(self, packet: Packet) -> None:
        if self._messages < self._most_messages and self._bytes + packet.size <= self._most_bytes:
            self._remember(packet)
            self._put(packet)
        else:
            self._overflow(packet)

    def _put(self, packet: Packet) -> None:
        if packet.channel is not None:
            self._messages += 1
            self._bytes += packet.size
        self._queue.append(packet)
        self.drained.clear()
        self._idle = False
        self._filled.set()

    def _remember(self, packet: Packet) -> None:
        if packet.channel is not None and packet.cursor is not None:
            self._cursors[packet.channel] = packet.cursor

    def _is_left_out(self, packet: Packet) -> bool:
        """Whether a message falls under what is told once the queue is empty."""
        channel = packet.channel
        if channel == _HEARTBEAT:
            return True
        if self._slow is Slow.SKIP and channel in CHANNELS:
            if channel not in self._lost:
                self._lost[channel] = Lost(cursor=self._cursors.get(channel))
            self._lost[channel].add(packet)
            return True
        if self._slow is Slow.CONFLATE and channel in self._lost:
            self._lost[channel].add(packet)
            return True
        return False

    def _overflow(self, packet: Packet) -> None:
        if not self._lost and self._slow is not Slow.CLOSE:
            metrics.SLOW_CLIENTS.labels(self._slow.value).inc()
        if self._slow is Slow.CONFLATE and self._conflate():
            if not self._is_left_out(packet):
                self._queue_up(packet)
        elif not self._is_left_out(packet):
            metrics.SLOW_CLIENTS.labels(Slow.CLOSE.value).inc()
            self._full()

    def _conflate(self) -> bool:
        """Take all states out of the queue; False when there is none."""
        kept: deque[Packet] = deque()
        before = self._messages
        for packet in self._queue:
            if packet.channel not in STATES:
                kept.append(packet)
                continue
            self._lost.setdefault(packet.channel, Lost()).add(packet)
            self._messages -= 1
            self._bytes -= packet.size
        self._queue = kept
        return self._messages < before

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, {}
        for channel, each in lost.items():
            if self._slow is Slow.CONFLATE:
                rows = self._newest(channel)
                message = answers.data(channel, "update", rows, merged=each.rows)
            else:
                told = {"messages": each.messages, "rows": each.rows}
                where = {"cursor": each.cursor} if each.cursor else {}
                message = answers.data(channel, "skipped", [told], **where)
            self._put(Packet(self._wire, self._wire.body(message)))
