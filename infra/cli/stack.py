"""``arbitrex up``, ``down``, ``status``, ``reset``, ``broker``: the whole stack on one machine."""

from __future__ import annotations

import json
import shutil
import time
import webbrowser
from typing import Annotated, Final

import typer

_DOWN_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_PANEL: Final = "The stack on this machine"
_OURS: Final = (
    "broker",
    "kafka",
    "kafka-3",
    "lake",
    "raw",
    "processors",
    "faust",
    "logs",
    "jsonl",
    "spool",
    "run.json",
    "run.lock",
)
"""What a stack puts into its home folder; nothing else is ever deleted."""
_ASIDE: Final = ("lake-until-*", "raw-until-*", "spool-until-*")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, down, status, reset, broker):
        app.command(rich_help_panel=_PANEL)(command)


def up(
    world: Annotated[str | None, typer.Option(help="The world to run; main unless set.")] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="embedded|kafka|HOST:PORT",
            help="The development broker that comes along, an Apache Kafka on this machine (needs Java), or a cluster.",
            show_default="embedded, unless ARBITREX_KAFKA__BOOTSTRAP_SERVERS is elsewhere",
        ),
    ] = None,
    *,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Run everything: broker, registry, producer, processor, sinks, gateway. Ctrl-C stops it; data stay."""
    from infra.settings import load
    from infra.supervisor.up import Up

    settings = load(**({"world": world} if world else {}))

    def ready(page: str) -> None:
        typer.echo(f"\nArbitrex runs, world {settings.world}: {page}\nCtrl-C stops it; the next up goes on from there.")
        if open_page:
            webbrowser.open(page)

    Up(settings, broker, typer.echo).run(ready)
    typer.echo("all stopped")


def down() -> None:
    """Stop the running stack, from another terminal."""
    from infra.settings import load
    from infra.supervisor import control, runfile
    from schemas.errors import ComponentError

    home = load().home
    run = runfile.read(home)
    deadline = time.monotonic() + _DOWN_SECONDS
    while run is None and runfile.is_running(home) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)  # it is just starting
        run = runfile.read(home)
    if run is None:
        typer.echo(f"no stack runs in {home}")
        return
    control.ask(run, "POST", "/stop")
    while runfile.is_running(home):
        if time.monotonic() > deadline:
            raise ComponentError(f"the stack (pid {run.pid}) still runs; see its terminal, or end that process")
        time.sleep(_POLL_SECONDS)
    typer.echo("all stopped")


def status(*, as_json: Json = False) -> None:
    """Show the running stack's components; exit code 3 when none runs."""
    from infra.settings import load
    from infra.supervisor import control, report, runfile

    home = load().home
    run = runfile.read(home)
    if run is None:
        typer.echo(json.dumps({"running": False, "home": str(home)}) if as_json else f"no stack runs in {home}")
        raise typer.Exit(3)
    found = report.complete(control.ask(run, "GET", "/status"), run)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        report.show(found)


def reset(*, yes: Yes = False) -> None:
    """Delete what the stack keeps on this machine: broker data, lake, CSV, logs."""
    from infra.settings import load
    from infra.supervisor import runfile
    from schemas.errors import UsageError

    home = load().home
    if runfile.is_running(home):
        raise UsageError(f"a stack runs in {home}; stop it first with: arbitrex down")
    paths = [home / name for name in _OURS] + [path for pattern in _ASIDE for path in home.glob(pattern)]
    found = [path for path in paths if path.exists()]
    if not found:
        typer.echo(f"nothing to delete in {home}")
        return
    typer.echo("\n".join(str(path) for path in found))
    if not yes:
        typer.confirm("Delete all of this?", abort=True)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    typer.echo("deleted")


def broker(
    nodes: Annotated[int, typer.Option(help="1 or 3.")] = 1,
    port: Annotated[int, typer.Option(help="The first node's; the others follow. 0: any free ones.")] = 9092,
) -> None:
    """Run an Apache Kafka on this machine: Java 17 or newer, and KAFKA_HOME or Maven."""
    from infra import logs
    from infra.brokers.kafka import KafkaCluster
    from infra.process import Process
    from infra.settings import load

    settings, log = load(), logs.logger(__name__)
    with (
        Process(settings, "broker") as process,
        KafkaCluster(settings.home, nodes, port) as cluster,
    ):
        process.ready(bootstrap_servers=cluster.bootstrap_servers)
        typer.echo(f"ARBITREX_KAFKA__BOOTSTRAP_SERVERS={cluster.bootstrap_servers}", err=True)
        while not process.stopping.wait(_POLL_SECONDS):
            for node in cluster.nodes:
                if node.ended:
                    log.warning("a node ended and is started again", node=node.name, log=str(node.log_file))
                    node.launch()
