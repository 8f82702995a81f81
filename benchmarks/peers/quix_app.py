"""Quix Streams: ticks filtered into one topic, one-minute bars into another. Needs quixstreams and fastavro only."""

from __future__ import annotations

import io
import json
import os
from datetime import timedelta
from typing import Any

import fastavro
from quixstreams import Application

SCHEMA = fastavro.parse_schema(json.loads(os.environ["SCHEMA"]))
HEADER = int(os.environ["SCHEMA_ID"]).to_bytes(5, "big")


def decode(message: bytes) -> dict[str, Any]:
    if message[:5] != HEADER:
        return {"bid": 0.0, "ask": 0.0, "bytes": message}
    tick = fastavro.schemaless_reader(io.BytesIO(message[5:]), SCHEMA, None)
    return {"bid": tick["bid"], "ask": tick["ask"], "bytes": message}


def first(tick: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(("open", "high", "low", "close"), tick["bid"]) | {"ticks": 1}


def join(bar: dict[str, Any], tick: dict[str, Any]) -> dict[str, Any]:
    bid = tick["bid"]
    return {
        "open": bar["open"],
        "high": max(bar["high"], bid),
        "low": min(bar["low"], bid),
        "close": bid,
        "ticks": bar["ticks"] + 1,
    }


def main() -> None:
    app = Application(
        broker_address=os.environ["BOOTSTRAP"],
        consumer_group=os.environ["GROUP"],
        auto_offset_reset="earliest",
        commit_interval=0.5,
        state_dir=os.environ["STATE"],
        auto_create_topics=True,
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
        loglevel="WARNING",
    )
    raw = app.topic(os.environ["RAW"], key_deserializer="bytes", value_deserializer="bytes")
    clean = app.topic(os.environ["CLEAN"], key_serializer="bytes", value_serializer="bytes")
    bars = app.topic(os.environ["BARS"], key_serializer="bytes", value_serializer="json")
    ticks = app.dataframe(raw).apply(decode).filter(lambda tick: 0 < tick["bid"] <= tick["ask"])
    ticks.apply(lambda tick: tick["bytes"]).to_topic(clean)
    windows = ticks.tumbling_window(timedelta(minutes=1), grace_ms=timedelta(seconds=5))
    windows.reduce(reducer=join, initializer=first).final().to_topic(bars)
    app.run()


if __name__ == "__main__":
    main()
