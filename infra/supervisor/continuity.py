"""Whether topics still hold all that was read from them, and a fresh start where they do not.

The embedded broker, killed hard, forgets its last second. What it holds is consistent in itself, but a sink may have
read more: the records that would then get those offsets would never reach it. Nothing can mend that in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from infra import kafka_log, provision, world_admin
from infra.topics import TICKS_RAW
from infra.worlds import World
from schemas.errors import ComponentError

if TYPE_CHECKING:
    from infra.settings import Settings


def ahead(settings: Settings) -> list[str]:
    """Where a sink has read more than the topics hold, one line each; empty when all is well."""
    existing = set(provision.world_topics(settings))
    lines = []
    known = World(settings.world).topic(TICKS_RAW.name) in existing
    for sink, positions in (("lake", _lake(settings, known=known)), ("CSV", _csv(settings))):
        for topic in sorted({topic for topic, _ in positions}):
            ends = kafka_log.ends(settings.kafka, topic) if topic in existing else {}
            lines += [
                f"{topic}/{partition} ends at {ends.get(partition, 0)}, but the {sink} has it up to {position}"
                for (name, partition), position in sorted(positions.items())
                if name == topic and position > ends.get(partition, 0)
            ]
    return lines


def start_fresh(settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> list[str]:
    """Drop the world from Kafka and set its lake and CSV aside; what was done, one line each."""
    done = [f"dropped {name}" for name in world_admin.drop_from_kafka(settings)]
    stamp = now().strftime("%Y%m%dT%H%M%SZ")
    folders = [settings.csv_dir, settings.spool_dir]
    if "://" in settings.lake_uri:
        done.append(f"removed {world_admin.drop_from_lake(settings)} rows from {settings.lake_uri}")
    else:
        folders.append(Path(settings.lake_uri))
    for folder in folders:
        if folder.exists():
            aside = folder.with_name(f"{folder.name}-until-{stamp}")
            folder.rename(aside)
            done.append(f"set {folder} aside as {aside.name}")
    return done


def _lake(settings: Settings, *, known: bool) -> dict[tuple[str, int], int]:
    """How far the lake is; ``known``: the world has topics, so no more partitions than they have need be asked for."""
    if settings.lake.uri is None and not (settings.home / "lake").exists():
        return {}
    from infra.lake import tables  # noqa: PLC0415 - heavy, and a first start has no lake

    partitions = provision.partitions(settings) if known else tables.MOST_PARTITIONS
    ends = tables.ends(settings.lake_uri, settings.lake.storage_options, settings.world, partitions)
    return {(topic, number): end for topic, numbers in ends.items() for number, end in numbers.items()}


def _csv(settings: Settings) -> dict[tuple[str, int], int]:
    records = sorted(path for path in (settings.csv_dir / "metadata").glob("*.json") if path.stem.isdigit())
    if not records:
        return {}
    try:
        record = json.loads(records[-1].read_text("utf-8"))
        return {(each["topic"], each["partition"]): each["next"] for each in record["positions"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ComponentError(
            f"{records[-1]} is damaged ({error}): bring it back from a backup, or move {settings.csv_dir} away"
        ) from error
