"""``arbitrex tail``: the records of any topic, decoded."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.stopping import stopping
from infra.cli.times import FORMS, moment
from schemas.errors import UsageError

if TYPE_CHECKING:
    from threading import Event

    from confluent_kafka import Message, TopicPartition

    from infra.cli.decoding import Shown
    from infra.settings import Settings

_OFFSET: Final = re.compile(r"-?\d{1,11}")
_PLACE: Final = ("time", "partition", "offset", "key", "type", "error", "headers")


class Format(StrEnum):
    PRETTY = "pretty"
    JSON = "json"
    CSV = "csv"


def tail(
    topic: Annotated[str, typer.Argument(help="ticks.clean, bars, … of the world, or any topic's full name.")],
    *,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol's; may be repeated.")] = None,
    from_: Annotated[
        str, typer.Option("--from", help=f"beginning; an offset of each partition, -N: its last N; or a time: {FORMS}.")
    ] = "-10",
    world: Annotated[str | None, typer.Option(help="The world; main unless set.")] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="For people, or one JSON object or CSV row a record.")
    ] = Format.PRETTY,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many records.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more at the end, until Ctrl-C.")] = True,
) -> None:
    """Print a topic's records as they come: Avro decoded by the registry, with key, place, time and headers.

    Times are UTC. What cannot be decoded is shown with what is wrong with it. Committed records only.

        arbitrex tail ticks.clean --symbol EURUSD
        arbitrex tail bars --from 2h --format csv --no-follow > bars.csv
        arbitrex tail dead.letters --from beginning
    """
    from infra.cli.decoding import Decoder
    from infra.registry.client import registry
    from infra.settings import load
    from infra.supervisor.runfile import attached

    settings = attached(load(**({"world": world} if world else {})))
    name = _full_name(settings, topic)
    starts = _starts(settings, name, from_)
    client = registry(settings.registry)
    wanted = None if symbol is None else set(symbol)
    with stopping() as stop, _pipe_may_break():
        write = _writer(format_, topic, typer.get_text_stream("stdout").write)
        shown = (Decoder(client).show(message) for message in _messages(settings, starts, stop, follow=follow))
        left = limit
        for record in shown:
            if wanted is None or record.symbol in wanted:
                write(record)
                left = left and left - 1
            if left == 0:
                break
    client.close()


def _full_name(settings: Settings, topic: str) -> str:
    from infra import kafka, provision
    from infra.worlds import World

    with provision.answering(settings.kafka):
        present = provision.survey(kafka.admin(settings.kafka)).partitions
    own = World(settings.world)
    for name in (own.topic(topic), topic):
        if name in present:
            return name
    names = {name.removeprefix(own.topic("")): name for name in present} | {name: name for name in present}
    near = difflib.get_close_matches(topic, names, n=4, cutoff=0.5)
    others = sorted(name for name in present if name.endswith(f".{topic}"))[:4]
    shown = ", ".join(dict.fromkeys([*near, *others])) or "none that is like it"
    raise UsageError(
        f"Kafka at {settings.kafka.bootstrap_servers} has neither a topic {own.topic(topic)} nor {topic}; "
        f"there is: {shown}"
    )


def _starts(settings: Settings, topic: str, from_: str) -> list[TopicPartition]:
    from confluent_kafka import TopicPartition

    from infra import kafka_log

    extents = kafka_log.extents(settings.kafka, topic)
    if from_ == "beginning":
        return [TopicPartition(topic, number, low) for number, (low, _) in extents.items()]
    if not _OFFSET.fullmatch(from_):
        return kafka_log.since(settings.kafka, topic, moment(from_, time.time_ns() // 1_000_000))
    offset = int(from_)
    return [
        TopicPartition(topic, number, min(max(low, offset + (high if offset < 0 else 0)), high))
        for number, (low, high) in extents.items()
    ]


def _messages(settings: Settings, starts: list[TopicPartition], stop: Event, *, follow: bool) -> Iterator[Message]:
    from infra import kafka_log

    batches = (
        kafka_log.follow(settings.kafka, starts, stop)
        if follow
        else kafka_log.read_to_end(settings.kafka, starts, stop, batch=1_000)
    )
    for batch in batches:
        for message in batch:
            if stop.is_set():
                return
            yield message
        sys.stdout.flush()


def _writer(format_: Format, topic: str, write: Callable[[str], Any]) -> Callable[[Shown], None]:
    if format_ == Format.JSON:
        return lambda record: write(_json(record) + "\n")
    if format_ == Format.PRETTY:
        return lambda record: write(_pretty(record) + "\n")
    return _csv(topic, write)


def _json(record: Shown) -> str:
    return json.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "time": record.time,
            "key": record.key,
            "headers": record.headers,
            "type": record.type or None,
            "value": record.value,
            **({"error": record.error} if record.error else {}),
        },
        ensure_ascii=False,
    )


def _pretty(record: Shown) -> str:
    place = f"{record.time or 'no time':24}  {record.partition}@{record.offset}  {record.key}"
    headers = "".join(f"  [{name}={value}]" for name, value in record.headers.items())
    if record.error:
        return f"{place}{headers}  ! {record.error}: {record.value}"
    if not isinstance(record.value, dict):
        return f"{place}{headers}  deleted"
    fields = "  ".join(f"{name}={_cell(value)}" for name, value in record.value.items() if value is not None)
    return f"{place}{headers}  {record.type}  {fields}"


def _csv(topic: str, write: Callable[[str], Any]) -> Callable[[Shown], None]:
    """A column for each field of the topic's records; for topics that are not ours, the value as JSON."""
    fields = _fields(topic)
    rows = csv.writer(_Lines(write), lineterminator="\n")
    rows.writerow((*_PLACE, *(fields or ("value",))))

    def row(record: Shown) -> None:
        place = (record.time, record.partition, record.offset, record.key, record.type, record.error)
        value = record.value
        cells: list[Any] = [_cell(value)]
        if fields:
            cells = [_cell(value.get(name)) if isinstance(value, dict) else None for name in fields]
        rows.writerow((*place, json.dumps(record.headers, ensure_ascii=False) if record.headers else "", *cells))

    return row


def _fields(topic: str) -> Sequence[str]:
    from infra.topics import TOPICS
    from schemas.definitions import definition

    ours = [each for each in TOPICS if topic == each.name or topic.endswith(f".{each.name}")]
    records = max(ours, key=lambda each: len(each.name)).records if ours else ()
    return tuple(dict.fromkeys(field["name"] for name in records for field in definition(name)["fields"]))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


class _Lines:
    """What the CSV writer needs of a file."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self.write = write


@contextmanager
def _pipe_may_break() -> Iterator[None]:
    """A reader that has seen enough (``| head``) ends the command, and is no error."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and os.name != "nt":
            raise
        # What is left in the buffer has nowhere to go; without this the interpreter complains when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
