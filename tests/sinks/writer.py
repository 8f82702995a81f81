"""A process that writes a known source into a sink, for tests that kill it: NAME TOTAL; settings from its environment.

It imports little, since they start it again and again.
"""

from __future__ import annotations

import sys

from infra.lake.layout import BARS, TICKS
from infra.settings import load
from sinks.kinds import sink_of
from sinks.sink import Source
from tests.sinks.records import SYMBOLS, bar, batch, tick

STEP = 7


def main(name: str, total: int) -> None:
    sink = sink_of(load(), name)
    ticks, bars = (Source(f"main.{table.topic.name}", 0) for table in (TICKS, BARS))
    recorded = sink.positions([ticks, bars])
    at = {ticks: recorded.get(ticks, 0), bars: recorded.get(bars, 0)}
    print("started", flush=True)  # noqa: T201
    while min(at.values()) < total:
        ends = {source: min(offset + STEP, total) for source, offset in at.items()}
        records = range(at[ticks], ends[ticks])
        sink.write(batch(TICKS, (tick(n, SYMBOLS[n % 4]) for n in records), first=at[ticks]))
        sink.write(batch(BARS, (bar(n, SYMBOLS[n % 4]) for n in range(at[bars], ends[bars])), first=at[bars]))
        sink.commit(ends)
        at = ends
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
