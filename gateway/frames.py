"""Messages that many clients share: encoded once for every codec in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.market import Row
from gateway.recent import Part
from gateway.wire import Body, Wire, header


class Packet:
    """A message in one codec, as it waits for however many clients.

    ``channel`` is None for an answer, which only one client gets.
    """

    __slots__ = ("_heads", "_kind", "body", "channel", "cursor", "rows", "size")

    def __init__(
        self, wire: Wire, body: Body, channel: str | None = None, rows: int = 0, cursor: str | None = None
    ) -> None:
        self.body, self.channel, self.rows, self.cursor = body, channel, rows, cursor
        self.size = len(body.start) + len(body.rest)
        """In bytes, but for each client's ``seq``."""
        self._kind = wire.frame_type
        self._heads: dict[int, bytes] = {}

    def framed(self, number: bytes) -> bytes:
        """The WebSocket frame of the client whose ``seq`` this is."""
        digits = len(number)
        head = self._heads.get(digits)
        if head is None:
            head = self._heads[digits] = header(self._kind, self.size + digits) + self.body.start
        return b"".join((head, number, self.body.rest))


class Frame:
    """One message, whoever gets it, however it is encoded."""

    __slots__ = ("_packets", "channel", "cursor", "rows")

    def __init__(self, channel: str, rows: int, cursor: str | None) -> None:
        self.channel = channel
        self.rows = rows
        """How many rows it tells; what a client that does not get it has lost."""
        self.cursor = cursor
        """Where its reader then stands."""
        self._packets: dict[str, Packet] = {}

    def packet(self, wire: Wire) -> Packet:
        found = self._packets.get(wire.name)
        if found is None:
            body = self._encoded(wire)
            found = self._packets[wire.name] = Packet(wire, body, self.channel, self.rows, self.cursor)
        return found

    def _encoded(self, wire: Wire) -> Body:
        raise NotImplementedError


class MessageFrame(Frame):
    """A message of its own."""

    __slots__ = ("_message",)

    def __init__(self, message: Mapping[str, Any], rows: int = 0, cursor: str | None = None) -> None:
        super().__init__(message["channel"], rows, cursor)
        self._message = message

    def _encoded(self, wire: Wire) -> Body:
        return wire.body(self._message)


class Encoded:
    """The rows of a part, encoded when somebody first wants them."""

    __slots__ = ("_bytes", "part")

    def __init__(self, part: Part) -> None:
        self.part = part
        self._bytes: dict[str, bytes] = {}

    def rows(self, wire: Wire) -> bytes:
        found = self._bytes.get(wire.name)
        if found is None:
            found = self._bytes[wire.name] = wire.rows(self.part.rows)
        return found


class BatchFrame(Frame):
    """All that one reading brought to those who follow the same streams."""

    __slots__ = ("_parts",)

    def __init__(self, channel: str, parts: Sequence[Encoded], cursor: str | None) -> None:
        super().__init__(channel, sum(len(each.part.rows) for each in parts), cursor)
        self._parts = parts

    def _encoded(self, wire: Wire) -> Body:
        fields = {"channel": self.channel, "type": "update"}
        if self.cursor is not None:
            fields["cursor"] = self.cursor
        return wire.batch(fields, self.rows, [part.rows(wire) for part in self._parts])


class Conflation:
    """The newest row of each series since the last message, and how many there were."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Row] = {}
        self._count = 0
        self.cursor: str | None = None

    def add(self, parts: Sequence[Part], cursor: str | None) -> None:
        self.cursor = cursor
        for part in parts:
            self._newest[part.stream.symbol, part.stream.timeframe] = part.rows[-1]
            self._count += len(part.rows)

    def take(self, channel: str) -> Frame | None:
        """The message that is due; None when nothing happened."""
        if not self._newest:
            return None
        rows = list(self._newest.values())
        more = {"merged": self._count, "cursor": self.cursor}
        frame = MessageFrame({"channel": channel, "type": "update", **more, "data": rows}, self._count, self.cursor)
        self._newest, self._count = {}, 0
        return frame
