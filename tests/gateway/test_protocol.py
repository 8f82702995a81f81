"""What clients may say: every input is a command or a numbered refusal, never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import accepted, refused
from gateway.parsing import parse
from gateway.protocol import (
    CHANNELS,
    METHODS,
    Code,
    Command,
    ListSubscriptions,
    Ping,
    Refusal,
    Seek,
    Speed,
    Steer,
    Step,
    Stream,
    Subscribe,
)

FRAMES = ("M1", "M5", "H1")
TEXT = st.text(max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(METHODS) | JSON,
        "req_id": st.integers() | JSON,
        "params": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "channel": st.sampled_from(CHANNELS) | JSON,
                "symbol": st.lists(TEXT, max_size=3) | JSON,
                "timeframe": st.sampled_from(FRAMES) | JSON,
                "snapshot": st.booleans() | JSON,
                "time": st.integers() | JSON,
                "speed": st.floats() | JSON,
                "ticks": st.integers() | JSON,
            },
        ),
    },
)


def said(params: Any = None, method: str = "subscribe", **more: Any) -> Command | Refusal:
    return parse(json.dumps({"method": method, "params": params, **more}), FRAMES)


def refusal(answer: Command | Refusal) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    assert isinstance(parse(data, FRAMES), Refusal)


@given(NEARLY | JSON)
def test_any_json_is_a_command_or_a_refusal(message: Any) -> None:
    answer = parse(json.dumps(message), FRAMES)
    if isinstance(answer, Refusal):
        json.dumps(refused(answer, 1, 2), allow_nan=False)
    else:
        assert message["method"] in METHODS
    if isinstance(answer, Subscribe):
        assert answer.streams
        assert all(stream.channel in CHANNELS and stream.symbol for stream in answer.streams)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"subscribe"',
        "{}",
        '{"method":1}',
        '{"method":"ping","req_id":1.5}',
        '{"method":"ping","req_id":true}',
        '{"method":"ping","req_id":-1}',
        f'{{"method":"ping","req_id":{2**53}}}',
        f'{{"method":"ping","req_id":{"9" * 5_000}}}',
        '{"method":"ping","req_id":NaN}',
        '{"method":"subscribe"}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_request_is_a_syntax_error(text: str) -> None:
    assert refusal(parse(text, FRAMES)).code is Code.SYNTAX


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"channel": "trades", "symbol": "EURUSD"}, Code.INVALID_CHANNEL),
        ({"symbol": "EURUSD"}, Code.INVALID_CHANNEL),
        ({"channel": ["ticks"], "symbol": "EURUSD"}, Code.INVALID_CHANNEL),
        ({"channel": "ticks"}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": []}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": [1]}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": ""}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "X" * 65}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": [str(n) for n in range(1_001)]}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "EURUSD", "timeframe": "M1"}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "EURUSD", "depth": 5}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "EURUSD", "snapshot": 101}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "*U*R*"}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "EURUSD", "cursor": "bars~1"}, Code.SYNTAX),
        ({"channel": "bars.live", "symbol": "EURUSD", "cursor": "bars.live~1"}, Code.SYNTAX),
        ({"channel": "ticks", "symbol": "EURUSD", "cursor": "ticks~-1"}, Code.SYNTAX),
        ({"channel": "bars", "symbol": "EURUSD", "interval": 100}, Code.SYNTAX),
        ({"channel": "bars", "series": [["EURUSD"]]}, Code.SYNTAX),
        ({"channel": "bars", "series": ["EU"]}, Code.SYNTAX),
        ({"channel": "bars", "series": [["EURUSD", "M7"]]}, Code.INVALID_TIMEFRAME),
        ({"channel": "bars", "symbol": "EURUSD", "timeframe": "M7"}, Code.INVALID_TIMEFRAME),
        ({"channel": "bars", "symbol": "EURUSD", "timeframe": 5}, Code.INVALID_TIMEFRAME),
        ({"channel": "bars", "symbol": [str(n) for n in range(500)], "timeframe": list(FRAMES)}, Code.SYNTAX),
    ],
)
def test_bad_parameters_have_a_number_and_the_request_id(params: Any, code: Code) -> None:
    answer = refusal(said(params, req_id="a-7"))
    assert (answer.code, answer.method, answer.req_id) == (code, "subscribe", "a-7")


def test_an_unknown_method_is_told_the_known_ones() -> None:
    answer = refusal(said(method="buy", req_id=3))
    assert answer.code is Code.UNKNOWN_METHOD
    assert answer.req_id == 3
    assert "subscribe, unsubscribe, subscriptions, ping" in answer.text


def test_a_subscription_is_the_product_of_symbols_and_timeframes() -> None:
    answer = said({"channel": "bars", "symbol": ["EURUSD", "XAUUSD", "EURUSD"], "timeframe": ["M1", "H1"]}, req_id=1)
    assert isinstance(answer, Subscribe)
    assert answer.adding
    assert answer.snapshot
    assert answer.streams == (
        Stream("bars", "EURUSD", "M1"),
        Stream("bars", "EURUSD", "H1"),
        Stream("bars", "XAUUSD", "M1"),
        Stream("bars", "XAUUSD", "H1"),
    )


def test_a_name_alone_stands_for_a_list_and_no_timeframe_for_all() -> None:
    answer = said({"channel": "bars.live", "symbol": "EURUSD"}, "unsubscribe")
    assert answer == Subscribe("unsubscribe", "bars.live", (Stream("bars.live", "EURUSD", "*"),))
    assert said({"channel": "events"}) == Subscribe("subscribe", "events", (Stream("events", "*"),))


def test_what_is_played() -> None:
    assert said({"time": 5, "symbol": "EURUSD"}, "seek") == Seek(5, ("EURUSD",))
    params = {"time": 5, "symbol": ["A", "B"], "timeframe": ["M1"], "to": 9, "speed": "max", "paused": True}
    found = said(params, "seek", req_id=1)
    assert found == Seek(5, ("A", "B"), ("M1",), to=9, speed=None, paused=True, req_id=1)
    assert isinstance(found, Seek)
    assert found.streams == (
        Stream("ticks", "A"), Stream("ticks", "B"), Stream("bars", "A", "M1"), Stream("bars", "B", "M1"),
    )  # fmt: skip
    assert said({"speed": 0.1}, "speed") == Speed("speed", speed=0.1)
    assert said({"ticks": 10}, "step") == Step("step", ticks=10)
    assert said({"timeframe": "H1"}, "step") == Step("step", timeframe="H1")
    assert said(method="pause", req_id="x") == Steer("pause", "x")


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("seek", {"time": 5}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "EUR*"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": [str(n) for n in range(51)]}, Code.SYNTAX),
        ("seek", {"time": "2026-11-02", "symbol": "A"}, Code.SYNTAX),
        ("seek", {"time": -1, "symbol": "A"}, Code.SYNTAX),
        ("seek", {"time": 2**60, "symbol": "A"}, Code.SYNTAX),
        ("seek", {"time": 5, "to": 4, "symbol": "A"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "speed": 0}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "paused": 1}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "cursor": 1}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "cursor": "ticks~0"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "cursor": "!!bars~0!ticks~0!5"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "cursor": "ticks~0!bars~0!ticks~0~0!bars~0!5"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "cursor": "!!ticks~0!bars~0!5!9!1!x!!A"}, Code.SYNTAX),
        ("seek", {"time": 5, "symbol": "A", "timeframe": "*"}, Code.INVALID_TIMEFRAME),
        ("seek", {"time": 5, "symbol": "A", "timeframe": []}, Code.INVALID_TIMEFRAME),
        ("speed", {"speed": True}, Code.SYNTAX),
        ("speed", {}, Code.SYNTAX),
        ("step", {}, Code.SYNTAX),
        ("step", {"ticks": 1, "timeframe": "M1"}, Code.SYNTAX),
        ("step", {"ticks": 10_001}, Code.SYNTAX),
        ("step", {"timeframe": "M7"}, Code.INVALID_TIMEFRAME),
    ],
)
def test_what_cannot_be_played_is_refused(method: str, params: Any, code: Code) -> None:
    answer = refusal(said(params, method, req_id=3))
    assert (answer.code, answer.method, answer.req_id) == (code, method, 3)


def test_ping_and_list() -> None:
    assert said(method="ping", req_id=101) == Ping(101)
    assert said(method="subscriptions", req_id="x") == ListSubscriptions("x")


def test_the_envelope_is_krakens() -> None:
    command = said({"channel": "bars", "symbol": "EURUSD", "timeframe": "M1"}, req_id=1)
    assert isinstance(command, Subscribe)
    assert accepted(command, command.streams[0], 5, 6) == {
        "method": "subscribe",
        "result": {"channel": "bars", "symbol": "EURUSD", "timeframe": "M1", "snapshot": True},
        "success": True,
        "time_in": 5,
        "time_out": 6,
        "req_id": 1,
    }
    assert refused(command.refusal(Code.UNKNOWN_SYMBOL, "unknown symbol EURUSD"), 5, 6, command.streams[0]) == {
        "method": "subscribe",
        "channel": "bars",
        "symbol": "EURUSD",
        "timeframe": "M1",
        "code": 412,
        "error": "unknown symbol EURUSD",
        "success": False,
        "time_in": 5,
        "time_out": 6,
        "req_id": 1,
    }
