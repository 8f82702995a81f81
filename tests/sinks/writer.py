"""A process that writes a known source into a sink, for tests that kill it: NAME HOME TOTAL."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.lake.layout import BARS, TICKS
from sinks.service import sink_of
from tests.sinks.stores import SYMBOLS, Store, bar, batch, tick

STEP = 7


def main(name: str, home: str, total: int) -> None:
    store = Store(name, Path(home))
    sink = sink_of(store.settings, store.name)
    ticks, bars = store.source(TICKS), store.source(BARS)
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
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
