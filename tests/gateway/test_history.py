"""How the past is read from the lake."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gateway.history import History
from gateway.market import Market
from infra.lake import tables
from infra.lake.layout import TICKS
from infra.settings import Settings
from sinks.lake import LakeSink
from sinks.sink import Source
from tests.sinks.records import START, batch, tick

YEAR = 365 * 86_400_000
WHENEVER = 2**50


def test_from_the_beginning_of_time_on_the_lake_is_read_where_it_has_something_only(tmp_path: Path) -> None:
    """In steps of at most four weeks it took minutes, and four who asked kept everybody from history."""
    settings = Settings(home=tmp_path)
    nothing: Any = None
    written = [tick(0), replace(tick(1), ts_event=START + 20 * YEAR)]
    source = Source(f"{settings.world}.ticks.clean", 0)
    with closing(LakeSink(settings.lake_uri, None, settings.world)) as sink:
        sink.positions([source])
        for count, each in enumerate(written, 1):
            sink.write(batch(TICKS, [each]))
            sink.commit({source: count})
    history = History(settings, nothing, Market())
    with closing(history), patch.object(tables, "read_ticks", wraps=tables.read_ticks) as reading:
        pages = list(history._lake_ticks("EURUSD", -WHENEVER, WHENEVER, range(10)))
    assert [row["ts_event"] for page in pages for row in page] == [each.ts_event for each in written]
    assert reading.call_count == len(written)
