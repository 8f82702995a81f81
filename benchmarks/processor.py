"""How fast a worker catches up, beside what the same broker gives a bare consumer of the same topic.

    python -m benchmarks.processor --ticks 2000000 --partitions 8

Starts a real Kafka of one node (Java, and KAFKA_HOME or Maven), an embedded registry, and one worker.
"""

from __future__ import annotations

import argparse

from benchmarks.race import run_worker
from benchmarks.stage import PARTITIONS, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with stage(chosen.partitions) as place:
        total = place.fill(chosen.ticks)
        print(f"{total:,} records, {chosen.partitions} partitions")
        for _ in range(chosen.rounds):
            raw = place.consume()
            result = run_worker(place, total)
            print(
                f"raw consume {raw:10,.0f}/s   worker {result.rate:10,.0f}/s, {result.rate / raw:.0%} of it, "
                f"{result.cpu_per_million:.2f} CPU s a million, {result.peak_rss / 1e6:.0f} MB",
                flush=True,
            )
            place.reset()


if __name__ == "__main__":
    main()
