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


def producer() -> None:
    """Publish a terminal's ticks to ticks.raw."""
    from producers.service import run

    _run("producer", run)


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
