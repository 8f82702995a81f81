"""What the gateway makes of records that it cannot decode, and of a registry that it cannot ask."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import Message

from gateway.feed import Decoder
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
    def __init__(self, value: bytes) -> None:
        self._value = value

    def topic(self) -> str:
        return "w.symbols"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return self._value

    def value(self) -> bytes:
        return self._value


def messages(*values: bytes) -> list[Message]:
    return [cast("Message", cast("Any", Record(value))) for value in values]


def test_a_registry_that_is_away_is_raised_and_rubbish_is_passed_over() -> None:
    codec = Codec(Store())
    decoder = Decoder({"w.symbols": "symbols"}, codec)
    assert decoder.update(messages(b"rubbish")).specs == []
    with pytest.raises(RegistryAwayError):
        decoder.update(messages(codec.encode(spec("EURUSD"))))
