"""Every contestant in turn on the same topic: how fast each goes through it, beside a bare consumer in the same round.

    python -m benchmarks.peers [--ticks 2000000] [--rounds 3] [--only worker,streams]

Each filters the ticks into a topic and makes bars: the worker of nine timeframes, all others of one minute. Quix
Streams and Faust, which do less than 50,000/s, are stopped after 200,000 records. Starts a real Kafka of one node.
Needs Java 17, Maven (for Kafka Streams) and uv (it fetches Quix Streams from PyPI into an environment of its own).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from confluent_kafka.admin import NewTopic
from rich.console import Console
from rich.table import Table

from benchmarks.race import Result, run_group, run_worker
from benchmarks.stage import PARTITIONS, Stage, stage
from infra import kafka as clients
from infra.brokers import jars
from schemas.definitions import text

HERE = Path(__file__).parent
FEW = 200_000
QUIX = "quixstreams==3.28.*"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"of {', '.join(COMMANDS)}; all by default")
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"no contestant {', '.join(sorted(unknown))}: there are {', '.join(COMMANDS)}")
    results: dict[str, list[tuple[Result, float]]] = {name: [] for name in names}
    console = Console(stderr=True)
    with stage() as place, console.status("filling the topic") as status:
        total = place.fill(chosen.ticks)
        for number in range(1, chosen.rounds + 1):
            status.update(f"round {number} of {chosen.rounds}: raw consume")
            raw = place.consume()
            console.print(f"round {number}: raw consume {raw:,.0f}/s")
            for name in names:
                status.update(f"round {number} of {chosen.rounds}: {name}")
                result = COMMANDS[name](place, total, number)
                console.print(f"round {number}: {name} {result.rate:,.0f}/s")
                results[name].append((result, raw))
    Console().print(_table(f"{total:,} records, {PARTITIONS} partitions", results))


def _worker(place: Stage, total: int, number: int) -> Result:
    if number > 1:
        place.reset()
    return run_worker(place, total)


def _faust(place: Stage, total: int, number: int) -> Result:
    command = [sys.executable, str(HERE / "faust_app.py"), "worker", "-l", "error"]
    return _group(place, command, "faust", min(total, FEW), number)


def _quix(place: Stage, total: int, number: int) -> Result:
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        raise SystemExit("uv is missing, which fetches Quix Streams: pip install uv, or leave it out with --only")
    command = [uv, "run", "-q", "--no-project", "--isolated", "--with", QUIX, "--with", "fastavro"]
    return _group(place, [*command, "python", str(HERE / "quix_app.py")], "quix", min(total, FEW), number)


def _streams(threads: int) -> Callable[[Stage, int, int], Result]:
    def run(place: Stage, total: int, number: int) -> Result:
        pom = HERE / "streams" / "pom.xml"
        source = HERE / "streams" / "src" / "main" / "java" / "Peer.java"
        digest = hashlib.sha256(pom.read_bytes() + source.read_bytes()).hexdigest()[:12]

        def build(out: Path) -> list[str]:
            copy = ["dependency:copy-dependencies", f"-DoutputDirectory={out / 'libs'}"]
            return ["-f", str(pom), "package", *copy, f"-Dout={out}"]

        built = jars.fetched(f"peer-{digest}", "Kafka Streams", build, "Maven is missing: leave it out with --only")
        classpath = os.pathsep.join([str(built / "peer-1.jar"), str(built / "libs" / "*")])
        command = [jars.java(jars.KAFKA_JAVA), "-Xmx1g", "-cp", classpath, "Peer"]
        return _group(place, command, f"streams{threads}", total, number, THREADS=str(threads))

    return run


COMMANDS: dict[str, Callable[[Stage, int, int], Result]] = {
    "worker": _worker,
    "streams": _streams(1),
    "streams2": _streams(2),
    "quix": _quix,
    "faust": _faust,
}
TITLES = {
    "worker": "Arbitrex worker: filter, 9 timeframes, exactly once",
    "streams": "Kafka Streams, 1 thread: filter, M1, exactly once",
    "streams2": "Kafka Streams, 2 threads: filter, M1, exactly once",
    "quix": "Quix Streams: filter, M1, at least once",
    "faust": "Faust as it comes: filter, M1, at least once",
}


def _group(place: Stage, command: list[str], name: str, total: int, number: int, **more: str) -> Result:
    """A contestant with a group and topics of its own."""
    group = f"peer.{name}.{number}"
    clean, bars = f"{group}.clean", f"{group}.bars"
    admin = clients.admin(place.settings.kafka)
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in (clean, bars)]).values():
        future.result(30)
    environment = os.environ | {
        "BOOTSTRAP": place.settings.kafka.bootstrap_servers,
        "GROUP": group,
        "RAW": place.raw,
        "CLEAN": clean,
        "BARS": bars,
        "PARTITIONS": str(PARTITIONS),
        "SCHEMA": text("Tick"),
        "SCHEMA_ID": str(int.from_bytes(place.codec.headers["Tick"], "big")),
        "STATE": str(place.settings.home / group),
    }
    return run_group(place, command, environment | more, group, total)


def _table(title: str, results: dict[str, list[tuple[Result, float]]]) -> Table:
    table = Table(title=title)
    for column in ("contestant", "records/s", "of raw consume", "CPU s a million", "peak MB"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for name, runs in results.items():
        table.add_row(
            TITLES[name],
            _spread((result.rate for result, _ in runs), "{:,.0f}"),
            _spread((100 * result.rate / raw for result, raw in runs), "{:.1f} %"),
            _spread((result.cpu_per_million for result, _ in runs), "{:.1f}"),
            f"{max(result.peak_rss for result, _ in runs) / 1e6:,.0f}",
        )
    return table


def _spread(values: Iterable[float], form: str) -> str:
    """The median, and least and most."""
    found = sorted(values)
    return f"{form.format(median(found))} ({form.format(found[0])}-{form.format(found[-1])})"


if __name__ == "__main__":
    main()
