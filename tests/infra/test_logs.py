"""Lines that come again and again."""

from __future__ import annotations

import logging

from infra.logs import ClientsRepeats, Repeats


def test_what_kafkas_clients_repeat_is_shown_once_a_minute_with_how_often() -> None:
    now = [0.0]
    clients = ClientsRepeats(Repeats(lambda: now[0]))

    def said(text: str, *args: object, name: str = "aiokafka.client") -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
        return record.getMessage() if clients.filter(record) else None

    assert said("Unable connect to node with id %s: %s", 1, "refused") == "Unable connect to node with id 1: refused"
    for number in range(500):
        now[0] += 0.1
        assert said("Unable connect to node with id %s: %s", number % 3, "refused") is None
    assert said("Unable connect to node with id %s: %s", 1, "not trusted") is not None, "it is another reason"
    assert said("the disk is full", name="sinks.runner") == "the disk is full"
    assert said("the disk is full", name="sinks.runner") == "the disk is full"
    now[0] = 60.0
    told = said("Unable connect to node with id %s: %s", 2, "refused")
    assert told == "Unable connect to node with id 2: refused (and 500 like it since the last one shown)"


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    repeats = Repeats(lambda: 0.0)
    for number in range(5_000):
        assert repeats.left_out(str(number)) == 0
    assert len(repeats._kinds) <= 1_000
