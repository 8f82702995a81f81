"""What the gateway makes of records that it cannot decode, of a registry that it cannot ask, and of busy topics."""

from __future__ import annotations

import itertools
import threading
from typing import Any, cast

import pytest
from confluent_kafka import Message, TopicPartition

from gateway.feed import Decoder, Feed
from infra.settings import Settings
from schemas.codec import Codec
from schemas.definitions import Schema
from schemas.errors import RegistryAwayError
from tests.gateway.market import spec


class Store:
    """A registry that knows our schemas by their ids, unless it is away."""

    away = False

    def id_of(self, name: str) -> int:
        return {"SymbolSpec": 5}.get(name, 9)

    def schema_of(self, schema_id: int) -> Schema:
        assert schema_id
        raise RegistryAwayError("the registry does not answer")


class Record:
    def __init__(self, value: bytes, *, topic: str = "w.symbols", offset: int = 7) -> None:
        self._value, self._topic, self._offset = value, topic, offset

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._offset

    def error(self) -> None:
        return None

    def key(self) -> bytes:
        return self._value

    def value(self) -> bytes:
        return self._value


class Busy:
    """A consumer of topics to which more is written than it reads at a time: it never comes to an end of one."""

    def __init__(self, topics: list[str], high: int) -> None:
        self._topics, self._high, self._next = topics, high, high - 3

    def assign(self, places: list[TopicPartition]) -> None:
        assert [place.topic for place in places] == self._topics

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return self._high - 3, self._high

    def consume(self, *_: object) -> list[Message]:
        self._next += 2
        return [
            cast("Message", cast("Any", Record(b"?", topic=topic, offset=self._next + number)))
            for topic in self._topics
            for number in (-2, -1)
        ]


def messages(*values: bytes) -> list[Message]:
    return [cast("Message", cast("Any", Record(value))) for value in values]


def test_a_registry_that_is_away_is_raised_and_rubbish_is_passed_over() -> None:
    codec = Codec(Store())
    decoder = Decoder({"w.symbols": "symbols"}, codec)
    assert decoder.update(messages(b"rubbish")).specs == []
    with pytest.raises(RegistryAwayError):
        decoder.update(messages(codec.encode(spec("EURUSD"))))


def test_a_start_ends_however_fast_the_topics_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Feed(Settings(world="w"), Codec(Store()))
    consumer = Busy(list(found._topics), high=1_000)
    monkeypatch.setattr("gateway.feed.partition_count", lambda *_: 1)
    monkeypatch.setattr("gateway.feed.clients.consumer", lambda *_, **__: consumer)
    updates = list(itertools.islice(found.load(threading.Event()), 10))
    assert len(updates) == 2
    assert {place.next for places in found.places.values() for place in places.values()} == {1_001}
