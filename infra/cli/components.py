"""One command for each component, to run it by itself: in a container, a service or another terminal."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer


class SinkName(StrEnum):
    LAKE = "lake"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (producer, processor, sink, gateway, registry):
        app.command(rich_help_panel="Components")(command)


def producer(
    shard: Annotated[str | None, typer.Option(help="Run this shard alone, unwatched.", show_default=False)] = None,
) -> None:
    """Publish terminals' ticks to ticks.raw: a process each, killed and started again when its terminal hangs.

    ARBITREX_PRODUCER__SOURCE says which kind of terminal: mt5 on Windows, remote for an agent beside a terminal
    elsewhere (arbitrex terminal-agent), or simulated. Several terminals stand in ARBITREX_PRODUCER__SHARDS_FILE.
    """
    if shard is None:
        from producers.shards import run as run_shards

        _run("producer", run_shards)
    else:
        from producers.service import run

        _run("producer", run, shard)


def processor() -> None:
    """Filter ticks.raw by market calendar and aggregate bars."""
    from processors.service import run

    _run("processor", run)


def sink(name: Annotated[SinkName, typer.Argument(help="Which sink to run.")]) -> None:
    """Keep ticks and bars: in Delta tables, or as CSV."""
    from sinks.service import run

    _run(f"sink-{name}", run, name)


def gateway() -> None:
    """Serve WebSocket, REST and the chart page."""
    from gateway.service import run

    _run("gateway", run)


def registry() -> None:
    """Serve the schema registry that comes with Arbitrex."""
    from infra.registry.service import run

    _run("registry", run)


def _run(component: str, run: Callable[..., None], *arguments: str) -> None:
    from infra.process import Process
    from infra.settings import load

    settings = load()
    with Process(settings, component) as process:
        run(settings, process, *arguments)
