"""``arbitrex world``: the worlds of a Kafka."""

from __future__ import annotations

import typer

app = typer.Typer(help="The worlds of a Kafka.", no_args_is_help=True)
