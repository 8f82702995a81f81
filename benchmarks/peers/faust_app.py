"""Plain Faust, as its manual shows it: ticks filtered one by one, one-minute bars in a table."""

from __future__ import annotations

import io
import json
import os

import fastavro
import faust

SCHEMA = fastavro.parse_schema(json.loads(os.environ["SCHEMA"]))
HEADER = int(os.environ["SCHEMA_ID"]).to_bytes(5, "big")

app = faust.App(
    os.environ["GROUP"],
    broker=f"kafka://{os.environ['BOOTSTRAP']}",
    store="memory://",
    datadir=os.environ["STATE"],
    topic_partitions=int(os.environ["PARTITIONS"]),
    topic_disable_leader=True,
    web_enabled=False,
    broker_commit_interval=0.5,
    consumer_auto_offset_reset="earliest",
)
raw = app.topic(os.environ["RAW"], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
clean = app.topic(os.environ["CLEAN"], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
bars = app.Table("bars", default=list)


@app.agent(raw)
async def ticks(stream):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    async for event in stream.events():
        message = event.value
        if message[:5] != HEADER:
            continue
        tick = fastavro.schemaless_reader(io.BytesIO(message[5:]), SCHEMA, None)
        bid = tick["bid"]
        if not 0 < bid <= tick["ask"]:
            continue
        await clean.send(key=event.key, value=message)
        minute, bar = int(tick["ts_event"].timestamp()) // 60, bars[tick["symbol"]]
        if bar and bar[0] == minute:
            bars[tick["symbol"]] = [minute, bar[1], max(bar[2], bid), min(bar[3], bid), bid, bar[5] + 1]
        else:
            bars[tick["symbol"]] = [minute, bid, bid, bid, bid, 1]


if __name__ == "__main__":
    app.main()
