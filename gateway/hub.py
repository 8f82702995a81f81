"""Who gets what: subscriptions by stream, and one encoded body for all who share it. Lives in the event loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gateway import protocol
from gateway.market import Market, Update
from gateway.protocol import ALL, EVENTS, WITH_TIMEFRAME, Message, Stream
from gateway.wire import Wire


class Client(Protocol):
    """A connection as the hub sees it."""

    wire: Wire

    def offer(self, body: bytes, channel: str) -> None:
        """Queue a body; never blocks."""


class Hub:
    """The market's state and the clients that follow it.

    Every method runs in the loop without a pause, so a snapshot and the updates after it leave neither hole nor
    overlap.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.clients: dict[Client, dict[Stream, None]] = {}
        self._followers: dict[Stream, dict[Client, None]] = {}

    def join(self, client: Client) -> None:
        self.clients[client] = {}

    def leave(self, client: Client) -> None:
        for stream in list(self.clients.get(client, ())):
            self.unsubscribe(client, stream)
        self.clients.pop(client, None)

    def subscriptions(self, client: Client) -> list[Stream]:
        """A client's streams in the order of subscription."""
        return list(self.clients[client])

    def subscribe(self, client: Client, stream: Stream) -> None:
        self.clients[client][stream] = None
        self._followers.setdefault(stream, {})[client] = None

    def unsubscribe(self, client: Client, stream: Stream) -> bool:
        """False when the client has no such subscription."""
        if stream not in self.clients[client]:
            return False
        del self.clients[client][stream]
        followers = self._followers[stream]
        del followers[client]
        if not followers:
            del self._followers[stream]
        return True

    def apply(self, update: Update) -> None:
        """Take an update in and pass it on."""
        for stream, rows in self.market.apply(update):
            if followers := self._following(stream):
                self._send(followers, protocol.data(stream.channel, "update", rows), stream.channel)

    def heartbeat(self, now: int) -> None:
        """Tell every client the time and how new each channel's newest record is (UTC epoch milliseconds)."""
        row = {"time": now, "newest": self.market.newest}
        self._send(self.clients, protocol.data("heartbeat", "update", [row]), "heartbeat")

    def _send(self, clients: Iterable[Client], message: Message, channel: str) -> None:
        bodies: dict[Wire, bytes] = {}
        for client in list(clients):
            if client.wire not in bodies:
                bodies[client.wire] = client.wire.body(message)
            client.offer(bodies[client.wire], channel)

    def _following(self, stream: Stream) -> dict[Client, None]:
        """Each client once, however many of its subscriptions hold the stream."""
        wider = wider_streams(stream)
        if stream.channel == EVENTS and stream.symbol == ALL:  # an event of a whole feed concerns each of its symbols
            wider = tuple(known for known in self._followers if known.channel == EVENTS)
        found: dict[Client, None] = {}
        for each in wider:
            found |= self._followers.get(each, {})
        return found


def wider_streams(stream: Stream) -> tuple[Stream, ...]:
    """All subscriptions that a stream falls under."""
    channel, symbol, timeframe = stream
    if channel not in WITH_TIMEFRAME:
        return stream, Stream(channel, ALL)
    return stream, Stream(channel, symbol), Stream(channel, ALL, timeframe), Stream(channel, ALL)
