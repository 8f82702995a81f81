"""``verify``, ``explain`` and ``tail`` as people run them, on a world that a processor made."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from confluent_kafka import Message
from typer.testing import CliRunner, Result

from infra import topics
from infra.cli.main import app
from infra.iso import iso
from infra.kafka_log import partition_count
from infra.proof.reading import Reader
from infra.settings import BarSettings, Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import ArbitrexError
from schemas.records import Bar, Control, ControlKind, Tick
from tests.processors.oracle import caught_up, output
from tests.processors.stream import FEED, SHARD, Stream
from tests.processors.test_service import recent_ms
from tests.support import ROOT, Child, Out, environment, eventually, produce_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]
Run = Callable[..., Result]
DAY_MS = 86_400_000


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line with the settings of the test."""
    for name, value in environment(settings).items():
        if name.startswith("ARBITREX_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return invoke


@dataclass
class Made:
    """A world with everything in it: repeats, rejects, rubbish, a gap, watermarks; processed."""

    settings: Settings
    codec: Codec
    run: Run
    start: int
    bars: list[Bar]
    """Those of EURUSD, by time, the last revision of each."""

    def forge(self, topic: topics.Topic, *bars: Bar | str) -> None:
        """Write bars, or delete those of a key, where the honest ones are, with their headers."""
        honest = {message.key(): message for message in output(self.settings, topics.BARS)}
        like = honest[self.bars[0].key.encode()]
        forged = [
            Out(bar, None, self.start, like.partition())
            if isinstance(bar, str)
            else Out(bar.key, self.codec.encode(bar), bar.ts_close, like.partition(), _headers(honest, bar))
            for bar in bars
        ]
        produce_all(self.settings, World(self.settings.world).topic(topic.name), forged)

    def explain(self, at: int | str) -> Result:
        return self.run("explain", "EURUSD", self.bars[0].timeframe, iso(at) if isinstance(at, int) else at)


def _headers(honest: dict[bytes | None, Message], bar: Bar) -> list[tuple[str, str | bytes | None]]:
    found = honest.get(bar.key.encode())
    return [] if found is None else list(dict(found.headers() or ()).items())


@pytest.fixture
def made(settings: Settings, codec: Codec, run: Run) -> Made:
    raw = World(settings.world).topic(topics.TICKS_RAW.name)
    stream = Stream(codec, recent_ms(), partitions=partition_count(settings.kafka, raw))
    start = stream.start_ms
    gap = Control(
        kind=ControlKind.GAP,
        feed=FEED,
        shard=SHARD,
        symbol="EURUSD",
        time=start,
        from_=start + 70_000,
        to=start + 75_000,
    )
    refused = replace(gap, to=gap.time + 110_000)  # a dead letter: its timestamp is not its time
    gaps = [Out("EURUSD", codec.encode(each), start + at) for at, each in enumerate((gap, refused))]
    produce_all(settings, raw, [*stream.specs(), *gaps])
    produce_all(settings, raw, stream.ticks(2_000, rubbish=True, step_ms=4_000))
    produce_all(settings, raw, stream.watermark(stream.time))
    return processed(settings, codec, run, start, "M1")


def processed(settings: Settings, codec: Codec, run: Run, start: int, name: str) -> Made:
    with Child(settings, "processor"):
        eventually(lambda: caught_up(settings, codec), 60)
    records = [codec.decode(message.value() or b"") for message in output(settings, topics.BARS)]
    bars = [bar for bar in records if isinstance(bar, Bar) and (bar.symbol, bar.timeframe) == ("EURUSD", name)]
    last = {bar.key: bar for bar in bars}
    return Made(settings, codec, run, start, sorted(last.values(), key=lambda bar: (bar.ts_open, bar.number)))


def test_a_world_is_proved_and_a_bar_that_was_tampered_with_is_found(made: Made) -> None:
    honest = made.run("verify")
    assert honest.exit_code == 0, honest.output
    assert "all bars are proved" in honest.output
    (row,) = [line.split() for line in honest.output.splitlines() if "EURUSD   M1 " in line]
    assert row[2:] == [str(len(made.bars)), str(len(made.bars)), "0", "0", "0"]
    assert len(made.bars) > 8
    explains_an_honest_bar_and_one_that_is_not(made)
    says_where_the_terminal_differs(made)
    finds_what_was_forged(made)


def explains_an_honest_bar_and_one_that_is_not(made: Made) -> None:
    partial = made.bars[1]
    assert partial.feed_gap_ms == 5_000
    told = made.explain(partial.ts_open + 30_000)
    assert told.exit_code == 0, told.output
    assert "it is what its ticks make" in told.output
    gap = f"gap: ticks from {iso(made.start + 70_000)} to {iso(made.start + 75_000)} are lost"
    assert gap in told.output
    assert f"{iso(partial.first_tick_ts)} #{partial.first_tick_ordinal}  bid {partial.open} ask" in told.output
    assert "closed or revised by " in told.output
    none = made.explain(made.start - 3_600_000)
    assert none.exit_code == 0, none.output
    assert "it began before coverage" in none.output
    assert f"the nearest bar after: {iso(made.bars[0].ts_open)}" in none.output
    unknown = made.run("explain", "EURUST", "M1", "now")
    assert isinstance(unknown.exception, ArbitrexError)
    assert "EURUSD" in str(unknown.exception)


def says_where_the_terminal_differs(made: Made) -> None:
    other = replace(made.bars[0], close=made.bars[0].close + 1)
    made.forge(topics.RATES, other, *made.bars[1:5])
    result = made.run("verify", "--symbols", "EURUSD")
    assert result.exit_code == 0, result.output
    assert "the terminal's own bars (rates): 5 compared, 1 differ" in result.output
    assert f"rates: EURUSD M1 {iso(other.ts_open)}: close {other.close}, not {made.bars[0].close}" in result.output


def finds_what_was_forged(made: Made) -> None:
    good, gone = made.bars[2:4]
    wrong = replace(good, high=good.high + 1, tick_volume=good.tick_volume + 1)
    extra = replace(good, ts_open=made.start - 120_000, ts_close=made.start - 60_000)
    made.forge(topics.BARS, wrong, extra, gone.key)
    found = made.run("verify", "--symbols", "EURUSD")
    assert found.exit_code == 1, found.output
    what = f"high {wrong.high}, not {good.high}, tick_volume {wrong.tick_volume}, not {good.tick_volume}"
    assert f"EURUSD M1 {iso(good.ts_open)}: {what}" in found.output
    assert f"EURUSD M1 {iso(extra.ts_open)}: there, although its ticks and controls make no such bar" in found.output
    assert f"EURUSD M1 {iso(gone.ts_open)}: missing" in found.output
    assert "XAUUSD" not in found.output
    told = made.explain(good.ts_open)
    assert told.exit_code == 1
    assert "NOT right: high, tick_volume" in told.output
    assert told.output.count("revision 0, final") == 2, "the honest bar and the forged one"
    missing = made.explain(gone.ts_open)
    assert missing.exit_code == 1
    assert "somebody deleted it" in missing.output
    assert "it is missing" in missing.output
    later = made.run("verify", "--from", iso(gone.ts_close), "--symbols", "EURUSD")
    assert later.exit_code == 0, later.output

    clean = next(m for m in output(made.settings, topics.TICKS_CLEAN) if m.key() == b"EURUSD")
    twice = Out("EURUSD", clean.value(), clean.timestamp()[1], clean.partition())
    produce_all(made.settings, World(made.settings.world).topic(topics.TICKS_CLEAN.name), [twice])
    doubled = made.run("verify", "--symbols", "EURUSD")
    assert "1 in ticks.clean or ticks.rejected without a source" in doubled.output


@pytest.fixture
def counted(settings: Settings, codec: Codec, run: Run) -> Made:
    """Minutes of tick bars, with rejects, a gap, a correction, 27 ticks in a millisecond, and a last one rejected."""
    counting = settings.model_copy(update={"bars": BarSettings(timeframes=("M1", "T:10"))})
    raw, midnight = World(settings.world).topic(topics.TICKS_RAW.name), (recent_ms() + 1_200_000) // DAY_MS * DAY_MS
    start = recent_ms() if recent_ms() >= midnight else midnight - 1_200_000
    stream = Stream(codec, start, partitions=partition_count(settings.kafka, raw), symbols=("EURUSD",))
    day = start // DAY_MS * DAY_MS
    covered = Control(kind=ControlKind.COVERAGE, feed=FEED, shard=SHARD, symbol="EURUSD", time=day)
    gap = replace(covered, kind=ControlKind.GAP, time=start, from_=start + 100_000, to=start + 100_500)
    late = Tick(
        symbol="EURUSD", ts_event=start + 200_000, ordinal=999, bid=0.5, ask=0.75, flags=6, feed=FEED,
        server_time=start, ts_recv=(start + 900_000) * 1_000, correction=True,
    )  # fmt: skip
    ticks = [*stream.ticks(500, step_ms=2_000), Out("EURUSD", codec.encode(late), late.ts_event)]
    produce_all(
        settings, raw, [*stream.specs(), *(Out("EURUSD", codec.encode(each), each.time) for each in (covered, gap))]
    )
    end = stream.time + 1_000
    burst = [replace(late, ts_event=end, ordinal=at, bid=99.0, ask=99.5, correction=False) for at in range(27)]
    crossed = replace(late, ts_event=end + 120_000, bid=2.0, ask=1.0, correction=False)
    ticks += [Out("EURUSD", codec.encode(each), each.ts_event) for each in (*burst, crossed)]
    produce_all(settings, raw, ticks)
    return processed(counting, codec, run, start, "T:10")


def test_a_tick_bar_is_explained_by_a_moment_or_by_its_key(counted: Made) -> None:
    partial = next(bar for bar in counted.bars if bar.feed_gap_ms)
    told = counted.explain(partial.first_tick_ts)
    assert told.exit_code == 0, told.output
    head, revisions, *_ = told.output.splitlines()
    where = f"{partial.day}.{partial.number}, {iso(partial.ts_open)} to {iso(partial.ts_close)}, partition "
    assert head.startswith(f"EURUSD T:10 {where}")
    assert "revision 0, partial" in revisions
    ticks = [line for line in told.output.splitlines() if "  flags 6  offset " in line]
    assert sum(line.split()[-1].isdigit() for line in ticks) == 10, "clean ones, and no other bar's"
    assert f"gap: ticks from {iso(counted.start + 100_000)} to {iso(counted.start + 100_500)} are lost" in told.output
    assert f"closed or revised by its last tick, {partial.last_tick_ts} #{partial.last_tick_ordinal}" in told.output
    assert "10 of 10 ticks: full with its last tick" in told.output
    assert "it is what its ticks make" in told.output
    assert counted.explain(f"{partial.day}.{partial.number}").output == told.output

    rejected = output(counted.settings, topics.TICKS_REJECTED)[0]
    told = counted.explain(rejected.timestamp()[1])
    assert told.exit_code == 0, told.output
    reason = dict(rejected.headers() or [])["reason"]
    assert f"  {reason.decode() if isinstance(reason, bytes) else reason}\n" in told.output
    revised = next(bar for bar in counted.bars if bar.revision)
    told = counted.explain(revised.first_tick_ts)
    assert told.exit_code == 0, told.output
    assert "revision 0, final" in told.output
    assert "revision 1, revised" in told.output
    assert f"closed or revised by a correction, {counted.start + 200_000} #999" in told.output
    last = counted.bars[-1]
    told = counted.explain(last.first_tick_ts)
    assert told.exit_code == 0, told.output
    assert f" {last.day}.{last.number}, " in told.output.splitlines()[0]
    assert f"the moment is in {last.number - 2}, {last.number - 1}, {last.number + 1} as well" in told.output
    assert f"10 ticks of its window (ticks.raw, by its provenance):\n  {iso(last.first_tick_ts)} #" in told.output
    where_there_is_none_it_says_why(counted)
    what_was_forged_is_explained(counted)


def where_there_is_none_it_says_why(counted: Made) -> None:
    last = counted.bars[-1]
    still = counted.explain(f"{last.day}.{last.number + 1}")
    assert still.exit_code == 0, still.output
    assert f"{last.day}.{last.number + 1}, {iso(last.ts_open)} to " in still.output
    assert "it is still open: it is not full" in still.output
    assert f"the nearest bar before: {iso(last.ts_open)}" in still.output
    before = counted.explain(counted.bars[0].ts_open - 3_600_000)
    assert before.exit_code == 0, before.output
    assert "its day began before coverage" in before.output
    assert "that there is none is right" in before.output
    later = counted.explain(last.ts_close + DAY_MS)
    assert "the log of EURUSD ends before, at " in later.output
    minute = counted.run("explain", "EURUSD", "M1", iso(last.ts_open + 120_000))
    assert "1 ticks in its window were rejected: crossed" in minute.output
    other = counted.run("explain", "EURUSD", "T:11", iso(last.ts_open))
    assert other.exit_code == 0, other.output
    assert "T:11 is not made; M1 T:10 are" in other.output
    assert f"the ticks of its day make {last.number + 2}" in str(counted.explain(f"{last.day}.999").exception)
    assert f"opens at {last.day}" in str(counted.explain(f"{(last.day or 0) + 5}.0").exception)
    assert "have a number" in str(counted.run("explain", "EURUSD", "M1", f"{last.day}.0").exception)
    assert "its size must be above 0" in str(counted.run("explain", "EURUSD", "T:0", "now").exception)


def what_was_forged_is_explained(counted: Made) -> None:
    good, moved, gone, *_ = (bar for bar in counted.bars if bar.number > 5)
    wrong = replace(good, high=good.high + 1, tick_count=9)
    away = replace(moved, ts_open=moved.ts_close + 5, ts_close=moved.ts_close + 6)
    extra = replace(good, number=999)
    counted.forge(topics.BARS, wrong, away, extra, gone.key)
    told = counted.explain(f"{good.day}.{good.number}")
    assert told.exit_code == 1
    assert "NOT right: high, tick_count" in told.output
    assert told.output.count(f"revision {good.revision}, {good.status}") == 2, "the honest bar and the forged one"
    told = counted.explain(moved.first_tick_ts)
    assert told.exit_code == 1
    assert f"{moved.day}.{moved.number}, {iso(moved.ts_open)} to {iso(moved.ts_close)}" in told.output
    assert "NOT right: ts_open, ts_close" in told.output
    told = counted.explain(f"{extra.day}.999")
    assert told.exit_code == 1
    assert "NOT right: the ticks and controls of the log make no such bar" in told.output
    told = counted.explain(gone.first_tick_ts + 1)
    assert told.exit_code == 1
    assert "somebody deleted it" in told.output
    assert "NOT right: it should be there" in told.output


def test_nothing_to_verify_is_no_success(run: Run) -> None:
    assert "no processor has been here yet" in str(run("verify").exception)
    assert "either --date" in str(run("verify", "--date", "2026-01-01", "--to", "now").exception)
    elsewhere = run("verify", "--world", "nowhere")
    assert "no world nowhere" in str(elsewhere.exception)


@pytest.fixture
def ticks(settings: Settings, codec: Codec) -> list[Out]:
    """A topic with ticks of two symbols, what cannot be decoded and a tombstone."""
    stream = Stream(codec, recent_ms(), partitions=1, symbols=("EURUSD", "XAUUSD"), seed=3)
    sent = [*stream.ticks(20), Out("EURUSD", b"not Avro", stream.time), Out("EURUSD", None, stream.time)]
    produce_all(settings, World(settings.world).topic(topics.TICKS_CLEAN.name), sent)
    return sent


def test_tail_shows_what_is_in_a_topic(settings: Settings, run: Run, ticks: list[Out]) -> None:
    shown = run("tail", "ticks.clean", "--from", "beginning", "--no-follow", "--format", "json")
    assert shown.exit_code == 0, shown.output
    records = [json.loads(line) for line in shown.output.splitlines()]
    assert len(records) == len(ticks)
    decoded = [record for record in records if record["type"]]
    assert {record["type"] for record in decoded} == {"Tick"}
    assert all(record["value"]["ts_event"] == record["time"] for record in decoded)
    (rubbish,) = [record for record in records if "error" in record]
    assert rubbish["value"] == "not Avro"
    assert "Confluent" in rubbish["error"]
    assert [record["key"] for record in records if record["value"] is None] == ["EURUSD"]

    one = run("tail", World(settings.world).topic("ticks.clean"), "--symbol", "XAUUSD", "--from", "0", "--limit", "2")
    assert one.exit_code == 0
    assert one.output.count("Tick  symbol=XAUUSD") == 2
    assert "symbol=EURUSD" not in one.output

    table = run("tail", "ticks.clean", "--from", "1h", "--no-follow", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table.output)))
    assert len(rows) == len(ticks)
    assert {row["symbol"] for row in rows if row["type"]} == {"EURUSD", "XAUUSD"}
    assert float(next(row for row in rows if row["type"])["bid"]) > 0

    last = run("tail", "ticks.clean", "--from", "-1", "--no-follow", "--symbol", "EURUSD")
    assert "deleted" in last.output
    assert run("tail", "ticks.clean", "--from", "now", "--no-follow").output == ""


