"""Clients that follow the same streams of a channel are one group, which a message is put together for once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

from gateway.frames import Conflation
from gateway.patterns import ALL, is_pattern, matches
from gateway.protocol import EVENTS, WITH_TIMEFRAME, Stream

Interests = Mapping[int, frozenset[Stream]]
"""A client's streams of one channel by interval (milliseconds; 0: every row)."""
C = TypeVar("C")
_MOST_KNOWN: Final = 65_536


class Group(Generic[C]):
    """Those who follow the same streams at the same interval."""

    __slots__ = ("channel", "clients", "conflation", "due", "interval", "quicker", "streams")

    def __init__(self, channel: str, interval: int, streams: frozenset[Stream], quicker: frozenset[Stream]) -> None:
        self.channel, self.interval, self.streams = channel, interval, streams
        self.quicker = quicker
        """What they follow at a shorter interval as well: it does not come twice."""
        self.clients: dict[C, None] = {}
        self.conflation = Conflation()
        self.due = 0.0


class Groups(Generic[C]):
    """All groups, found by the streams that they follow."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int, frozenset[Stream], frozenset[Stream]], Group[C]] = {}
        self._followers: dict[Stream, dict[Group[C], None]] = {}
        self._patterns: dict[str, int] = {}
        self._matching: dict[str, tuple[str, ...]] = {}

    def change(self, client: C, channel: str, before: Interests, after: Interests) -> None:
        """A client follows other streams of a channel."""
        for key in _keys(channel, before):
            self._leave(client, key)
        for key in _keys(channel, after):
            self._join(client, key)

    def following(self, stream: Stream) -> list[Group[C]]:
        """Each group once, however many of its subscriptions hold the stream."""
        wider = self._wider(stream)
        found: dict[Group[C], None] = {}
        for each in wider:
            found |= self._followers.get(each, {})
        return [group for group in found if not group.quicker or group.quicker.isdisjoint(wider)]

    def conflated(self) -> list[Group[C]]:
        """Those that do not get every row."""
        return [group for group in self._groups.values() if group.interval]

    def _wider(self, stream: Stream) -> tuple[Stream, ...]:
        """All subscriptions that a stream falls under."""
        channel, symbol, timeframe = stream
        if channel == EVENTS and symbol == ALL:  # an event of a whole feed concerns each of its symbols
            return tuple(known for known in self._followers if known.channel == EVENTS)
        names = (symbol, *self._patterns_of(symbol))
        if channel not in WITH_TIMEFRAME:
            return tuple(Stream(channel, name) for name in names)
        return tuple(Stream(channel, name, each) for name in names for each in (timeframe, ALL))

    def _patterns_of(self, symbol: str) -> tuple[str, ...]:
        found = self._matching.get(symbol)
        if found is None:
            if len(self._matching) >= _MOST_KNOWN:
                self._matching.clear()
            found = self._matching[symbol] = tuple(each for each in self._patterns if matches(each, symbol))
        return found

    def _join(self, client: C, key: tuple[str, int, frozenset[Stream], frozenset[Stream]]) -> None:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
            for stream in group.streams:
                self._followers.setdefault(stream, {})[group] = None
                self._count(stream.symbol, 1)
        group.clients[client] = None

    def _leave(self, client: C, key: tuple[str, int, frozenset[Stream], frozenset[Stream]]) -> None:
        group = self._groups[key]
        del group.clients[client]
        if group.clients:
            return
        del self._groups[key]
        for stream in group.streams:
            del self._followers[stream][group]
            if not self._followers[stream]:
                del self._followers[stream]
            self._count(stream.symbol, -1)

    def _count(self, symbol: str, by: int) -> None:
        if not is_pattern(symbol):
            return
        left = self._patterns.get(symbol, 0) + by
        if left:
            self._patterns[symbol] = left
        else:
            del self._patterns[symbol]
        if left in {0, by}:
            self._matching.clear()


def _keys(channel: str, interests: Interests) -> Iterable[tuple[str, int, frozenset[Stream], frozenset[Stream]]]:
    quicker: frozenset[Stream] = frozenset()
    for interval, streams in sorted(interests.items()):
        if streams:
            yield channel, interval, streams, quicker
            quicker |= streams


class Interest:
    """Whether some streams hold another."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._groups: Groups[None] = Groups()
        wanted = frozenset(streams)
        for channel in {stream.channel for stream in wanted}:
            self._groups.change(None, channel, {}, {0: frozenset(each for each in wanted if each.channel == channel)})

    def holds(self, stream: Stream) -> bool:
        return bool(self._groups.following(stream))
