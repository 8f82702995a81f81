"""The spool on disk, and a publisher behind it, against a Kafka client that acknowledges when it is told to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from infra import metrics
from infra.settings import ProducerSettings, Settings
from producers import publisher as publishers
from producers import spooling
from producers.spool import Batch, Spool
from producers.spooling import SpoolingPublisher, open_publisher
from schemas.codec import Codec
from schemas.errors import BrokerError, SettingsError, StoreError
from schemas.records import Control, ControlKind, Cursor, EventKind, FeedEvent
from tests.schemas.strategies import MemoryStore

MB = 1 << 20
HOUR = 3_600_000
WRITER = """
import sys, pathlib
from producers.spool import Batch, Spool
spool = Spool(pathlib.Path(sys.argv[1]), 1 << 30)
for number in range(1, 10**9):
    spool.put(Batch("t", 0, b"k", [b"x" * 5_000], [number], 1), 0)
    print(number, flush=True)
"""


def batch(number: int, size: int = 100) -> Batch:
    return Batch("main.ticks.raw", number % 3, b"EURUSD", [number.to_bytes(8, "big") * (size // 8)], [number], 1)


def numbers(spool: Spool) -> list[int]:
    return [each.times[0] for _, each in spool.after(0)]


batches = st.builds(
    lambda topic, partition, key, messages: Batch(
        topic, partition, key, [value for value, _ in messages], [time for _, time in messages], len(messages)
    ),
    st.text(),
    st.integers(0, 1_000),
    st.binary(),
    st.lists(st.tuples(st.binary(), st.integers(-(2**63), 2**63 - 1)), min_size=1),
)


@profile(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.lists(batches, max_size=6), dropped=st.integers(0, 6))
def test_what_is_put_comes_back_as_it_was_in_order_until_it_is_dropped(
    given_: list[Batch], dropped: int, tmp_path: Path
) -> None:
    path = tmp_path / "spool.db"
    path.unlink(missing_ok=True)
    spool = Spool(path, MB)
    places = [spool.put(each, 0) for each in given_]
    assert spool.drop(dropped)
    spool.close()
    spool = Spool(path, MB)
    assert list(spool.after(0)) == list(zip(places, given_, strict=True))[dropped:]
    assert spool.ticks == sum(each.ticks for each in given_[dropped:])
    spool.close()


def test_what_was_put_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(400)]
        with pytest.raises(StoreError, match="another producer has it"):
            Spool(path, MB)
        writer.kill()
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    spool = Spool(path, MB)
    found = numbers(spool)
    spool.close()
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= said[-1]


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, MB)
    for number in range(200):
        spool.put(batch(number, 1_000), 0)
    spool.close()
    damaged = bytearray(path.read_bytes())
    damaged[4_096:40_000] = b"\xff" * (40_000 - 4_096)
    path.write_bytes(damaged)
    spool = Spool(path, MB)
    assert spool.put(batch(1), 0) == 1
    spool.close()
    assert [each.read_bytes() for each in tmp_path.glob("spool.db.damaged-*")] == [bytes(damaged)]


@contextmanager
def full_disk(more: int, path: Path) -> Iterator[None]:
    """The spool's files may grow by ``more`` bytes, and the disk has no room then."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = max(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("why", ["bound", "disk"])
def test_what_has_no_room_is_refused_whole_and_the_rest_is_kept(why: str, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, 16 * MB if why == "disk" else MB // 2)
    put = 0
    with full_disk(200_000, path) if why == "disk" else nullcontext():
        while spool.put(batch(put, 20_000), 0) is not None:
            put += 1
        assert spool.put(batch(put, 20_000), 0) is None
    assert 5 < put < 30
    assert numbers(spool) == list(range(put))
    spool.drop(5)
    assert spool.put(batch(put, 20_000), 0) is not None
    spool.close()
    assert numbers(Spool(path, MB)) == list(range(5, put + 1))


class Client:
    """Kafka's client; it has nothing acknowledged while ``away``, which it is for that many polls."""

    def __init__(self) -> None:
        self.away = 0
        self.queue: list[tuple[str, int, bytes, bytes, int]] = []
        self.arrived: list[tuple[str, int, bytes, bytes, int]] = []

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, *rest: Any) -> None:
        self.queue.append((topic, partition, key, value, rest[2]))

    def poll(self, _: float) -> int:
        if self.away:
            self.away -= 1
        else:
            self.arrived += self.queue
            self.queue = []
        return 0

    def flush(self, timeout: float) -> int:
        self.poll(timeout)
        return len(self.queue)

    def purge(self) -> None:
        self.queue = []


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * HOUR

    def now_us(self) -> int:
        return self.now * 1_000

    def now_ms(self) -> int:
        return self.now


FOREVER = 10**9


