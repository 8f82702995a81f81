"""One command for each component, to run it by itself: in a container, a service or another terminal."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer


class SinkName(StrEnum):
    LAKE = "lake"
    CSV = "csv"
    JSONL = "jsonl"
    REDIS = "redis"


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


def sink(
    names: Annotated[list[SinkName], typer.Argument(help="Which sinks to run.", show_default=False)],
    *,
    topics: Annotated[
        str | None, typer.Option(help="Only these: ticks.clean,bars.", show_default="all it can keep")
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Only these: EURUSD,XAU*. The rest is passed over for good.", show_default="all")
    ] = None,
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
) -> None:
    """Keep a world's records elsewhere, each exactly once: Delta tables, CSV, JSON Lines, Redis Streams.

    A sink goes on where its store says that it stands; .env.example lists where each one writes.

        arbitrex sink lake
        arbitrex sink csv redis --topics ticks.clean,bars --symbols "EURUSD,XAU*"
        arbitrex sink jsonl --topics bars | jq .close      # ARBITREX_JSONL__DIR: into files
    """
    from contextlib import ExitStack

    from infra.cli.progress import SinkProgress
    from infra.process import Process
    from infra.settings import load
    from infra.supervisor.runfile import attached
    from sinks.service import run

    chosen = {name: text for name, text in (("topics", topics), ("symbols", symbols)) if text is not None}
    overrides = {str(name): chosen for name in names} if chosen else {}
    settings = load(**overrides, **({"world": world} if world else {}))
    component = "-".join(["sink", *map(str, names)])
    with ExitStack() as stack:
        if _is_managed():
            stack.enter_context(process := Process(settings, component))
            run(settings, process, names)
            return
        progress = stack.enter_context(SinkProgress())  # before the logs, so that these go above it
        process = stack.enter_context(Process(settings, component))
        run(attached(settings), process, names, progress.show)


def gateway() -> None:
    """Serve WebSocket, REST and the chart page."""
    from gateway.service import run

    _run("gateway", run)


def registry() -> None:
    """Serve the schema registry that comes with Arbitrex."""
    from infra.registry.service import run

    _run("registry", run)


def _is_managed() -> bool:
    import os

    from infra.process import MANAGED

    return os.environ.get(MANAGED) == "1"


def _run(component: str, run: Callable[..., None], *arguments: str) -> None:
    from infra.process import Process
    from infra.settings import load

    settings = load()
    with Process(settings, component) as process:
        run(settings, process, *arguments)
