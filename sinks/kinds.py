"""The sinks by name, and the settings of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from infra.lake.layout import TABLES
from infra.settings import Settings, SinkSettings
from schemas.errors import UsageError
from sinks.csv import CSV
from sinks.files import FileSink
from sinks.jsonl import JSONL, PipeSink
from sinks.lake import LakeSink
from sinks.selection import Selection
from sinks.sink import Sink


def _lake(settings: Settings) -> Sink:
    kept = Selection.of(LakeSink.name, TABLES, settings.lake.topics, ()).tables
    return LakeSink(settings.lake_uri, settings.lake.storage_options, settings.world, kept)


def _csv(settings: Settings) -> Sink:
    return FileSink(settings.csv_dir, settings.world, CSV)


def _jsonl(settings: Settings) -> Sink:
    if settings.jsonl.dir is None:
        return PipeSink(settings.home / "jsonl", settings.world, sys.stdout.buffer)
    return FileSink(settings.below(settings.jsonl.dir), settings.world, JSONL)


def _redis(settings: Settings) -> Sink:
    from sinks.redis import RedisSink  # noqa: PLC0415 - an extra

    return RedisSink(settings.redis.url.get_secret_value(), settings.world, settings.redis.longest)


SINKS: Final[Mapping[str, Callable[[Settings], Sink]]] = {
    "lake": _lake,
    "csv": _csv,
    "jsonl": _jsonl,
    "redis": _redis,
}
"""A new sink is one class, its section in the settings, and one line here."""


def sink_of(settings: Settings, name: str) -> Sink:
    """The sink ``name``; it touches its store when it is first used. Raises UsageError."""
    if name not in SINKS:
        raise UsageError(f"no sink {name!r}; there are {', '.join(SINKS)}")
    try:
        return SINKS[name](settings)
    except ModuleNotFoundError as error:
        raise UsageError(f"the sink {name} needs: pip install 'arbitrex[{name}]'") from error


def limits_of(settings: Settings, name: str) -> SinkSettings:
    """The sink's section of the settings."""
    section: SinkSettings = getattr(settings, name)
    return section
