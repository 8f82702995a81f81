"""What others write to the processor's own topics stops nobody."""

import pytest

from infra import metrics, topics
from infra.settings import Settings
from infra.worlds import World
from processors.standing import Reader
from schemas.codec import Codec
from schemas.errors import ComponentError
from schemas.records import EventKind, FeedEvent, LiveBars, Progress
from tests.processors.test_service import recent_ms
from tests.support import Out, produce_all

pytestmark = pytest.mark.kafka

PARTITION = 2
KEY = str(PARTITION)


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
    stand = Reader(settings, codec).read_back([PARTITION])[PARTITION]
    assert stand.next_offset == 5
    assert stand.live == [live]
    topic = World(settings.world).topic(topics.PROGRESS.name)
    assert metrics.PROCESSOR_SKIPPED.labels(topic, "decode")._value.get() == 3
    assert metrics.PROCESSOR_SKIPPED.labels(topic, "unknown_schema")._value.get() == 1


def test_the_latest_of_ours_counts(settings: Settings, codec: Codec) -> None:
    values = [codec.encode(Progress(next_offset=offset)) for offset in (5, 7)]
    write(settings, topics.PROGRESS.name, KEY, *values)
    assert Reader(settings, codec).read_back([PARTITION])[PARTITION].next_offset == 7


def test_strangers_alone_do_not_mean_a_first_start(settings: Settings, codec: Codec, strangers: list[bytes]) -> None:
    write(settings, topics.PROGRESS.name, KEY, *strangers)
    reader = Reader(settings, codec)
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
    assert Reader(settings, codec).read_back([PARTITION])[PARTITION].dead == [8]
