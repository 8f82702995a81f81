"""What others write to the processor's own topics stops nobody."""

from dataclasses import replace

import pytest

from infra import metrics, topics
from infra.settings import Settings
from infra.worlds import World
from processors.core.recall import Found, Lack
from processors.core.types import ClosedBar, Rules
from processors.standing import Reader
from schemas.codec import Codec
from schemas.errors import ComponentError
from schemas.records import Bar, BarStatus, EventKind, FeedEvent, LiveBars, OffsetRange, Progress, SymbolSpec
from tests.processors.test_service import recent_ms
from tests.support import Out, produce_all

pytestmark = pytest.mark.kafka

PARTITION = 2
KEY = str(PARTITION)
RULES = Rules(("M1", "H1"))


def closed_bar(ts_open: int) -> Bar:
    return Bar(
        symbol="EURUSD", feed="sim", timeframe="M1", ts_open=ts_open, ts_close=ts_open + 60_000,
        open=1.1, high=1.1, low=1.1, close=1.1, ask_open=1.2, ask_high=1.2, ask_low=1.2, ask_close=1.2,
        tick_volume=1, real_volume=0.0, spread=9, status=BarStatus.FINAL, tick_count=1,
        first_tick_ts=ts_open, first_tick_ordinal=0, last_tick_ts=ts_open, last_tick_ordinal=0, rules="",
    )  # fmt: skip


def write(settings: Settings, name: str, key: str, *values: bytes | None, **headers: bytes) -> None:
    topic = World(settings.world).topic(name)
    records = (Out(key, value, recent_ms(), PARTITION, list(headers.items())) for value in values)
    assert produce_all(settings, topic, records) == len(values)


@pytest.fixture
def strangers(codec: Codec) -> list[bytes]:
    """Undecodable, of a schema that nobody has, of another type."""
    event = FeedEvent(time=0, kind=EventKind.RETENTION_LOSS, feed="", shard="", text="")
    return [b"rubbish", b"\x00\x00\x0f\xff\xffx", codec.encode(event)]


def test_what_is_not_ours_is_skipped(settings: Settings, codec: Codec, strangers: list[bytes]) -> None:
    live = LiveBars(symbol="EURUSD", feed="sim", last_ts=recent_ms(), last_ordinal=0)
    write(settings, topics.PROGRESS.name, KEY, codec.encode(Progress(next_offset=5)), *strangers)
    write(settings, topics.PROGRESS.name, "other", codec.encode(Progress(next_offset=9)))
    write(settings, topics.BARS_LIVE.name, "EURUSD", codec.encode(live), *strangers)
    write(settings, topics.BARS_LIVE.name, "GBPUSD", codec.encode(live), *strangers)
    stand = Reader(settings, codec, RULES).read_back([PARTITION])[PARTITION]
    assert stand.next_offset == 5
    assert stand.live == [live]
    topic = World(settings.world).topic(topics.PROGRESS.name)
    assert metrics.PROCESSOR_SKIPPED.labels(topic, "decode")._value.get() == 3
    assert metrics.PROCESSOR_SKIPPED.labels(topic, "unknown_schema")._value.get() == 1


def test_live_bars_that_cannot_be_worked_with_are_skipped(settings: Settings, codec: Codec) -> None:
    live = LiveBars(symbol="EURUSD", feed="sim", last_ts=recent_ms(), last_ordinal=0)
    mars = SymbolSpec(symbol="EURUSD", feed="sim", shard="a", broker_name="", digits=5, point=1e-5, zone="Mars")
    strange = [replace(live, spec=mars), replace(live, offsets=(OffsetRange(first=0, last=0),))]
    write(settings, topics.BARS_LIVE.name, "EURUSD", *map(codec.encode, [live, *strange]))
    assert Reader(settings, codec, RULES).read_back([PARTITION])[PARTITION].live == [live]
    topic = World(settings.world).topic(topics.BARS_LIVE.name)
    assert metrics.PROCESSOR_SKIPPED.labels(topic, "decode")._value.get() == len(strange)


def test_closed_bars_are_the_last_of_ours(settings: Settings, codec: Codec, strangers: list[bytes]) -> None:
    hour = recent_ms() - 7_200_000
    bars = {n: closed_bar(hour + n * 60_000) for n in range(4)}
    revised = replace(bars[1], revision=1)
    for bar, offsets in ((bars[0], (0, 1, 3)), (bars[1], (3, 5, 8)), (bars[2], (8, 8, 9)), (revised, (3, 9, 9))):
        headers = dict(zip(("first_offset", "last_offset", "offset"), (b"%d" % n for n in offsets), strict=True))
        record = Out(bar.key, codec.encode(bar), bar.ts_close, PARTITION, list(headers.items()))
        produce_all(settings, World(settings.world).topic(topics.BARS.name), [record])
    write(settings, topics.BARS.name, bars[2].key, codec.encode(replace(bars[2], close=9.0)), *strangers)
    write(settings, topics.BARS.name, "GBPUSD|M1|0", *strangers)
    reader = Reader(settings, codec, RULES)
    found = reader.past(PARTITION, {"EURUSD": Lack(bars[0].ts_close, None), "NZDUSD": Lack(0, None)})
    assert found["EURUSD"] == Found([ClosedBar(revised, 3, 9, 9), ClosedBar(bars[2], 8, 8, 9)], None)
    assert found["NZDUSD"] == Found([], None)


def test_the_latest_of_ours_counts(settings: Settings, codec: Codec) -> None:
    values = [codec.encode(Progress(next_offset=offset)) for offset in (5, 7)]
    write(settings, topics.PROGRESS.name, KEY, *values)
    assert Reader(settings, codec, RULES).read_back([PARTITION])[PARTITION].next_offset == 7


def test_strangers_alone_do_not_mean_a_first_start(settings: Settings, codec: Codec, strangers: list[bytes]) -> None:
    write(settings, topics.PROGRESS.name, KEY, *strangers)
    reader = Reader(settings, codec, RULES)
    with pytest.raises(ComponentError, match="none of ours"):
        reader.read_back([PARTITION])
    write(settings, topics.PROGRESS.name, KEY, None)
    assert reader.read_back([PARTITION])[PARTITION].next_offset is None


def test_dead_letters_of_others_do_not_count(settings: Settings, codec: Codec) -> None:
    source = World(settings.world).topic(topics.TICKS_RAW.name).encode()
    write(settings, topics.DEAD_LETTERS.name, "k", b"x")
    write(settings, topics.DEAD_LETTERS.name, "k", b"x", offset=b"3")
    write(settings, topics.DEAD_LETTERS.name, "k", b"x", topic=source, offset=b"many")
    write(settings, topics.DEAD_LETTERS.name, "k", b"x", topic=source, offset=b"8")
    assert Reader(settings, codec, RULES).read_back([PARTITION])[PARTITION].dead == [8]
