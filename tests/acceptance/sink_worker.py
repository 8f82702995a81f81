"""Processes that a fire on the sinks needs beside `arbitrex sink lake`: a rival, and an optimizer that never rests."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

from infra.lake.layout import TABLES
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings, load
from infra.worlds import World
from schemas.errors import ArbitrexError, StoreError
from sinks.kinds import sink_of
from sinks.optimize import optimize
from sinks.runner import Runner


def rival(settings: Settings, process: Process) -> None:
    """A second lake sink that knows nothing of the first one's group."""
    world = World(settings.world)
    with closing(sink_of(settings, "lake")) as sink:
        runner = Runner(
            sink, settings.lake, settings.kafka, world, connect(settings), **{"group.id": world.group("rival")}
        )
        runner.run(process.stopping, process.ready)


def optimizer(settings: Settings, process: Process) -> None:
    """Takes every day for over, and begins again when it is through; says what it did."""
    process.ready()
    while not process.stopping.is_set():
        for table in TABLES:
            try:
                done = optimize(
                    settings.lake_uri, settings.lake.storage_options, table, 1,
                    now=lambda: datetime.now(UTC) + timedelta(days=3), stopping=process.stopping.is_set,
                )  # fmt: skip
            except StoreError as error:
                print(f"away {error}", flush=True)  # noqa: T201
            else:
                print(f"rewritten {done.before} {done.rows} {done.conflicts}", flush=True)  # noqa: T201
        process.stopping.wait(0.5)


def main() -> None:
    settings = load()
    try:
        with Process(settings, sys.argv[1]) as process:
            {"rival": rival, "optimizer": optimizer}[sys.argv[1]](settings, process)
    except ArbitrexError as error:
        sys.exit(f"arbitrex: {error}")


if __name__ == "__main__":
    main()
