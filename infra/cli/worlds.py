"""``arbitrex world``: the worlds of a Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.settings import Settings

app = typer.Typer(help="The worlds of a Kafka: all topics under one prefix each.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Show the worlds there are."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from infra import world_admin

    settings = _settings()
    table = Table("world", "topics", "partitions", "ticks are kept", box=SIMPLE_HEAD)
    for world in world_admin.found(settings):
        kept = "for good" if world.historical else "for a while"
        table.add_row(world.name, str(world.topics), str(world.partitions), kept)
    Console().print(table if table.row_count else f"no worlds in Kafka at {settings.kafka.bootstrap_servers}")


@app.command()
def drop(
    name: Annotated[str, typer.Argument(help="The world to drop.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a world: its topics, consumer groups, lake rows and CSV."""
    from infra import provision, world_admin
    from infra.supervisor import runfile
    from schemas.errors import UsageError

    settings = _settings(world=name)
    run = runfile.read(settings.home)
    if run is not None and run.world == name:
        raise UsageError(f"a stack runs world {name}; stop it first with: arbitrex down")
    topics = provision.world_topics(settings)
    csv = world_admin.csv_paths(settings)
    typer.echo(f"world {name}: {len(topics)} topics at {settings.kafka.bootstrap_servers} with their groups,")
    typer.echo(f"its rows in {settings.lake_uri}, and {len(csv)} CSV folders in {settings.csv_dir}")
    if not yes:
        typer.confirm("Delete all of this?", abort=True)
    deleted = world_admin.drop_from_kafka(settings)
    rows = world_admin.drop_from_lake(settings)
    world_admin.drop_files(settings)
    typer.echo(f"deleted {len(deleted)} topics and groups, {rows} lake rows, {len(csv)} CSV folders")


def _settings(**overrides: str) -> Settings:
    from infra.settings import load
    from infra.supervisor import runfile

    return runfile.attached(load(**overrides))