class Bench:
    """A publisher behind a spool, and what surrounds it."""

    def __init__(self, path: Path, client: Client) -> None:
        self.path, self.client, self.codec = path, client, Codec(MemoryStore())
        self.stopping, self.clock = Event(), Clock()
        self.publisher = self.started()

    def started(self) -> SpoolingPublisher:
        """One that starts, as after the end of the process before."""
        self.client.queue = []
        settings = Settings(producer=ProducerSettings(spool_hours=10))
        self.spool = Spool(self.path, MB)
        return SpoolingPublisher(
            settings, self.codec, self.stopping, self.spool, feed="sim", shard="a", clock=self.clock
        )

    def kill(self) -> None:
        self.spool.close()
        self.publisher = self.started()

    def say(self, number: int, size: int = 100) -> None:
        """A control that is told by its number, and is about so large."""
        self.publisher.control(
            Control(kind=ControlKind.COVERAGE, feed="f" * size, shard="a", symbol="EURUSD", time=number)
        )

    def heard(self) -> list[int]:
        records = [self.codec.decode(value) for topic, _, _, value, _ in self.client.arrived if "raw" in topic]
        return [record.time for record in records if isinstance(record, Control)]

    def events(self) -> list[FeedEvent]:
        records = [self.codec.decode(value) for topic, _, _, value, _ in self.client.arrived if "events" in topic]
        return [record for record in records if isinstance(record, FeedEvent)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    client = Client()
    monkeypatch.setattr(publishers, "partition_count", lambda *_: 4)
    monkeypatch.setattr(publishers.clients, "producer", lambda *_, **__: client)
    bench = Bench(tmp_path / "spool.db", client)
    yield bench
    bench.spool.close()


def full(reason: str) -> float:
    return metrics.SPOOL_FULL.labels("sim", "a", reason)._value.get()


def test_what_waited_arrives_in_order_and_cursors_after_it(bench: Bench) -> None:
    bench.client.away = FOREVER
    for number in range(50):
        bench.say(number)
    assert not bench.publisher.flush(0)
    bench.kill()
    bench.client.away = 0
    for number in range(50, 60):
        bench.say(number)
    assert bench.publisher.flush(1)
    assert bench.heard() == list(range(60))
    assert bench.spool.oldest is None
    bench.publisher.cursor(Cursor(feed="sim", shard="a", symbol="EURUSD", last_msc=1, seen=()), 1)
    assert bench.publisher.flush(1)
    assert "cursors" in bench.client.arrived[-1][0]
    assert bench.spool.oldest is None, "a cursor needs no spool"


def test_a_restart_repeats_what_was_not_forgotten_and_loses_nothing(bench: Bench) -> None:
    for number in range(30):
        bench.say(number)
    bench.client.away = FOREVER
    for number in range(30, 40):
        bench.say(number)
    bench.client.arrived += bench.client.queue  # Kafka had them, and the process ended before it heard of it
    bench.kill()
    bench.client.away = 0
    assert bench.publisher.flush(1)
    heard = bench.heard()
    assert sorted(set(heard)) == list(range(40))
    assert heard[-10:] == list(range(30, 40))


def test_at_its_bound_a_call_waits_and_nothing_is_lost(bench: Bench) -> None:
    before = full("size")
    bench.client.away = FOREVER
    sent = 0
    while bench.spool.bytes < bench.spool.most_bytes - 40_000:
        bench.say(sent, 10_000)
        sent += 1
    bench.client.away = 20
    for number in range(sent, sent + 20):
        bench.clock.now += 60_000
        bench.say(number, 10_000)
    assert bench.publisher.flush(1)
    assert bench.heard() == list(range(sent + 20))
    assert full("size") == before + 1
    (told,) = [event for event in bench.events() if event.from_ is not None]
    assert (told.kind, told.shard) == (EventKind.SPOOL, "a")
    assert "size" in told.text


def test_it_is_said_before_it_is_full(bench: Bench) -> None:
    bench.client.away = FOREVER
    bench.say(0)
    for _ in range(79):
        bench.clock.now += HOUR // 10
        bench.publisher.flush(0)
    bench.client.away = 0
    assert bench.publisher.flush(1)
    assert not bench.events()
    bench.client.away = FOREVER
    bench.say(1)
    for _ in range(99):
        bench.clock.now += HOUR // 10
        bench.publisher.flush(0)
    assert metrics.SPOOL_AGE.labels("sim", "a")._value.get() == pytest.approx(9.9 * 3_600)
    bench.client.away = 0
    assert bench.publisher.flush(1)
    (told,) = bench.events()
    assert "8.0 h of 10" in told.text


def test_too_old_it_takes_no_more_and_who_asks_it_to_stop_is_told(bench: Bench) -> None:
    before = full("age")
    bench.client.away = FOREVER
    bench.say(0)
    bench.clock.now += 11 * HOUR
    bench.stopping.set()
    with pytest.raises(BrokerError, match="the spool is full"):
        bench.say(1)
    assert full("age") == before + 1
    bench.kill()
    bench.client.away = 3
    bench.say(1)
    assert bench.publisher.flush(1)
    assert bench.heard() == [0, 1]


def test_ticks_go_past_a_spool_whose_disk_is_full_when_kafka_has_all_before(bench: Bench) -> None:
    before = full("disk")
    with full_disk(100_000, bench.path):
        for number in range(60):
            bench.client.away = 2 if number % 7 == 0 else 0
            bench.say(number, 20_000)
    for number in range(60, 70):
        bench.say(number)
    assert bench.publisher.flush(1)
    assert bench.heard() == list(range(70))
    assert full("disk") > before
    assert any("disk" in event.text for event in bench.events())


@pytest.mark.parametrize("mode", ["never", "always"])
def test_a_start_gives_kafka_first_what_was_left(mode: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.spool.close()
    settings = Settings(home=bench.path.parent, producer=ProducerSettings(spool=mode))
    path = settings.spool_dir / "sim" / "a.db"
    spool = Spool(path, MB)
    for number in range(40):
        spool.put(batch(number), 0)
    spool.close()
    monkeypatch.setattr(spooling, "read_cursors", lambda *_: {("sim", "GBPUSD"): None, ("icm", "EURUSD"): None})
    with pytest.raises(SettingsError, match=r"a\.db holds ticks of EURUSD that are of another Kafka"):
        open_publisher(settings, bench.codec, bench.stopping)
    monkeypatch.setattr(spooling, "read_cursors", lambda *_: {("sim", "EURUSD"): None})
    publisher = open_publisher(settings, bench.codec, bench.stopping)
    assert publisher is not None
    assert [time for *_, time in bench.client.arrived] == list(range(40))
    assert isinstance(publisher, SpoolingPublisher) is path.exists() is (mode == "always")
    publisher.close()
