from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import kafka_log
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from schemas.records import Control, ControlKind, EventKind, FeedEvent, Tick
from tests.support import ROOT, environment, eventually, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]

DAY_MS = 86_400_000
FIRST = 1_398_902_400_000  # 2014-05-01, a Thursday
HOUR = 3_600_000


@dataclass
class Files:
    folder: Path
    rows: dict[str, list[tuple[int, float, float]]]
    """By day: ms, bid, ask."""

    def write(self, symbol: str = "eurusd", junk: Sequence[str] = ()) -> None:
        folder = self.folder / "tick" / symbol
        folder.mkdir(parents=True, exist_ok=True)
        for day, rows in self.rows.items():
            lines = [f"{ms + (index % 3) / 10},{bid},{ask}" for index, (ms, bid, ask) in enumerate(rows)]
            lines[1:1] = junk
            with zipfile.ZipFile(folder / f"{day}_quote.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{day}_{symbol}_tick_quote.csv", "\r\n".join(lines) + "\r\n")

    def expected(self, offset_ms: int = 0) -> list[tuple[int, int, float, float]]:
        """UTC time, ordinal, bid, ask of each tick."""
        found = []
        for day, rows in self.rows.items():
            midnight = FIRST + (int(day[-2:]) - 1) * DAY_MS - offset_ms
            counts: dict[int, int] = {}
            for ms, bid, ask in rows:
                ordinal = counts[ms] = counts.get(ms, -1) + 1
                found.append((midnight + ms, ordinal, bid, ask))
        return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    chance = random.Random(1)
    rows = {
        day: [
            (ms, round(1.1 + chance.random() / 100, 5), round(1.12 + chance.random() / 100, 5))
            for ms in sorted(chance.choices(range(1_000, 101_000), k=30_000))
        ]
        for day in ("20140501", "20140502")
    }
    return Files(tmp_path / "lean", rows)


def command(settings: Settings, files: Files, *options: str, zone: str = "UTC") -> list[str]:
    arguments = ("import", str(files.folder), "--feed", "f", "--zone", zone, "--into", settings.world)
    return [sys.executable, "-m", "infra.cli", *arguments, *options]


def run(settings: Settings, files: Files, *options: str, zone: str = "UTC") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(settings, files, *options, zone=zone),
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start(settings: Settings, files: Files, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(settings, files, *options), env=environment(settings), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def raw(settings: Settings, codec: Codec) -> tuple[list[Tick], list[Control]]:
    ticks, controls = [], []
    for message in read_all(settings, World(settings.world).topic("ticks.raw")):
        record = codec.decode(message.value() or b"")
        if isinstance(record, Tick):
            assert message.timestamp()[1] == record.ts_event
            ticks.append(record)
        elif isinstance(record, Control):
            controls.append(record)
    return ticks, controls


def count(settings: Settings) -> int:
    return sum(kafka_log.ends(settings.kafka, World(settings.world).topic("ticks.raw")).values())


def told(ticks: Sequence[Tick]) -> list[tuple[int, int, float, float]]:
    return [(tick.ts_event, tick.ordinal, tick.bid, tick.ask) for tick in ticks]


def test_ticks_keep_their_times_and_what_is_no_tick_is_named(settings: Settings, codec: Codec, files: Files) -> None:
    files.write(junk=["rubbish", "12,1.1"])
    done = run(settings, files, "--calendar", "24/7", "--crossed", "keep", zone="UTC-5")
    assert done.returncode == 0, done.stderr
    assert "20140501_quote.zip:2: 1 fields, not 3: 'rubbish'" in done.stderr
    assert "4 malformed lines" in done.stderr
    ticks, controls = raw(settings, codec)
    assert told(ticks) == files.expected(-5 * HOUR)
    assert all(tick.ts_recv == tick.ts_event * 1_000 for tick in ticks)
    assert all(tick.server_time == tick.ts_event - 5 * HOUR for tick in ticks)
    assert {tick.flags for tick in ticks} == {6}
    spec, coverage, watermark = controls
    assert (spec.kind, coverage.kind, watermark.kind) == (
        ControlKind.SYMBOL_SPEC,
        ControlKind.COVERAGE,
        ControlKind.WATERMARK,
    )
    assert spec.spec is not None
    assert (spec.spec.digits, spec.spec.point, spec.spec.zone, spec.spec.crossed) == (5, 0.00001, "UTC-5", "keep")
    assert spec.spec.broker_name == "eurusd"
    assert coverage.time == FIRST + 5 * HOUR
    assert watermark.time == FIRST + 2 * DAY_MS + 5 * HOUR - 1
    events = [codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic("feed.events"))]
    assert [(e.kind, e.from_) for e in events if isinstance(e, FeedEvent)] == [
        (EventKind.HISTORY, FIRST + 5 * HOUR),
        (EventKind.HISTORY, FIRST + DAY_MS + 5 * HOUR),
    ]


