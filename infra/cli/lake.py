"""``arbitrex lake``: ask the lake, look at it, prove it, keep it in shape."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.stopping import INTERRUPTED

if TYPE_CHECKING:
    from infra.settings import Settings

app = typer.Typer(help="The lake: ask it in SQL, look at it, prove it, keep it in shape.", no_args_is_help=True)
_Json = Annotated[bool, typer.Option("--json", help="For programs.")]


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="What DuckDB is to answer.", show_default=False)],
    *,
    world: Annotated[
        list[str] | None,
        typer.Option(help="Only these worlds, the preferred first; may be repeated.", show_default="all, main first"),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="A table for people shows 100 rows.")] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option(help="Into this file: .parquet, .csv or .json (a line each).", show_default=False)
    ] = None,
) -> None:
    """Ask the lake in SQL (DuckDB's), without a network. Times are UTC.

    The views ticks, rejected, bars, rates, events and symbols hold each thing once: bars in their last revision, and
    of several worlds' rows those of main where it has every tick. all_ticks, all_bars, … hold every row.

        arbitrex lake query "select symbol, count(*), max(ts_event) from ticks group by 1"
        arbitrex lake query "select * from bars where symbol = 'EURUSD' and timeframe = 'H1'" --out eurusd.parquet
        arbitrex lake query "describe ticks"
    """
    from infra.cli.results import save, show
    from infra.lake.query import connect

    settings = _settings()
    worlds = world or [settings.world]
    with connect(settings.lake_uri, settings.lake.storage_options, worlds, only=world is not None) as connection:
        if out is None:
            show(connection, sql, format_)
        else:
            rows = save(connection, sql, out)
            typer.echo(f"{rows:,} rows in {out}", err=True)


@app.command()
def status(*, as_json: _Json = False) -> None:
    """Show rows, files, bytes and times of each table, the newest tick of each symbol, and what Kafka has beyond."""
    from dataclasses import asdict

    from infra.lake import inventory

    settings = _settings()
    place = settings.lake_uri, settings.lake.storage_options
    extents, series = inventory.extents(*place), inventory.series(*place)
    behind = _behind(settings)
    if as_json:
        found = {
            "uri": settings.lake_uri,
            "tables": [asdict(each) for each in extents],
            "symbols": [asdict(each) for each in series],
            "behind": behind,
        }
        typer.echo(json.dumps(found, indent=2, default=lambda moment: moment.astimezone(UTC).isoformat()))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    tables = Table("table", "world", "rows", "files", "bytes", "oldest", "newest", "not in it yet", box=SIMPLE_HEAD)
    for each in extents:
        lag = behind.get(each.table) if each.world == settings.world else None
        sizes = f"{each.rows:,}", f"{each.files:,}", decimal(each.bytes)
        tables.add_row(
            each.table, each.world, *sizes, _utc(each.oldest), _utc(each.newest), "" if lag is None else f"{lag:,}"
        )
    symbols = Table("world", "symbol", "ticks", "oldest", "newest", "age", box=SIMPLE_HEAD)
    now = datetime.now(UTC)
    for one in series:
        age = str(now - one.newest).split(".")[0]
        symbols.add_row(one.world, one.symbol, f"{one.ticks:,}", _utc(one.oldest), _utc(one.newest), age)
    console = Console()
    console.print(f"lake {settings.lake_uri}", highlight=False, soft_wrap=True)
    if not extents:
        console.print("empty; a sink fills it: arbitrex up, or arbitrex sink lake")
    for table in (tables, symbols):
        if table.row_count:
            console.print(table)
    if not behind:
        console.print(f"Kafka at {settings.kafka.bootstrap_servers} does not say what is not in it yet", style="dim")


@app.command()
def verify(
    *,
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
    symbols: Annotated[
        str | None, typer.Option(help="What the sink was told to keep: EURUSD,XAU*.", show_default="as the sink's")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Prove that the lake holds each record of its topics exactly once, up to where it says that it is.

    Reads the topics from their first record to the lake's own mark and compares offsets, partition by partition.
    Exit code 1 when one is missing, double, or where no record is.
    """
    from dataclasses import asdict

    from infra.cli.progress import VerifyProgress
    from infra.cli.stopping import stopping
    from infra.registry.client import connect
    from sinks.verification import verify as verified

    chosen = {"lake": {"symbols": symbols}} if symbols is not None else {}
    settings = _settings(**chosen, **({"world": world} if world else {}))
    with stopping() as stop, VerifyProgress() as progress:
        found = list(verified(settings, connect(settings, stop), stop, progress.show))
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)
    wrong = [each for each in found if each.wrong]
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"wrong": each.wrong} for each in found], indent=2))
    else:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Column, Table

        table = Table(Column("partition", no_wrap=True), Column("up to", no_wrap=True), box=SIMPLE_HEAD)
        for name in ("records", "rows", "passed over", "missing", "double", "strange"):
            table.add_column(name, justify="right")
        for each in found:
            counts = each.end, each.records, each.rows, each.passed_over, each.missing, each.double, each.strange
            style = "red" if each.wrong else None
            table.add_row(f"{each.topic}/{each.partition}", *(f"{count:,}" for count in counts), style=style)
        Console().print(table if found else f"the lake has nothing of world {settings.world} yet")
        for each in wrong:
            typer.echo(f"{each.topic}/{each.partition}: {each.examples}")
        typer.echo(f"{len(wrong)} of {len(found)} partitions are wrong" if wrong else "every record exactly once")
    if wrong:
        raise typer.Exit(1)


@app.command()
def optimize(
    *,
    every: Annotated[
        float | None, typer.Option(min=0.01, help="Again after so many hours, until Ctrl-C.", show_default=False)
    ] = None,
    retain: Annotated[
        float, typer.Option(min=1.0, help="Hours for which readers may go on with what was replaced.")
    ] = 168.0,
) -> None:
    """Put small files together, sorted by symbol and time, and delete what nothing needs any more.

    Sinks and readers go on meanwhile. A day that is still filled is put together too, and sorted anew when it is over.
    """
    from infra.process import Process
    from infra.settings import load
    from sinks.maintenance import run

    settings = load() if every is not None else _settings()
    with Process(settings, "optimizer") as process:
        run(settings, process, every, retain)


def _settings(**overrides: Any) -> Settings:
    from infra.settings import load
    from infra.supervisor.runfile import attached

    return attached(load(**overrides))


_ANSWER_SECONDS: Final = 2.0


def _behind(settings: Settings) -> dict[str, int]:
    """By table how many offsets Kafka has beyond the lake; empty when it does not answer."""
    from infra import kafka_log, provision
    from infra.lake.layout import TABLES
    from infra.lake.tables import ends
    from infra.worlds import World
    from schemas.errors import BrokerError

    world, found = World(settings.world), {}
    try:
        names = {table.name: world.topic(table.topic.name) for table in TABLES}
        kafka_log.partition_count(settings.kafka, names["ticks"], timeout=_ANSWER_SECONDS)
        lake = ends(settings.lake_uri, settings.lake.storage_options, settings.world, provision.partitions(settings))
        for table, topic in names.items():
            extents = kafka_log.extents(settings.kafka, topic)
            found[table] = sum(max(0, high - max(low, lake[topic].get(n, 0))) for n, (low, high) in extents.items())
    except BrokerError:
        return {}
    return found


def _utc(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
