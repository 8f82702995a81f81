"""What commands about one series share: which world they read, and how they write times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.market.calendar import Calendar
    from infra.market.zones import ServerZone
    from infra.series_log import SeriesLog
    from infra.settings import Settings

World = Annotated[
    str | None, typer.Option("--world", help="The world to read; the running stack's unless said.", show_default=False)
]


def settings_of(world: str | None) -> Settings:
    """The settings of a world, or of the one that a stack of this home runs, on that stack if there is one."""
    from infra.settings import load
    from infra.supervisor import runfile

    settings = load(**({} if world is None else {"world": world}))
    run = runfile.read(settings.home)
    if run is not None and "world" not in settings.model_fields_set:
        settings = settings.model_copy(update={"world": run.world})
    return runfile.attached(settings)


def series_log(settings: Settings) -> SeriesLog:
    """A reader of the settings' world. Raises UsageError when there is no such world, BrokerError."""
    from infra.provision import world_topics
    from infra.registry.client import registry
    from infra.series_log import SeriesLog
    from schemas.codec import Codec
    from schemas.errors import UsageError

    if not world_topics(settings):
        raise UsageError(
            f"there is no world {settings.world} at {settings.kafka.bootstrap_servers}: see arbitrex world list"
        )
    return SeriesLog(settings, Codec(registry(settings.registry)))


def iso(ms: int) -> str:
    """A moment for programs: 2026-11-02T14:30:00.250Z, without what is zero behind the minutes."""
    at = datetime.fromtimestamp(ms // 1_000, UTC).replace(microsecond=ms % 1_000 * 1_000)
    return at.isoformat(timespec="milliseconds" if ms % 1_000 else "seconds").replace("+00:00", "Z")


def shown(ms: int, zone: ServerZone | None = None) -> str:
    """A moment for people, on a zone's clock or in UTC: Mon 2026-11-02 14:30."""
    import numpy as np

    reading = ms if zone is None else int(zone.to_server(np.array([ms], np.int64))[0])
    at = datetime.fromtimestamp(reading // 1_000, UTC)
    text = f"{at:%a %Y-%m-%d %H:%M}" + (f":{at:%S}" if reading % 60_000 else "")
    return text + (f".{reading % 1_000:03}" if reading % 1_000 else "")


def unknown_years(calendar: Calendar, start: int, end: int) -> str:
    """A warning when a library's holidays are not known for all of [start, end); empty when they are."""
    import numpy as np

    if calendar.years is None or start >= end:
        return ""
    first, last = calendar.zone.to_server(np.array([start, end - 1], np.int64)).astype("datetime64[ms]")
    years = (int(str(first)[:4]), int(str(last)[:4]))
    if calendar.years[0] <= years[0] and years[1] <= calendar.years[1]:
        return ""
    known = " to ".join(dict.fromkeys(map(str, calendar.years)))
    return f"the calendar {calendar.name} knows the holidays of {known} only; outside it goes by the weekly hours"


def length(ms: int) -> str:
    """How long something lasts: 2 d 1 h 30 min."""
    seconds, rest = divmod(ms, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"), (rest, "ms"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