def test_a_finished_import_publishes_nothing_and_later_days_follow(
    settings: Settings, codec: Codec, files: Files
) -> None:
    later = Files(files.folder, {"20140507": files.rows["20140502"]})
    files.write()
    assert run(settings, files).returncode == 0
    before = count(settings)
    again = run(settings, files)
    assert again.returncode == 0, again.stderr
    assert "0 ticks published" in again.stderr
    assert count(settings) == before
    later.write()
    assert run(settings, files).returncode == 0
    ticks, controls = raw(settings, codec)
    assert told(ticks) == files.expected() + later.expected()
    gaps = [(c.from_, c.to) for c in controls if c.kind == ControlKind.GAP]
    sunday = FIRST + 3 * DAY_MS
    assert gaps == [(sunday + day * DAY_MS, sunday + (day + 1) * DAY_MS) for day in range(3)], "Saturday is no gap"
    assert [c.time for c in controls if c.kind == ControlKind.COVERAGE] == [FIRST]
    Files(files.folder, {"20140506": files.rows["20140502"]}).write()
    refused = run(settings, files)
    assert refused.returncode == 2
    assert "20140506_quote.zip" in refused.stderr
    assert "already holds later ticks of EURUSD" in refused.stderr


def test_a_killed_import_goes_on_and_ends_with_each_tick_in_order(
    settings: Settings, codec: Codec, files: Files
) -> None:
    files.write()
    files.write("nzdusd")
    for _ in range(3):
        before = count(settings)
        process = start(settings, files, "--speed", "20")
        eventually(lambda: count(settings) > before + 4_000, 60)  # noqa: B023
        process.kill()
        process.communicate()
    done = run(settings, files)
    assert done.returncode == 0, done.stderr
    ticks, controls = raw(settings, codec)
    for symbol in ("EURUSD", "NZDUSD"):
        fresh, highest = [], (-1, -1)
        for tick in ticks:
            if tick.symbol == symbol and (tick.ts_event, tick.ordinal) > highest:
                highest = (tick.ts_event, tick.ordinal)
                fresh.append(tick)
        assert told(fresh) == files.expected()
    assert len(ticks) == len(set(map(hash, ticks))), "nothing is repeated: an import knows what it published"
    for name in ("import-eurusd", "import-nzdusd"):
        assert sum(c.kind == ControlKind.COVERAGE and c.shard == name for c in controls) == 1
        marks = [c.time for c in controls if c.kind == ControlKind.WATERMARK and c.shard == name]
        assert marks == sorted(marks)
        assert marks[-1] == FIRST + 2 * DAY_MS - 1


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C can be sent to one process alone")
def test_ctrl_c_says_how_to_go_on(settings: Settings, codec: Codec, files: Files) -> None:
    files.write()
    process = start(settings, files, "--speed", "5")
    eventually(lambda: count(settings) > 1_000, 60)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert run(settings, files).returncode == 0
    assert told(raw(settings, codec)[0]) == files.expected()


def test_what_cannot_be_imported_is_refused_with_the_remedy(settings: Settings, files: Files) -> None:
    files.write()
    main = run(settings.model_copy(update={"world": "main"}), files)
    assert main.returncode == 2
    assert "--into" in main.stderr
    assert run(settings, files).returncode == 0
    arguments = [option if option != "f" else "g" for option in command(settings, files)]
    other = subprocess.run(
        arguments, env=environment(settings), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert other.returncode == 2
    assert "--symbol EURUSD.g" in other.stderr
    junk = Files(files.folder, {"20140505": [(1, 1.1, 1.2), (2, 1.1, 1.2)]})
    junk.write(junk=["x"])
    strict = run(settings, files, "--strict")
    assert strict.returncode == 1
    assert "1 malformed lines (--strict)" in strict.stderr


def test_files_of_another_zone_do_not_go_on_where_an_import_stopped(settings: Settings, files: Files) -> None:
    day = Files(files.folder, {"20140502": files.rows["20140502"][:100]})
    day.write()
    assert run(settings, day, zone="New_York+7").returncode == 0
    before = count(settings)
    Files(files.folder, {"20140505": files.rows["20140502"][:100]}).write()
    (files.folder / "tick" / "eurusd" / "20140502_quote.zip").unlink()
    other = run(settings, files, zone="UTC")
    assert other.returncode == 2
    assert "imported with another --zone" in other.stderr
    assert count(settings) == before
    same = run(settings, files, zone="Europe/Athens")  # the same clock in that week
    assert same.returncode == 0, same.stderr


def test_without_a_broker_the_error_says_what_to_do(files: Files, tmp_path: Path) -> None:
    files.write()
    nowhere = Settings(world="w", home=tmp_path, kafka={"bootstrap_servers": "127.0.0.1:1"})
    done = run(nowhere, files)
    assert done.returncode == 1
    assert "arbitrex up" in done.stderr
    assert "Traceback" not in done.stderr
