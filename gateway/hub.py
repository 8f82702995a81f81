"""Who gets what: subscriptions by stream, and one encoded body for all who share it. Lives in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from gateway import answers
from gateway.cursor import Cursor, Place
from gateway.frames import BatchFrame, Encoded, Frame, MessageFrame
from gateway.groups import Group, Groups, Interest
from gateway.market import Market, Row, Update
from gateway.protocol import RESUMABLE, Message, Stream
from gateway.recent import Gathering, Part, Recent, Step
from infra import metrics

_BEHIND_SECONDS: Final = 5.0
"""How far another gateway may be ahead of this one."""
_LOOK_SECONDS: Final = 0.02


class Client(Protocol):
    """A connection as the hub sees it."""

    @property
    def offer(self) -> Callable[[Frame], None]:
        """Queue a frame; never blocks."""


class Hub:
    """The market's state and the clients that follow it.

    Every method runs in the loop without a pause, so a snapshot and the updates after it leave neither hole nor
    overlap. ``starts``: where the partitions of each channel stand.
    """

    def __init__(self, market: Market, starts: Mapping[str, Mapping[int, Place]] | None = None) -> None:
        self.market = market
        self.clients: dict[Client, dict[Stream, int]] = {}
        """Of each client its streams, in the order of subscription, with their intervals."""
        starts = starts or {}
        self.cursors = {channel: _cursor(channel, starts.get(channel) or {0: Place(0)}) for channel in RESUMABLE}
        """Where each channel stands that can be gone on from."""
        self._written = {channel: str(cursor) for channel, cursor in self.cursors.items()}
        self._recent = {channel: Recent(self._written[channel]) for channel in RESUMABLE}
        self._groups: Groups[Client] = Groups()
        self._gatherings: set[Gathering] = set()

    def join(self, client: Client) -> None:
        self.clients[client] = {}

    def leave(self, client: Client) -> None:
        held = self.clients.get(client, {})
        for channel in {stream.channel for stream in held}:
            self.unsubscribe(client, channel, [stream for stream in held if stream.channel == channel])
        self.clients.pop(client, None)

    def subscriptions(self, client: Client) -> list[Stream]:
        """A client's streams in the order of subscription."""
        return list(self.clients[client])

    def subscribe(self, client: Client, channel: str, streams: Iterable[Stream], interval: int = 0) -> None:
        held = self.clients[client]
        before = _interests(held, channel)
        held.update(dict.fromkeys(streams, interval))
        self._groups.change(client, channel, before, _interests(held, channel))

    def unsubscribe(self, client: Client, channel: str, streams: Iterable[Stream]) -> list[Stream]:
        """Those of the streams that the client had."""
        held = self.clients[client]
        before = _interests(held, channel)
        given_up = [stream for stream in streams if held.pop(stream, None) is not None]
        self._groups.change(client, channel, before, _interests(held, channel))
        return given_up

    def apply(self, update: Update) -> None:
        """Take an update in and pass it on."""
        feeds = dict(self.market.feeds)
        parts = [Part(*new) for new in self.market.apply(update)]
        for gathering in self._gatherings:
            gathering.add(parts)
        for channel, places in update.places.items():
            if places and channel in self.cursors:
                self.cursors[channel] = self.cursors[channel].moved(places)
                self._written[channel] = str(self.cursors[channel])
        for channel in {part.stream.channel for part in parts} | set(update.places):
            mine = [part for part in parts if part.stream.channel == channel]
            if channel in self._recent:
                self._recent[channel].add(Step(self._written[channel], mine))
            if mine:
                self._pass_on(channel, mine)
        changed = [row for key, row in self.market.feeds.items() if row is not feeds.get(key)]
        if changed:
            self._to_all(answers.data("status", "update", changed))

    async def reached(self, cursor: Cursor) -> bool:
        """Wait until we stand where another gateway's client stood, or for a while; whether we do."""
        for _ in range(round(_BEHIND_SECONDS / _LOOK_SECONDS)):
            ours = self.cursors[cursor.channel].places
            if len(ours) != len(cursor.places):
                return False
            if all(mine.next >= theirs.next for mine, theirs in zip(ours, cursor.places, strict=True)):
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def since(self, cursor: Cursor, streams: Iterable[Stream]) -> list[Frame] | None:
        """What a client that stood there has missed of some streams; None when it takes Kafka to tell."""
        steps = self._recent[cursor.channel].after(str(cursor))
        if steps is None:
            return None
        interest = Interest(streams)
        missed = ((step, [part for part in step.parts if interest.holds(part.stream)]) for step in steps)
        return [BatchFrame(cursor.channel, list(map(Encoded, parts)), step.cursor) for step, parts in missed if parts]

    def gather(self, gathering: Gathering) -> None:
        """Keep for somebody what comes from now on."""
        self._gatherings.add(gathering)

    def forget(self, gathering: Gathering | None) -> None:
        """Keep it no longer; that may be said more than once."""
        if gathering is not None:
            self._gatherings.discard(gathering)

    def snapshot(self, stream: Stream, most: int) -> Message:
        """The state that updates of a stream build on, and where its channel stands."""
        cursor = self.cursor(stream.channel)
        more = {"cursor": cursor} if cursor else {}
        return answers.data(stream.channel, "snapshot", self.market.snapshot(stream, most), **more)

    def snapshots(self, channel: str, streams: Iterable[Stream]) -> Message:
        """The same for many streams of a channel at once: no row of it comes twice."""
        rows = {id(row): row for stream in streams for row in self.market.snapshot(stream)}
        cursor = self.cursor(channel)
        return answers.data(channel, "snapshot", list(rows.values()), **({"cursor": cursor} if cursor else {}))

    def newest(self, client: Client, channel: str) -> list[Row]:
        """The newest state of all that a client follows on a channel of states."""
        held = [stream for stream in self.clients.get(client, ()) if stream.channel == channel]
        found = {id(row): row for stream in held for row in self.market.snapshot(stream)}
        return list(found.values())

    def cursor(self, channel: str) -> str | None:
        """Where a channel stands, if it can be gone on from."""
        return self._written[channel] if channel in self._recent else None

    def heartbeat(self, now: int) -> None:
        """Tell every client the time and how new each channel's newest record is (UTC epoch milliseconds)."""
        cursors = {channel: self._written[channel] for channel in RESUMABLE}
        row = {"time": now, "newest": self.market.newest, "cursors": cursors}
        self._to_all(answers.data("heartbeat", "update", [row]))

    def status(self, heartbeat_ms: int) -> Message:
        """What a client is told first."""
        feeds = list(self.market.feeds.values())
        return answers.data("status", "snapshot", feeds, heartbeat_interval=heartbeat_ms)

    def conflated(self, now: float) -> None:
        """Send what is due to those who do not get every row; ``now`` in seconds of any clock."""
        for group in self._groups.conflated():
            if now < group.due:
                continue
            frame = group.conflation.take(group.channel)
            if frame is not None:
                group.due = now + group.interval / 1_000
                _send(group.clients, frame)

    def _pass_on(self, channel: str, parts: Sequence[Part]) -> None:
        cursor = self.cursor(channel)
        by_group: dict[Group[Client], list[Encoded]] = {}
        for part in parts:
            encoded = Encoded(part)
            for group in self._groups.following(part.stream):
                by_group.setdefault(group, []).append(encoded)
        frames: dict[tuple[Encoded, ...], BatchFrame] = {}
        for group, mine in by_group.items():
            if group.interval:
                group.conflation.add([each.part for each in mine], cursor)
                continue
            frame = frames.setdefault(tuple(mine), BatchFrame(channel, mine, cursor))
            _send(group.clients, frame)

    def _to_all(self, message: Message) -> None:
        _send(self.clients, MessageFrame(message))


def _send(clients: Iterable[Client], frame: Frame) -> None:
    receivers = list(clients)
    metrics.CLIENT_MESSAGES.labels(frame.channel).inc(len(receivers))
    for client in receivers:
        client.offer(frame)


def _interests(held: Mapping[Stream, int], channel: str) -> dict[int, frozenset[Stream]]:
    found: dict[int, set[Stream]] = {}
    for stream, interval in held.items():
        if stream.channel == channel:
            found.setdefault(interval, set()).add(stream)
    return {interval: frozenset(streams) for interval, streams in found.items()}


def _cursor(channel: str, places: Mapping[int, Place]) -> Cursor:
    return Cursor(channel, tuple(places[number] for number in sorted(places)))
