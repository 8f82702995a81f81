"""What a Redis holds, and what becomes of a sink whose Redis has lost its last second."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from infra.lake.layout import TICKS
from schemas.errors import FencedError, StoreError
from sinks.redis import RedisSink
from sinks.sink import Source
from tests.sinks import servers
from tests.sinks.records import START, batch, tick

SOURCE = Source("main.ticks.clean", 0)
STREAM = "{main.ticks.clean}/0"


def client_of(url: str) -> Any:
    return redis.Redis.from_url(url)


def test_an_entry_has_the_offset_as_its_id_and_the_records_fields(tmp_path: Path) -> None:
    url = servers.redis_url(tmp_path.name)
    with closing(RedisSink(url, "main", 100)) as sink, closing(client_of(url)) as client:
        sink.positions([SOURCE])
        sink.write(batch(TICKS, [tick(0, bid=0.1 + 0.2), tick(1)]))
        sink.commit({SOURCE: 2})
        entries = client.xrange(STREAM)
        assert [entry for entry, _ in entries] == [b"0-1", b"1-1"]
        fields = entries[0][1]
        assert (fields[b"symbol"], float(fields[b"bid"]), int(fields[b"ts_event"])) == (b"EURUSD", 0.1 + 0.2, START)
        with pytest.raises(ResponseError, match="equal or smaller"):
            client.xadd(STREAM, {"x": 1}, id="1-1")


def test_old_entries_go_and_what_redis_lost_comes_again(tmp_path: Path) -> None:
    url = servers.redis_url(tmp_path.name)
    with closing(RedisSink(url, "main", 100)) as sink, closing(client_of(url)) as client:
        sink.positions([SOURCE])
        for first in range(0, 1_000, 100):
            sink.write(batch(TICKS, (tick(n) for n in range(first, first + 100)), first=first))
            if first == 900:
                before = {key: client.dump(key) for key in (STREAM, f"{STREAM}/next")}
            sink.commit({SOURCE: first + 100})
        assert 100 <= client.xlen(STREAM) < 300
        for key, value in before.items():  # as a restart after its last second was lost
            client.restore(key, 0, value, replace=True)
        sink.write(batch(TICKS, [tick(1_000)], first=1_000))
        with pytest.raises(FencedError, match=r"main.ticks.clean/0"):
            sink.commit({SOURCE: 1_001})
        assert sink.positions([SOURCE]) == {SOURCE: 900}


def test_a_redis_that_is_away_is_an_error_of_ours_without_its_password() -> None:
    with closing(RedisSink("redis://:hush@127.0.0.1:1/0", "main", 100)) as sink:
        with pytest.raises(StoreError, match="does not answer") as error:
            sink.positions([SOURCE])
        assert "hush" not in str(error.value)
