"""Records damaged in every way there is, through codec and step: no crash, and each one accounted for.

    python -m tests.acceptance.mutations --records 1000000 [--seed 1]

Sound records of the fire test's generators, damaged ones among them: bits flipped, bytes cut off, inserted or taken
out, datums joined or exchanged, other schema ids, wrong keys and timestamps, none at all, fields set to extremes and
encoded soundly. Batches of any size are decoded and stepped through as a worker does it; each record must come out
exactly once, as clean, rejected, repeated, applied (a control) or a dead letter, in both ways of working alike, and all
that comes out must be writable, and the state restorable.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from processors.core.recall import Found, lacking, recalled, released
from processors.core.state import State, progress, restore
from processors.core.step import step
from processors.core.types import Batch, ClosedBar, Outcome, Reason, Rules
from processors.drafts import dead_reason
from processors.isolation import isolate
from schemas import records as types
from schemas.batch import decode_batch
from schemas.codec import HEADER, Codec
from schemas.definitions import NAMES
from schemas.errors import ArbitrexError
from schemas.records import Control, LiveBars, Tick
from tests.acceptance.fire_generator import SHARDS, Stream
from tests.schemas.strategies import MemoryStore
from tests.support import Out

RULES: Final = Rules(("M1", "M15", "H1", "H4", "D1", "MN1"))
SIZES: Final = (1, 3, 40, 90, 150, 250, 400, 1_500, 5_000)
LIFE: Final = 60_000
"""Records until everything begins anew: one tick from 2099 makes repeats of all that follow."""
SHARES: Final = (2.0, 0.02, 6.0)
"""Damaged records for each sound one, by life."""
RESTARTS: Final = 0.1
"""How often it begins anew from what was written."""
COMPARED: Final = 2
"""Every so many batches are worked through in the other way, too."""
_INTS: Final = (0, 1, -1, 59_999, 2**31 - 1, -(2**31), 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 4_102_444_799_999)
_FLOATS: Final = (0.0, -0.0, -1.0, 5e-324, 1e-300, 1e300, 1.8e308, float("inf"), -float("inf"), float("nan"))
_TEXTS: Final = ("", "\0", "|", "EUR|USD", "@sim/a", "sim", "a", "ecn", "x" * 300, "ü€𝄞", "UTC+99", "{}", '{"open":5}')


class Mutator:
    """Damages records; the same seed damages in the same way."""

    def __init__(self, codec: Codec, seed: int) -> None:
        self._codec = codec
        self._chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._ways: dict[str, Callable[[Out, Out], Out]] = {
            "bits flipped": self._flipped,
            "cut off": self._cut,
            "inserted": self._inserted,
            "taken out": self._taken_out,
            "joined": lambda a, b: a._replace(value=(a.value or b"") + (b.value or b"")[5:]),
            "exchanged": self._exchanged,
            "schema id": self._other_schema,
            "no value": lambda a, _: a._replace(value=self._chance.choice((None, b"", b"\0", b"\0\0\0\0\1"))),
            "key": lambda a, b: a._replace(key=self._chance.choice((b.key, "", a.key + "x", a.key.lower()))),
            "timestamp": lambda a, b: a._replace(timestamp=self._chance.choice((b.timestamp, -1, 0, 2**62, *_INTS))),
            "field": self._extreme,
            "random": lambda a, _: a._replace(value=HEADER.pack(0, 1) + self._chance.randbytes(70)),
        }

    def damage(self, record: Out, other: Out) -> Out:
        """The record, damaged; ``other`` is one near it."""
        way = self._chance.choice(tuple(self._ways))
        self.done[way] += 1
        return self._ways[way](record, other)

    def _flipped(self, record: Out, _: Out) -> Out:
        data = bytearray(record.value or b"\0")
        for _again in range(self._chance.choice((1, 1, 2, 8))):
            data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        return record._replace(value=bytes(data))

    def _cut(self, record: Out, _: Out) -> Out:
        value = record.value or b""
        return record._replace(value=value[: self._chance.randrange(len(value) + 1)])

    def _inserted(self, record: Out, _: Out) -> Out:
        value = record.value or b""
        at = self._chance.randrange(len(value) + 1)
        more = self._chance.choice((b"\0", b"\xff" * 9, b"\xfe\xff\xff\xff\x0f", self._chance.randbytes(5)))
        return record._replace(value=value[:at] + more + value[at:])

    def _taken_out(self, record: Out, _: Out) -> Out:
        value = record.value or b""
        at = self._chance.randrange(len(value) + 1)
        return record._replace(value=value[:at] + value[at + self._chance.randrange(1, 9) :])

    def _exchanged(self, record: Out, other: Out) -> Out:
        value, more = record.value or b"", other.value or b""
        at = self._chance.randrange(len(value) + 1)
        return record._replace(value=value[:at] + more[at:])

    def _other_schema(self, record: Out, _: Out) -> Out:
        chosen = self._chance.choice((0, *range(1, len(NAMES) + 1), 99, 2**31, 2**32 - 1))
        head = HEADER.pack(self._chance.choice((0, 0, 0, 1)), chosen)
        return record._replace(value=head + (record.value or b"")[5:])

    def _extreme(self, record: Out, _: Out) -> Out:
        """Fields at their extremes in a sound datum under the key and time that it says."""
        try:
            sound = self._codec.decode(record.value or b"")
        except ArbitrexError:
            return record._replace(value=None)
        for _again in range(self._chance.choice((1, 1, 2, 4))):
            sound = self._changed(sound)
        if not isinstance(sound, Tick | Control):
            return record._replace(value=None)
        try:
            value = self._codec.encode(sound)
        except (ValueError, OverflowError, TypeError):  # fastavro does not write an int that is none
            return record._replace(value=None)
        time_ms = sound.ts_event if isinstance(sound, Tick) else sound.time
        whole = isinstance(sound, Control) and (sound.symbol is None or sound.kind in {"watermark", "retired"})
        key = f"@{sound.feed}/{sound.shard}" if whole and isinstance(sound, Control) else sound.symbol or ""
        return record._replace(key=key, value=value, timestamp=time_ms)

    def _changed(self, record: Any) -> Any:
        chosen = self._chance.choice(fields(record))
        value = getattr(record, chosen.name)
        if hasattr(value, "__dataclass_fields__"):
            return replace(record, **{chosen.name: self._changed(value)})
        if isinstance(value, bool):
            new: object = not value
        elif isinstance(value, int) or chosen.name in {"from_", "to"}:
            new = self._chance.choice((*_INTS, (value or 0) + 1, (value or 0) - 86_400_000))
        elif isinstance(value, float):
            new = self._chance.choice(_FLOATS)
        elif type(value) is str or (value is None and chosen.name == "symbol"):
            new = self._chance.choice(_TEXTS)
        elif value is None:
            new = None
        else:
            new = self._chance.choice(list(cast("type[StrEnum]", type(value))))
        return replace(record, **{chosen.name: new})


@dataclass
class Account:
    """What became of all records."""

    records: int = 0
    damaged: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    bars: int = 0
    compared: int = 0
    wrong: list[str] = field(default_factory=list)


class Processor:
    """What a worker does with a partition, without Kafka."""

    def __init__(self, codec: Codec, account: Account) -> None:
        self._codec, self._account = codec, account
        self._state = State()
        self._offset = 0
        self._bars: dict[str, ClosedBar] = {}
        self._live: dict[str, LiveBars] = {}

    def take(self, records: list[Out], *, compare: bool) -> None:
        """Decode and step through a batch, and account for each of its records."""
        decoded = decode_batch([record.value for record in records], self._codec)
        size = len(records)
        batch = Batch(
            decoded.frame,
            decoded.others,
            decoded.bad,
            [record.key.encode() for record in records],
            [record.timestamp for record in records],
            range(self._offset, self._offset + size),
        )
        self._state = released(self._state, batch.frame)
        wanted = lacking(self._state, batch.frame, RULES)
        found = {name: self._found(name, lack.closed_after) for name, lack in wanted.items()}
        self._state = recalled(self._state, wanted, found)
        outcome, state = isolate(partial(step, rules=RULES), self._state, batch)
        if compare:
            self._account.compared += 1
            other, _ = isolate(partial(step, rules=RULES, small=10**9 if size > 200 else 0), self._state, batch)
            if _shown(other) != _shown(outcome):
                self._account.wrong.append(f"both ways differ:\n{_shown(outcome)}\n{_shown(other)}")
        self._state, self._offset = state, self._offset + size
        self._count(batch, outcome)
        self._write(outcome)

    def _found(self, symbol: str, closed_after: int | None) -> Found:
        """What would be read back of a symbol."""
        if closed_after is None:
            return Found(None, None)
        bars = self._bars.values()
        return Found([c for c in bars if c.bar.symbol == symbol and c.bar.ts_close > closed_after], None)

    def restart(self) -> None:
        """As after a crash: from the records alone."""
        live = [cast("LiveBars", self._codec.decode(self._codec.encode(record))) for record in self._live.values()]
        done = cast("types.Progress", self._codec.decode(self._codec.encode(progress(self._state, self._offset))))
        again = restore(live, done, RULES)
        shown = {name: repr(series.live()) for name, series in again.series.items()}
        if shown != {name: repr(series.live()) for name, series in self._state.series.items() if name in self._live}:
            self._account.wrong.append("the restored state is another one")
        self._state = again

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        clean, rejected = outcome.clean.tolist(), outcome.rejected.tolist()
        dead = [at for at, _ in outcome.dead]
        ticks = set(batch.frame["index"].to_list())
        written = Counter([*clean, *rejected, *dead])
        repeats = ticks - written.keys()
        applied = {at for at, _ in batch.others} - written.keys()
        account = self._account
        account.records += len(batch.offsets)
        account.bars += len(outcome.closed)
        account.fates["clean"] += len(clean)
        account.fates.update(f"rejected: {Reason(reason).label}" for reason in outcome.reasons.tolist())
        account.fates.update(f"dead letter: {dead_reason(error)}" for _, error in outcome.dead)
        account.fates["repeat"] += outcome.repeats
        account.fates["control applied"] += len(applied)
        accounted = written.keys() | repeats | applied
        sorts = (
            (max(written.values(), default=1) == 1, "a record came out twice"),
            (len(repeats) == outcome.repeats, f"{len(repeats)} ticks are nowhere, {outcome.repeats} were repeats"),
            (accounted == set(range(len(batch.offsets))), "a record is nowhere"),
            ({at for at, _ in batch.bad} <= set(dead), "what cannot be decoded is no dead letter"),
        )
        account.wrong += (text for good, text in sorts if not good)

    def _write(self, outcome: Outcome) -> None:
        """Encode all that a transaction would write."""
        encode = self._codec.encode
        for closed in outcome.closed:
            assert self._codec.decode(encode(closed.bar)) == closed.bar
        for _, spec in outcome.specs:
            encode(spec)
        for _, event in outcome.events:
            encode(event)
        for _, error in outcome.dead:
            str(error).encode()
        self._bars |= {closed.bar.key: closed for closed in outcome.closed}
        self._live |= {live.symbol: live for live, _ in outcome.live}


def _shown(outcome: Outcome) -> str:
    rejected = list(zip(outcome.rejected.tolist(), outcome.reasons.tolist(), strict=True))
    dead = [at for at, _ in outcome.dead]
    return repr((outcome.clean.tolist(), rejected, outcome.repeats, dead, outcome.closed, outcome.live, outcome.events))


def records(codec: Codec, mutator: Mutator, seed: int, share: float) -> Iterator[tuple[Out, bool]]:
    """Without end: sound records and among them ``share`` times as many damaged ones; whether damaged."""
    chance = random.Random(seed)
    streams = [Stream(codec, number, seed=seed, partitions=1) for number in range(len(SHARDS))]
    for stream in streams:
        yield from ((record, False) for record in stream.begin())
    while True:
        for stream in streams:
            before: Out | None = None
            for record in stream.block():
                yield record, False
                for _ in range(int(share + chance.random())):
                    yield mutator.damage(record, before or record), True
                before = record


def run(count: int, seed: int, console: Console | None = None) -> tuple[Account, Mutator]:
    """Take so many damaged records, and as many sound ones."""
    codec, chance = Codec(MemoryStore()), random.Random(seed)
    mutator, account, batches = Mutator(codec, seed), Account(), 0
    with Progress(*Progress.get_default_columns(), console=console, disable=console is None) as shown:
        task = shown.add_task("mutating", total=count)
        for life in itertools.count():
            source = records(codec, mutator, seed + life, SHARES[life % len(SHARES)])
            processor, taken = Processor(codec, account), 0
            while taken < LIFE:
                batch = [next(source) for _ in range(chance.choice(SIZES))]
                batches += 1
                processor.take([record for record, _ in batch], compare=batches % COMPARED == 0)
                account.damaged += sum(damaged for _, damaged in batch)
                taken += len(batch)
                shown.update(task, completed=account.damaged)
                if account.damaged >= count:
                    return account, mutator
                if chance.random() < RESTARTS:
                    processor.restart()
    raise AssertionError("there are lives enough")


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Without what polars prints to standard error, not Python's, for each batch that it stumbles over."""
    os.environ["RUST_BACKTRACE"] = "0"
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def main() -> int:
    """Damage, count, print the table; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="damaged records (default 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="decides what is damaged and how (default 1)")
    options = parser.parse_args()
    console, began = Console(width=120), time.monotonic()
    with quiet_panics():
        account, mutator = run(options.records, options.seed, console)
    shown = Table(title=f"{account.damaged:,} damaged records among {account.records:,}, seed {options.seed}")
    shown.add_column("what")
    shown.add_column("records", justify="right")
    for name, number in (*sorted(mutator.done.items()), *sorted(account.fates.items())):
        shown.add_row(name, f"{number:,}")
    shown.add_row("accounted for", f"{account.fates.total():,} of {account.records:,}")
    shown.add_row("bars", f"{account.bars:,}")
    shown.add_row("batches worked through in both ways", f"{account.compared:,}")
    shown.add_row("wrong", str(len(account.wrong)))
    shown.add_row("seconds", f"{time.monotonic() - began:.0f}")
    console.print(shown)
    for text in account.wrong[:5]:
        console.print(text[:4_000], style="red", markup=False, soft_wrap=True)
    return 1 if account.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
