"""`arbitrex sink` with several names, of some topics and symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.lake.layout import BARS, REJECTED, TICKS
from infra.settings import JsonlSettings, LakeSettings, RedisSettings, Settings
from schemas.codec import Codec
from schemas.errors import UsageError
from sinks.kinds import sink_of
from sinks.selection import Selection
from tests.sinks import servers
from tests.sinks.stores import places_of
from tests.sinks.test_runner import fill, in_topic
from tests.support import Child, eventually


@pytest.mark.kafka
@pytest.mark.one_broker
def test_several_sinks_keep_what_they_are_told_to(settings: Settings, codec: Codec, tmp_path: Path) -> None:
    settings = settings.model_copy(
        update={
            "lake": LakeSettings(rotate_seconds=0.3),
            "jsonl": JsonlSettings(rotate_seconds=0.3, dir=tmp_path / "lines"),
            "redis": RedisSettings(rotate_seconds=0.3, url=servers.redis_url(tmp_path.name)),
        }
    )
    fill(settings, codec, 0, 40)
    options = ("--topics", "ticks.clean,bars", "--symbols", "EUR*")
    with Child(settings, "sink", "lake", "jsonl", "redis", *options) as child:
        assert child.ready["sinks"] == ["lake", "jsonl", "redis"]
        for table in (TICKS, BARS):
            wanted = [place for place in in_topic(settings, codec, table) if place[0].startswith("EUR")]
            assert len(wanted) == 20
            for name in ("lake", "jsonl", "redis"):
                eventually(lambda: sorted(places_of(settings, name, table)) == wanted, 30)  # noqa: B023 - called at once
    for name in ("lake", "jsonl", "redis"):
        assert list(places_of(settings, name, REJECTED)) == []
    assert {each.name for each in Path(settings.lake_uri).iterdir()} == {"ticks", "bars"}, "the others are left alone"


def test_what_no_sink_keeps_is_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(UsageError, match=r"csv keeps no topic 'feed.events'; it keeps ticks.clean, ticks.rejected"):
        Selection.of("csv", sink_of(settings, "csv").tables, ("feed.events",), ())
    with pytest.raises(UsageError, match="there are lake, csv, jsonl, redis"):
        sink_of(settings, "parquet")
