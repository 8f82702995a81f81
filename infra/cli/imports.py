"""``arbitrex import``: publish tick files into a world of their own."""

from __future__ import annotations

import typer

app = typer.Typer(help="Publish tick files into a world of their own.", no_args_is_help=True)


@app.callback()
def _imports() -> None:
    """Publish tick files into a world of their own."""
