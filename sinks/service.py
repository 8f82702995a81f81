"""A sink as a component."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final

from infra import provision
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings, SinkSettings
from infra.worlds import World
from schemas.errors import UsageError
from sinks.csv import CsvSink
from sinks.lake import LakeSink
from sinks.runner import Runner
from sinks.sink import Sink


def _lake(settings: Settings) -> tuple[Sink, SinkSettings, str]:
    sink = LakeSink(settings.lake_uri, settings.lake.storage_options, settings.world)
    return sink, settings.lake, settings.lake_uri


def _csv(settings: Settings) -> tuple[Sink, SinkSettings, str]:
    return CsvSink(settings.csv_dir, settings.world), settings.csv, str(settings.csv_dir)


SINKS: Final[dict[str, Callable[[Settings], tuple[Sink, SinkSettings, str]]]] = {"lake": _lake, "csv": _csv}
"""A new sink is one class and one line here."""


def run(settings: Settings, process: Process, name: str) -> None:
    """Keep the world's ticks and bars in the sink ``name`` until the process is asked to stop.

    Raises FencedError when another process has the sink, BrokerError, StoreError, RegistryError.
    """
    if name not in SINKS:
        raise UsageError(f"no sink {name!r}; there are {', '.join(SINKS)}")
    sink, limits, place = SINKS[name](settings)
    with closing(sink):
        sink.positions(())
        provision.wait_until_there(settings, process.stopping)
        if process.stopping.is_set():
            return
        codec = connect(settings, process.stopping)
        runner = Runner(sink, limits, settings.kafka, World(settings.world), codec)
        runner.run(process.stopping, lambda: process.ready(place=place))
