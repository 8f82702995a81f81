"""Redis Streams: one for each partition of a topic, each record once.

::

    XRANGE {main.ticks.clean}/3 - + COUNT 1
    1) 1) "41817-1"                 offset 41817 of partition 3 in main.ticks.clean
       2) symbol EURUSD  ts_event 1399000000000  bid 1.38675  …

Fields are the record's, times the integers of the schema, nothing for null. One script adds a commit's rows and sets
the next offset of each partition (the key that ends in ``/next``) at once, and only if that offset still is what this
process left there; ids rise with the offsets, so Redis itself refuses a repeat. What Redis loses when it is killed
(by its own settings a second) it loses together with the offsets, and gets again. Old entries are trimmed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import polars as pl
import redis
from redis.exceptions import RedisError, ResponseError

from infra.lake.layout import PARTITIONED_BY, TABLES, Table
from infra.worlds import World
from schemas.errors import FencedError, StoreError
from sinks.sink import Batch, Source

_FENCED: Final = "FENCED"
_COMMIT: Final = f"""
local partitions, at = tonumber(ARGV[1]), 3
for p = 1, partitions do
  local left = redis.call('GET', KEYS[2 * p]) or '0'
  if left ~= ARGV[at] then return redis.error_reply('{_FENCED} ' .. KEYS[2 * p - 1] .. ' is at ' .. left) end
  at = at + 2
end
while at <= #ARGV do
  local stream, id, count = KEYS[tonumber(ARGV[at])], ARGV[at + 1], tonumber(ARGV[at + 2])
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[2], id, unpack(ARGV, at + 3, at + 2 + count))
  at = at + 3 + count
end
for p = 1, partitions do redis.call('SET', KEYS[2 * p], ARGV[2 + 2 * p]) end
"""
"""KEYS: stream and its next offset, for each partition. ARGV: partitions, longest stream, then for each partition the
offset that was left and the new one, then for each row its stream's place in KEYS, id, number of values, values."""


class RedisSink:
    """All tables of one world in one Redis."""

    name = "redis"
    tables: tuple[Table, ...] = TABLES

    def __init__(self, url: str, world: str, longest: int) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=30, socket_connect_timeout=10, decode_responses=True)
        self._commit_script = self._redis.register_script(_COMMIT)
        self._world = World(world)
        self._longest = longest
        self._known: dict[Source, int] = {}
        self._rows: dict[str, tuple[Table, pl.DataFrame]] = {}

    def positions(self, sources: Collection[Source]) -> dict[Source, int]:
        """See `Sink.positions`."""
        self._rows = {}
        self._known |= self._recorded(sources)
        return {source: self._known[source] for source in sources if self._known[source]}

    def write(self, batch: Batch) -> None:
        """See `Sink.write`."""
        self._rows[self._world.topic(batch.table.topic.name)] = (batch.table, batch.rows)

    def commit(self, offsets: Mapping[Source, int]) -> None:
        """See `Sink.commit`; one script for each topic."""
        for topic in sorted({source.topic for source in offsets}):
            ends = {source: end for source, end in offsets.items() if source.topic == topic}
            if self._recorded(ends) != ends:
                self._run(ends, *self._rows.get(topic, (None, None)))
            self._known |= ends
        self._rows = {}

    def close(self) -> None:
        """See `Sink.close`."""
        self._rows = {}
        self._redis.close()

    def _run(self, ends: Mapping[Source, int], table: Table | None, rows: pl.DataFrame | None) -> None:
        keys: list[str] = []
        arguments: list[Any] = [len(ends), self._longest]
        places: dict[int, int] = {}
        for source, end in ends.items():
            places[source.partition] = len(keys) + 1
            keys += [_stream(source), _next(source)]
            arguments += [self._known.get(source, 0), end]
        if table is not None and rows is not None:
            names = [name for name in table.schema if name in rows.columns and name not in PARTITIONED_BY]
            for row in rows.sort("source_partition", "source_offset").select(names).iter_rows(named=True):
                partition, offset = row.pop("source_partition"), row.pop("source_offset")
                values = [part for name, value in row.items() if value is not None for part in (name, _plain(value))]
                arguments += [places[partition], f"{offset}-1", len(values), *values]
        try:
            self._commit_script(keys=keys, args=arguments)
        except ResponseError as error:
            if _FENCED in str(error):
                taken = ", ".join(f"{source.topic}/{source.partition}" for source in ends)
                raise FencedError(f"another sink has taken over one of {taken}: {error}") from error
            raise StoreError(f"Redis refuses: {error}") from error
        except RedisError as error:
            raise StoreError(f"Redis does not answer: {error}") from error

    def _recorded(self, sources: Collection[Source]) -> dict[Source, int]:
        wanted = list(sources)
        try:
            found: Any = self._redis.mget([_next(source) for source in wanted]) if wanted else []
        except RedisError as error:
            raise StoreError(f"Redis does not answer: {error}") from error
        return {source: int(end or 0) for source, end in zip(wanted, found, strict=True)}


def _stream(source: Source) -> str:
    """The braces keep a topic's keys together in a Redis cluster."""
    return f"{{{source.topic}}}/{source.partition}"


def _next(source: Source) -> str:
    return f"{_stream(source)}/next"


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value
