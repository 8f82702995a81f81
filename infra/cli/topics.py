"""``arbitrex topics``: a world's topics as code."""

from __future__ import annotations

import typer

app = typer.Typer(help="A world's topics as code.", no_args_is_help=True)


@app.command()
def plan() -> None:
    """Show what apply would change."""
    from infra import provision
    from infra.settings import load
    from infra.supervisor.runfile import attached

    settings = attached(load())
    changes = provision.plan(settings)
    for change in changes:
        typer.echo(str(change))
    if not changes:
        typer.echo(f"world {settings.world}: nothing to change")


@app.command()
def apply() -> None:
    """Create the world's topics and correct their configuration."""
    from infra import provision
    from infra.settings import load
    from infra.supervisor.runfile import attached

    settings = attached(load())
    changes = provision.apply(settings)
    for change in changes:
        typer.echo(str(change))
    if not changes:
        typer.echo(f"world {settings.world}: nothing to change")
