"""The sinks under test, and what readers find in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import redis

from infra.lake.layout import BARS, RATES, REJECTED, TICKS, Table
from infra.lake.tables import open_table, scan
from infra.settings import JsonlSettings, LakeSettings, RedisSettings, Settings
from sinks.kinds import sink_of
from sinks.sink import Sink, Source
from tests.sinks import servers

Place = tuple[str, int, int]
"""Symbol, partition and offset."""


@dataclass(frozen=True)
class Store:
    """One kind of sink with a store of its own, below ``home``, which the servers take for a name."""

    kind: str
    home: Path
    world: str = "main"

    @property
    def name(self) -> str:
        return self.kind.removesuffix("-s3")

    @property
    def exclusive(self) -> bool:
        """A second sink is refused at once, instead of at its commit."""
        return self.name in {"csv", "jsonl"}

    @property
    def settings(self) -> Settings:
        options: dict[str, Any] = {"jsonl": JsonlSettings(dir=self.home / "lines")}
        if self.kind == "lake-s3":
            options["lake"] = LakeSettings(**servers.s3_lake(self.home.name))
        if self.kind == "redis":
            options["redis"] = RedisSettings(url=servers.redis_url(self.home.name))
        return Settings(world=self.world, home=self.home, **options)

    @contextmanager
    def sink(self) -> Iterator[Sink]:
        """A sink as its process has it, let go at the end."""
        with closing(sink_of(self.settings, self.name)) as sink:
            yield sink

    def source(self, table: Table, partition: int = 0) -> Source:
        return Source(f"{self.world}.{table.topic.name}", partition)

    def places(self, table: Table) -> list[Place]:
        """What a reader finds, sorted; repeats stay repeats."""
        return sorted(places_of(self.settings, self.name, table))

    def kept(self, tables: Collection[Table]) -> dict[str, list[Place]]:
        return {table.name: self.places(table) for table in tables}


def places_of(settings: Settings, name: str, table: Table) -> Iterable[Place]:
    return READERS[name](settings, table)


def _in_lake(settings: Settings, table: Table) -> Iterable[Place]:
    handle = open_table(settings.lake_uri, settings.lake.storage_options, table)
    if handle is None:
        return []
    rows = scan(settings.lake_uri, settings.lake.storage_options, table, handle)
    columns = ("symbol", "source_partition", "source_offset")
    return rows.filter(pl.col("world") == settings.world).select(columns).collect().rows()


def _in_csv(settings: Settings, table: Table) -> Iterable[Place]:
    return ((row["symbol"], int(row["partition"]), int(row["offset"])) for row in csv_rows(settings.csv_dir, table))


def _in_jsonl(settings: Settings, table: Table) -> Iterable[Place]:
    assert settings.jsonl.dir is not None
    for path in files_of(settings.below(settings.jsonl.dir), table, "jsonl"):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            yield row["symbol"], row["source_partition"], row["source_offset"]


def _in_redis(settings: Settings, table: Table) -> Iterable[Place]:
    with closing(redis.Redis.from_url(settings.redis.url.get_secret_value(), decode_responses=True)) as client:
        topic = f"{settings.world}.{table.topic.name}"
        for partition in range(4):
            for entry, fields in client.xrange(f"{{{topic}}}/{partition}"):  # type: ignore[union-attr]
                yield fields["symbol"], partition, int(entry.removesuffix("-1"))


READERS: dict[str, Callable[[Settings, Table], Iterable[Place]]] = {
    "lake": _in_lake,
    "csv": _in_csv,
    "jsonl": _in_jsonl,
    "redis": _in_redis,
}
FOLDERS = {TICKS.name: "ticks", REJECTED.name: "rejected", BARS.name: "ohlcv", RATES.name: "ohlcv"}
STORES = ("lake", "lake-s3", "csv", "jsonl", "redis")


def files_of(folder: Path, table: Table, ending: str) -> Iterable[Path]:
    """The files of a table, which shares its folder with others."""
    name = f"*.{table.name}.*" if table in (BARS, RATES) else "*"
    return sorted((folder / FOLDERS[table.name]).rglob(f"{name}.{ending}"))


def csv_rows(folder: Path, table: Table) -> Iterable[dict[str, str]]:
    """Every row below a folder, read by Python's own csv module; fails on a torn line."""
    for path in files_of(folder, table, "csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                assert None not in row
                assert None not in row.values()
                yield row
