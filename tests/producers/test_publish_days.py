"""What an import makes of files that go on over many days, in one process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from infra import provision
from infra.market.calendar import parse_calendar
from infra.market.zones import ServerZone
from infra.settings import Settings
from infra.worlds import World
from producers.files.discovery import Wanted, discover
from producers.importer import Summary
from producers.imports import Terms, publish
from schemas.codec import Codec
from schemas.records import Control, ControlKind, Tick
from tests.support import read_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


class Quiet:
    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1_000)


def put(settings: Settings, codec: Codec, folder: Path, zone: str = "UTC") -> Summary:
    terms = Terms(feed="f", zone=ServerZone.parse(zone), calendar=parse_calendar("24/7"))
    days = discover([folder], Wanted("EURUSD")).days
    return publish(settings, codec, days, terms, watcher=Quiet(), stopping=Event())  # type: ignore[arg-type]


def write(path: Path, *moments: str) -> None:
    lines = [f"{moment},{1.1 + n / 1e5:.5f},{1.2 + n / 1e5:.5f}" for n, moment in enumerate(moments)]
    path.write_text("\n".join(["time,bid,ask", *lines]))


def raw(settings: Settings, codec: Codec) -> tuple[list[str], list[Control]]:
    records = [codec.decode(m.value() or b"") for m in read_all(settings, World(settings.world).topic("ticks.raw"))]
    ticks = [record for record in records if isinstance(record, Tick)]
    shown = [f"{datetime.fromtimestamp(tick.ts_event / 1_000, UTC):%Y-%m-%d %H:%M:%S}" for tick in ticks]
    return shown, [record for record in records if isinstance(record, Control)]


def test_a_longer_export_goes_on_where_a_shorter_one_ended(settings: Settings, codec: Codec, tmp_path: Path) -> None:
    provision.apply(settings, historical=True)
    moments = ["2024-05-01 10:00:00", "2024-05-01 10:00:00", "2024-05-02 09:00:00", "2024-05-02 11:30:00"]
    write(tmp_path / "a.csv", *moments)
    assert put(settings, codec, tmp_path).published == 4
    shown, controls = raw(settings, codec)
    assert shown == moments
    assert [c.time for c in controls if c.kind == ControlKind.COVERAGE] == [ms("2024-05-01T10:00:00")]
    marks = [c.time for c in controls if c.kind == ControlKind.WATERMARK]
    assert marks == [ms("2024-05-02T11:30:00")], "after the last tick nothing is known"
    assert put(settings, codec, tmp_path).published == 0

    later = [*moments, "2024-05-02 12:00:00", "2024-05-03 08:00:00"]
    write(tmp_path / "a.csv", *later)
    assert put(settings, codec, tmp_path).published == 2
    assert raw(settings, codec)[0] == later
    assert not [c for c in raw(settings, codec)[1] if c.kind == ControlKind.GAP]

    (tmp_path / "a.csv").unlink()
    write(tmp_path / "b.csv", "2024-05-03 20:00:00", "2024-05-03 20:00:01", "2024-05-05 01:00:00")
    assert put(settings, codec, tmp_path).gaps == 1
    shown, controls = raw(settings, codec)
    assert shown[6:] == ["2024-05-03 20:00:00", "2024-05-03 20:00:01", "2024-05-05 01:00:00"]
    gaps = [(c.from_, c.to) for c in controls if c.kind == ControlKind.GAP]
    assert gaps == [(ms("2024-05-03T08:00:00") + 1, ms("2024-05-03T20:00:00"))]


def test_the_days_after_an_import_can_be_imported(settings: Settings, codec: Codec, tmp_path: Path) -> None:
    provision.apply(settings, historical=True)
    for month, moments in (("04", ["2024-04-01", "2024-04-30"]), ("05", ["2024-05-01", "2024-05-31"])):
        lines = [f"EUR/USD,{moment.replace('-', '')} 00:00:00.000,1.1,1.2\n" for moment in moments]
        (tmp_path / f"EURUSD-2024-{month}.csv").write_text("".join(lines))
        assert put(settings, codec, tmp_path).published == 2
        (tmp_path / f"EURUSD-2024-{month}.csv").unlink()
    shown, controls = raw(settings, codec)
    assert len(shown) == 4
    assert not [c for c in controls if c.kind == ControlKind.GAP], "a month's file has its whole month"


def test_the_hour_shown_twice_is_published_as_two(settings: Settings, codec: Codec, tmp_path: Path) -> None:
    provision.apply(settings, historical=True)
    write(
        tmp_path / "BTCUSD.csv",
        *("2025-10-26 03:10:00", "2025-10-26 03:50:00") * 2,
        "2025-10-26 04:10:00",
    )
    put(settings, codec, tmp_path, "Europe/Athens")
    assert [moment[11:16] for moment in raw(settings, codec)[0]] == ["00:10", "00:50", "01:10", "01:50", "02:10"]
