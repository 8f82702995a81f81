"""What happens to a fetch: decoded, stepped through, written as one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra import metrics
from infra.settings import Settings
from processors.core.recall import Lack, lacking, recalled, released
from processors.core.state import progress
from processors.core.step import step
from processors.core.types import Batch, Outcome, Reason, Rules
from processors.drafts import Draft, dead_reason
from processors.isolation import isolate
from processors.ownership import STRIKE_WINDOW
from processors.partition import Fetch, Partition
from processors.standing import Reader
from schemas.batch import decode_batch
from schemas.codec import Codec
from schemas.errors import ComponentError

SMALL: Final = 600
"""Records that take some milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A fetch with what the step made of it."""

    fetch: Fetch
    outcome: Outcome
    crossed: int
    """Ticks among the clean whose bid is above their ask."""
    draft: Draft
    """What is to be written."""


class Pipeline:
    """The work of this worker, without its threads and its order; one instance for all partitions."""

    def __init__(self, settings: Settings, codec: Codec, rules: Rules) -> None:
        self._codec = codec
        self._limit = settings.processor.dead_letter_limit
        self._rules = rules
        self._reader = Reader(settings, codec, rules)
        self._step: Final = partial(step, rules=rules)

    def decode(self, fetch: Fetch) -> Batch:
        """The fetch's records.

        Raises RegistryError when a schema cannot be looked up: that is not the data's fault.
        """
        records = fetch.records
        decoded = decode_batch(records.values, self._codec)
        return Batch(
            decoded.frame,
            decoded.others,
            decoded.bad,
            records.keys,
            records.timestamps,
            records.offsets,
        )

    def lacking(self, fetch: Fetch, batch: Batch) -> Mapping[str, Lack]:
        """What the batch needs of which symbols' past; lets go of what none needs."""
        partition = fetch.partition
        partition.state = released(partition.state, batch.frame)
        return lacking(partition.state, batch.frame, self._rules)

    def recall(self, partition: Partition, wanted: Mapping[str, Lack]) -> None:
        """Read some symbols' past back into the partition's state; blocks.

        All that the partition was stepped through must be committed. Raises BrokerError.
        """
        partition.state = recalled(partition.state, wanted, self._reader.past(partition.number, wanted))

    def step(self, fetch: Fetch, batch: Batch) -> Work:
        """Step the partition's state through the fetch's records, and encode what it gives. Pure but for that state."""
        partition = fetch.partition
        outcome, partition.state = isolate(self._step, partition.state, batch)
        crossed = kept_crossed(batch.frame, outcome.clean)
        draft = partition.drafts.unit(fetch.records, outcome, progress(partition.state, fetch.next_offset))
        return Work(fetch, outcome, crossed, draft)

    async def commit(self, work: Work) -> None:
        """Write the work's transaction.

        Raises ComponentError when its partition has more dead letters than allowed (nothing is written then),
        FencedError and BrokerError as `TransactionalProducer.commit`.
        """
        fetch, partition = work.fetch, work.fetch.partition
        self._strike(partition, work)
        with metrics.TRANSACTION_SECONDS.time():
            await partition.producer.commit(work.draft)
        partition.next_offset = fetch.next_offset
        _measure(work)

    def _strike(self, partition: Partition, work: Work) -> None:
        records, dead = work.fetch.records, work.outcome.dead
        struck = partition.struck
        for at, error in dead:
            offset = int(records.offsets[at])
            struck.append(offset)
            while struck[0] <= offset - STRIKE_WINDOW:
                struck.popleft()
            if len(struck) > self._limit:
                raise ComponentError(
                    f"more than {self._limit} dead letters in {STRIKE_WINDOW} records of partition "
                    f"{partition.number}, the last at offset {offset}: {error}; see the topic dead.letters, and "
                    "ARBITREX_PROCESSOR__DEAD_LETTER_LIMIT"
                )


def kept_crossed(ticks: pl.DataFrame, clean: NDArray[np.int64]) -> int:
    """How many of the ticks at ``clean`` positions of their batch are crossed; where there is no ask, none is. Pure."""
    bid, ask = ticks["bid"].to_numpy(), ticks["ask"].to_numpy()
    crossed = (bid > ask) & (ask > 0)
    if not crossed.any():  # as in nearly every batch
        return 0
    return int(np.isin(ticks["index"].to_numpy()[crossed], clean).sum())


def is_small(fetch: Fetch) -> bool:
    """Whether the fetch is done on the loop: in a thread it and the loop's turns would wait for each other."""
    return len(fetch.records) < SMALL


def _measure(work: Work) -> None:
    outcome, partition = work.outcome, work.fetch.partition
    metrics.RECORDS_PROCESSED.inc(len(work.fetch.records))
    metrics.TICKS_CLEAN.inc(len(outcome.clean))
    metrics.TICKS_CROSSED.inc(work.crossed)
    metrics.TICKS_REPEATED.inc(outcome.repeats)
    for reason, count in zip(*np.unique(outcome.reasons, return_counts=True), strict=True):
        metrics.TICKS_REJECTED.labels(Reason(reason).label).inc(int(count))
    for (timeframe, status), count in Counter((c.bar.timeframe, c.bar.status) for c in outcome.closed).items():
        metrics.BARS_PUBLISHED.labels(timeframe, status.value).inc(count)
    for _, error in outcome.dead:
        metrics.DEAD_LETTERS.labels(dead_reason(error)).inc()
    metrics.PROCESSOR_LAG.labels(str(partition.number)).set(max(0, partition.end - partition.next_offset))
