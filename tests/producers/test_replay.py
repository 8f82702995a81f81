"""`arbitrex replay` on real brokers; what comes of it is computed with the pure core."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaException, Message, TopicPartition

from infra import kafka as clients
from infra import kafka_log, provision, world_admin
from infra.cli import replay
from infra.cli.main import main
from infra.settings import Settings
from infra.worlds import World
from processors.core.state import State
from processors.core.step import step
from processors.core.types import Batch, Rules
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.records import Bar, Control, ControlKind, EventKind, FeedEvent
from tests.processors.stream import Stream
from tests.processors.test_service import recent_ms
from tests.support import ROOT, Out, environment, eventually, produce_all, read_all

pytestmark = pytest.mark.kafka

RULES = Rules(("M1", "M5", "H1"))
MINUTE = 60_000


def command(settings: Settings, *options: str) -> list[str]:
    world = settings.world
    return [sys.executable, "-m", "infra.cli", "replay", "--source", world, "--into", f"{world}-r", *options]


class Done(NamedTuple):
    returncode: int
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, which saves the seconds that a new one needs to start."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("infra.logs.configure", lambda *_: None)

    def run(*options: str) -> Done:
        monkeypatch.setattr(sys, "argv", command(settings, *options)[2:])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), capsys.readouterr().err)

    return run


def start(settings: Settings, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(settings, *options), env=environment(settings), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def raw(settings: Settings, into: str = "") -> list[Message]:
    return read_all(settings, World(settings.world + into).topic("ticks.raw"))


def count(settings: Settings, into: str = "-r") -> int:
    return sum(kafka_log.ends(settings.kafka, World(settings.world + into).topic("ticks.raw")).values())


def shown(messages: list[Message]) -> list[tuple[object, ...]]:
    return [(m.partition(), m.key(), m.value(), m.timestamp(), m.headers()) for m in messages]


def bars(messages: list[Message], codec: Codec) -> dict[str, Bar]:
    """The closed bars of all partitions, by key, as the aggregator makes them."""
    partitions: dict[int | None, list[Message]] = defaultdict(list)
    for message in messages:
        partitions[message.partition()].append(message)
    found: dict[str, Bar] = {}
    for part in partitions.values():
        decoded = decode_batch([message.value() for message in part], codec)
        batch = Batch(
            decoded.frame,
            decoded.others,
            decoded.bad,
            [message.key() for message in part],
            [message.timestamp()[1] for message in part],
            [message.offset() or 0 for message in part],
        )
        outcome, _ = step(State(), batch, RULES)
        found |= {closed.bar.key: closed.bar for closed in outcome.closed}
    return found


@pytest.fixture
def stream(settings: Settings, codec: Codec) -> Stream:
    """What the source world holds: some five minutes of six symbols, with everything that can be among them."""
    stream = Stream(codec, recent_ms(), partitions=provision.partitions(settings))
    topic = World(settings.world).topic("ticks.raw")
    headers: list[tuple[str, str | bytes | None]] = [("via", b"somewhere")]
    produce_all(settings, topic, [out._replace(headers=headers) for out in stream.specs()])
    produce_all(settings, topic, stream.ticks(3_600, rubbish=True, step_ms=1_000))
    produce_all(settings, topic, stream.watermark(stream.time))
    return stream


@pytest.mark.one_broker
@pytest.mark.usefixtures("stream")
def test_the_whole_log_is_copied_once_and_nothing_else_is_written_there(settings: Settings, run: Run) -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    source = raw(settings)
    assert len(source) > 3_600
    assert shown(raw(settings, "-r")) == shown(source)
    again = run()
    assert again.returncode == 0
    assert "0 records written" in again.stderr
    other = run("--symbols", "EURUSD")
    assert other.returncode == 2
    assert "is another replay" in other.stderr
    assert "--into" in other.stderr
    produce_all(settings, World(f"{settings.world}-r").topic("ticks.raw"), [Out("EURUSD", b"mine", recent_ms())])
    strange = run()
    assert strange.returncode == 2
    assert "something else writes there" in strange.stderr
    assert provision.is_historical(settings.model_copy(update={"world": f"{settings.world}-r"}))


@pytest.mark.one_broker
def test_what_cannot_be_replayed_is_refused_with_the_remedy(settings: Settings, run: Run) -> None:
    world, other = settings.world, f"{settings.world}-other"
    for options, hint in (
        (("--into", "main"), "nothing old enters main"),
        (("--into", world), "cannot be replayed into itself"),
        (("--source", "nowhere"), "arbitrex world list"),
        (("--speed", "fast"), "give max, or a number"),
        (("--from", "3@x"), "write @5000"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "is empty"),
        (("--from", "9@5"), "none of the partitions"),
    ):
        refused = run(*options)
        assert refused.returncode == 2, refused.stderr
        assert hint in refused.stderr
    provision.apply(settings.model_copy(update={"world": other}))
    live = run("--into", other)
    assert live.returncode == 2
    assert "is a live one" in live.stderr


def test_a_range_in_the_middle_gives_the_same_bars_as_far_as_it_spans_them(
    settings: Settings, codec: Codec, stream: Stream, run: Run
) -> None:
    first, last = stream.start_ms + MINUTE + 500, stream.start_ms + 4 * MINUTE
    assert last < stream.time
    done = run("--from", str(first), "--to", str(last))
    assert done.returncode == 0, done.stderr
    copied = raw(settings, "-r")
    source = [m for m in raw(settings) if first <= m.timestamp()[1] < last]
    began = [m for m in copied if m.timestamp()[1] == first and isinstance(codec.decode(m.value() or b""), Control)]
    kinds = [codec.decode(m.value() or b"").kind for m in began]  # type: ignore[union-attr]
    assert sorted(kinds) == sorted([ControlKind.SYMBOL_SPEC, ControlKind.COVERAGE] * len(stream.symbols))
    ended = [m for m in copied if m.timestamp()[1] == last - 1 and (m.key() or b"").startswith(b"@")]
    assert len(ended) >= provision.partitions(settings)
    added = {(m.partition(), m.offset()) for m in [*began, *ended]}
    assert shown([m for m in copied if (m.partition(), m.offset()) not in added]) == shown(source)
    truth, found = bars(raw(settings), codec), bars(copied, codec)
    assert found == {key: bar for key, bar in truth.items() if bar.ts_open >= first and bar.ts_close <= last}
    assert {bar.ts_open for bar in found.values()} == {stream.start_ms + at * MINUTE for at in (2, 3)}


@pytest.mark.one_broker
def test_a_range_by_offsets_says_nothing_of_ticks_it_may_lack(
    settings: Settings, codec: Codec, stream: Stream, run: Run
) -> None:
    done = run("--from", "@100", "--to", "@900", "--symbols", "E*,USDJPY,BTC*,AUDUSD")
    assert done.returncode == 0, done.stderr
    copied = raw(settings, "-r")
    keys = {m.key() for m in copied}
    assert b"EURUSD" in keys
    assert not keys & {b"GBPUSD", b"XAUUSD"}
    offsets = {m.offset() for m in raw(settings) if m.key() == b"EURUSD" and 100 <= (m.offset() or 0) < 900}
    assert sum(m.key() == b"EURUSD" for m in copied) == len(offsets) + 2, "its spec and its coverage are added"
    truth, found = bars(raw(settings), codec), bars(copied, codec)
    assert found
    assert all(truth[key] == bar for key, bar in found.items())
    assert min(bar.ts_open for bar in found.values()) > stream.start_ms


@pytest.mark.one_broker
def test_a_source_without_its_beginning_is_covered_from_what_it_still_has(
    settings: Settings, codec: Codec, stream: Stream, run: Run
) -> None:
    truth_raw = raw(settings)
    truth = bars(truth_raw, codec)
    events = [
        FeedEvent(time=stream.start_ms, kind=EventKind.COVERAGE, feed="sim", shard="a", symbol=symbol, text="covered")
        for symbol in stream.symbols
    ]
    specs = [codec.decode(out.value or b"") for out in stream.specs()]
    world = World(settings.world)
    produce_all(
        settings,
        world.topic("symbols"),
        [
            Out(record.spec.symbol, codec.encode(record.spec), stream.start_ms)
            for record in specs
            if isinstance(record, Control) and record.spec
        ],
    )
    produce_all(
        settings,
        world.topic("feed.events"),
        [Out(str(event.symbol), codec.encode(event), event.time) for event in events],
    )
    topic = world.topic("ticks.raw")
    gone = [TopicPartition(topic, p, end // 9) for p, end in kafka_log.ends(settings.kafka, topic).items()]
    admin = clients.admin(settings.kafka)  # its futures end only while it lives
    try:
        for future in admin.delete_records(gone).values():
            future.result(20)
    except (KafkaException, TimeoutError) as error:
        pytest.skip(f"this broker does not delete records: {error!r}")
    kept = raw(settings)
    assert len(kept) < len(truth_raw)
    done = run("--from", str(stream.start_ms - 5 * MINUTE))
    assert done.returncode == 0, done.stderr
    copied = raw(settings, "-r")
    assert len(copied) == len(kept) + 2 * len(stream.symbols), "a spec and a coverage each"
    found = bars(copied, codec)
    assert found
    assert all(truth[key] == bar for key, bar in found.items())
    first = {symbol: min(m.timestamp()[1] for m in kept if m.key() == symbol.encode()) for symbol in stream.symbols}
    assert set(found) == {key for key, bar in truth.items() if bar.ts_open > first[bar.symbol]}


@pytest.mark.one_broker
def test_killed_and_interrupted_it_goes_on_with_nothing_lost_or_doubled(
    settings: Settings, stream: Stream, run: Run
) -> None:
    speed = (stream.time - stream.start_ms) / 20_000
    provision.apply(settings.model_copy(update={"world": f"{settings.world}-r"}), historical=True)
    for how in ("kill", "SIGINT"):
        before = count(settings)
        process = start(settings, "--speed", str(speed))
        eventually(lambda: count(settings) > before + 400, 60)  # noqa: B023 - called at once
        if how == "kill" or sys.platform == "win32":
            process.kill()
            process.communicate()
            continue
        process.send_signal(signal.Signals[how])
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "the same command goes on" in said
    assert count(settings) < len(raw(settings))
    done = run()
    assert done.returncode == 0, done.stderr
    assert shown(raw(settings, "-r")) == shown(raw(settings))


@pytest.mark.one_broker
def test_a_loop_writes_each_round_into_a_world_of_its_own_and_drops_the_one_before(
    settings: Settings, stream: Stream, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = itertools.count(1)
    work = replay._Round.work

    def until_the_last(self: replay._Round, *arguments: Any) -> int:
        if next(rounds) == 4:  # one of them is not the loop's
            raise UsageError("enough")
        return work(self, *arguments)

    monkeypatch.setattr(replay._Round, "work", until_the_last)
    span = ("--from", str(stream.start_ms + MINUTE), "--to", str(stream.start_ms + 2 * MINUTE))
    assert run(*span, "--into", f"{settings.world}-once").returncode == 0
    done = run(*span, "--loop")
    assert "enough" in done.stderr
    worlds = {world.name for world in world_admin.found(settings) if world.name.startswith(f"{settings.world}-r")}
    assert worlds == {f"{settings.world}-r-2"}
    assert shown(raw(settings, "-r-2")) == shown(raw(settings, "-once")) != []
