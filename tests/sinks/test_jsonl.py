"""Lines for a pipe: where they go on, and who may write them."""

from __future__ import annotations

import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infra.lake.layout import EVENTS, TICKS
from schemas.errors import ComponentError, FencedError
from schemas.records import EventKind, FeedEvent
from sinks.jsonl import PipeSink
from sinks.sink import Source
from tests.sinks.records import START, batch, tick

SOURCE = Source("main.ticks.clean", 0)


def lines(out: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_say_what_they_are_and_a_restart_goes_on(tmp_path: Path) -> None:
    out = io.BytesIO()
    with closing(PipeSink(tmp_path, "main", out)) as sink:
        assert sink.positions([SOURCE]) == {}
        sink.write(batch(TICKS, [tick(0, bid=1.1)]))
        event = FeedEvent(time=START, kind=EventKind.GAP, feed="x", shard="a", from_=START, to=START + 1, text="")
        sink.write(batch(EVENTS, [event]))
        assert lines(out) == []
        sink.commit({SOURCE: 1})
    first, second = lines(out)
    assert (first["table"], first["world"], first["bid"], first["source_offset"]) == ("ticks", "main", 1.1, 0)
    assert first["ts_event"] == "2014-05-02T03:06:40.000Z"
    assert (second["table"], second["symbol"], second["to"]) == ("events", None, "2014-05-02T03:06:40.001Z")
    with closing(PipeSink(tmp_path, "main", out)) as sink:
        assert sink.positions([SOURCE]) == {SOURCE: 1}
        with closing(PipeSink(tmp_path, "main", out)) as other, pytest.raises(FencedError):
            other.positions([SOURCE])
        with closing(PipeSink(tmp_path, "other", out)) as other:
            assert other.positions([SOURCE]) == {}


def test_a_pipe_that_nobody_reads_ends_the_sink_and_keeps_its_place(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    with closing(PipeSink(tmp_path, "main", Broken())) as sink:
        sink.positions([SOURCE])
        sink.write(batch(TICKS, [tick(0)]))
        with pytest.raises(ComponentError, match="nobody reads the pipe"):
            sink.commit({SOURCE: 1})
        assert sink.positions([SOURCE]) == {}
