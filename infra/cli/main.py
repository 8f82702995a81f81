"""The ``arbitrex`` command."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version

import typer
from rich.console import Console

from infra.cli import bars, components, feed, lake, stack, terminals, topics, worlds
from infra.cli.backfill import backfill
from infra.cli.calendar import calendar
from infra.cli.explain import explain
from infra.cli.imports import import_
from infra.cli.rates import rates
from infra.cli.replay import replay
from infra.cli.symbols import symbols
from infra.cli.tail import tail
from infra.cli.verify import verify
from schemas.errors import ArbitrexError, SettingsError, UsageError

app = typer.Typer(
    name="arbitrex",
    help="MetaTrader 5 terminals as a market data platform on Kafka. Start with: arbitrex up",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
WORLDS, PROOF = "Worlds and their history", "Look and prove"
stack.register(app)
components.register(app)
terminals.register(app)
for group, name in ((worlds.app, "world"), (topics.app, "topics")):
    app.add_typer(group, name=name, rich_help_panel=WORLDS)
app.command("import", rich_help_panel=WORLDS)(import_)
app.command(rich_help_panel=WORLDS)(backfill)
app.command(rich_help_panel=WORLDS)(rates)
app.command(rich_help_panel=WORLDS)(replay)
for command in (symbols, calendar, tail, verify, explain):
    app.command(rich_help_panel=PROOF)(command)
app.add_typer(lake.app, name="lake", rich_help_panel=PROOF)
app.add_typer(bars.app, name="bars", rich_help_panel=PROOF)
app.add_typer(feed.app, name="feed", rich_help_panel=PROOF)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("arbitrex"))


def main() -> None:
    """Run the command line; an error of ours is one line and an exit code, never a traceback."""
    try:
        app()
    except ArbitrexError as error:
        Console(stderr=True).print(f"arbitrex: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, (SettingsError, UsageError)) else 1)