def test_tail_of_an_unknown_topic_names_those_that_are_like_it(settings: Settings, run: Run) -> None:
    unknown = run("tail", "tick.clean")
    assert "there is: ticks.clean" in str(unknown.exception)
    assert f"neither a topic {settings.world}.tick.clean nor tick.clean" in str(unknown.exception)


@pytest.mark.skipif(os.name == "nt", reason="the signals of a terminal")
@pytest.mark.usefixtures("ticks")
def test_tail_follows_until_it_is_asked_to_stop_or_nobody_reads(settings: Settings, codec: Codec) -> None:
    command = [sys.executable, "-m", "infra.cli", "tail", "ticks.clean", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(settings), cwd=ROOT, text=True
    ) as child:
        assert child.stdout
        assert child.stderr
        assert json.loads(child.stdout.readline())["topic"].endswith(".ticks.clean")
        more = Stream(codec, recent_ms() + 60_000, partitions=1, symbols=("XAUUSD",), seed=9)
        produce_all(settings, World(settings.world).topic(topics.TICKS_CLEAN.name), more.ticks(1))
        key = "EURUSD"
        while key != "XAUUSD":
            record = json.loads(child.stdout.readline())
            key = record["key"] if record["time"] >= iso(more.start_ms) else key
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
        assert child.stderr.read() == ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(settings), cwd=ROOT, text=True
    ) as child:
        assert child.stdout
        assert child.stderr
        assert json.loads(child.stdout.readline())["type"] == "Tick"
        child.stdout.close()
        produce_all(settings, World(settings.world).topic(topics.TICKS_CLEAN.name), more.ticks(1))
        assert child.wait(20) == 0
        assert child.stderr.read() == ""


def test_of_a_world_that_goes_on_only_what_has_its_source_already_is_read(settings: Settings, codec: Codec) -> None:
    clean = World(settings.world).topic(topics.TICKS_CLEAN.name)
    stream = Stream(codec, recent_ms(), partitions=partition_count(settings.kafka, clean))
    produce_all(settings, clean, [out._replace(partition=0) for out in stream.ticks(30)])
    reader = Reader(settings, codec, threading.Event())
    parts = reader.clean(0, 0, None)
    before = len(output(settings, topics.TICKS_CLEAN))
    produce_all(settings, clean, [out._replace(partition=0) for out in stream.ticks(30)])
    assert sum(part.height for part in parts) == before > 0
