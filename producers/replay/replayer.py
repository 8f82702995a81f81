"""Writing a replay: partition by partition in order, in step with event time where a pace is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Final, Protocol, cast

from infra.kafka_log import ends
from infra.settings import Settings
from infra.topics import TICKS_RAW
from infra.worlds import World
from producers.pace import Pace
from producers.publisher import Publisher
from producers.replay.reader import Reader
from producers.replay.selection import Copy, Selection
from schemas.codec import Codec
from schemas.errors import BrokerError, UsageError
from schemas.records import Replay

_FILL_SECONDS: Final = 0.02
"""How often a paced replay writes, at least."""

_HELD_SECONDS: Final = 0.1
_SAVE_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 10.0


class Watcher(Protocol):
    """Who is told how a replay goes."""

    def looking_back(self, done: int, total: int) -> None:
        """So many of so many records were read to learn what was in force at the start."""

    def begins(self, done: int, total: int) -> None:
        """So many of so many records of the source were done before."""

    def done(self, read: int, written: int, moment: int | None) -> None:
        """So many more records were read, and so many more written, the latest of ``moment`` (UTC ms)."""

    def waiting(self) -> None:
        """Kafka does not answer."""


@dataclass(slots=True)
class Summary:
    """What a replay did."""

    read: int = 0
    written: int = 0
    before: int = 0
    """Records that earlier runs had written."""
    finished: bool = False


@dataclass(slots=True)
class Lane:
    """One partition."""

    selection: Selection
    skip: int
    """Records of the selection that earlier runs have written, still to be passed over."""
    last: Copy | None
    """The last of them, as it stands in the world."""
    reached: float = -math.inf
    """Event time: the highest so far, so that order is kept where times are not in order."""
    saved: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.selection.replay

    @property
    def partition(self) -> int:
        return self.selection.replay.partition


class Replayer:
    """One run; used by one thread."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        publisher: Publisher,
        *,
        pace: Pace,
        stopping: Event,
        watcher: Watcher,
    ) -> None:
        self._settings, self._codec, self._publisher = settings, codec, publisher
        self._pace, self._stopping, self._watcher = pace, stopping, watcher
        self._saved = time.monotonic()
        self.summary = Summary()

    def run(self, replays: Sequence[Replay], held: Mapping[int, int], last: Mapping[int, Copy]) -> Summary:
        """Write what is not written yet, as far as not asked to stop.

        ``held``: how many records each partition of the world holds; ``last``: the last of each. Raises UsageError when
        those are not this replay's, SourceError when the source has lost what is to be read, BrokerError.
        """
        lanes = [
            Lane(Selection(replay, self._codec), held[replay.partition] - replay.written, last.get(replay.partition))
            for replay in replays
        ]
        _refuse_strange(self._settings.world, lanes, held)
        self.summary.before = sum(held.values())
        total = sum(replay.end - replay.first for replay in replays)
        self._watcher.begins(sum(replay.next_offset - replay.first for replay in replays), total)
        spans = {replay.partition: (replay.next_offset, replay.end) for replay in replays}
        for lane in lanes:
            self._write(lane, lane.selection.opening())
        with Reader(self._settings.kafka, replays[0].source, spans) as reader:
            while not self._stopping.is_set() and not reader.all_finished:
                self._round(reader, lanes)
        self._settle()
        self._save(lanes)
        if not self._stopping.is_set():
            self._finish(lanes)
        self._settle()
        return self.summary

    def _round(self, reader: Reader, lanes: Iterable[Lane]) -> None:
        if self._pace.held:
            self._stopping.wait(_HELD_SECONDS)
            self._save_now_and_then(lanes)
            return
        if not reader.fill(_FILL_SECONDS):
            self._stopping.wait(_FILL_SECONDS)
        elif reader.silent_seconds > _SILENCE_SECONDS and not any(reader.buffers.values()):
            self._watcher.waiting()
        moment = self._pace.moment()
        for lane in lanes:
            self._advance(lane, reader, moment)
        if not self._pace.begun and all(
            reader.buffers[lane.partition] or reader.finished(lane.partition) for lane in lanes
        ):
            heads = [buffer[0].timestamp()[1] for buffer in reader.buffers.values() if buffer]
            if heads:  # all of them are in the range: what is not waits for nothing
                self._pace.begin(min(heads))
        self._save_now_and_then(lanes)

    def _advance(self, lane: Lane, reader: Reader, moment: float) -> None:
        """Write what of the partition has come by ``moment``; what was written before waits for nothing."""
        buffer, selection = reader.buffers[lane.partition], lane.selection
        copies: list[Copy] = []
        begun, read = selection.written, len(buffer)
        while buffer:
            message = buffer[0]
            at = message.timestamp()[1]
            if moment < math.inf and selection.within(at):
                lane.reached = max(lane.reached, at)
                if lane.reached > moment and selection.written - begun >= lane.skip:
                    break
            buffer.popleft()
            copies += selection.take(
                Copy(message.key(), message.value(), at, message.headers()), cast("int", message.offset())
            )
        read -= len(buffer)
        if read:
            self.summary.read += read
            self._write(lane, copies)
            written = copies[-1].timestamp if copies else None
            self._watcher.done(read, len(copies), written)

    def _write(self, lane: Lane, copies: list[Copy]) -> None:
        if lane.skip:
            passed = copies[: lane.skip]
            lane.skip -= len(passed)
            if passed and not lane.skip and passed[-1] != lane.last:
                raise strange(self._settings.world)
            copies = copies[len(passed) :]
        if copies:
            self._publisher.copies(lane.partition, copies)
            self.summary.written += len(copies)

    def _finish(self, lanes: Sequence[Lane]) -> None:
        """Say that all is written, once it is certain that this and nothing else is."""
        there = ends(self._settings.kafka, World(self._settings.world).topic(TICKS_RAW.name))
        if any(lane.skip or there.pop(lane.partition) != lane.selection.written for lane in lanes) or any(
            there.values()
        ):
            raise strange(self._settings.world)
        for lane in lanes:
            self._publisher.replay(lane.selection.standing(complete=True), self._time(lane))
        self.summary.finished = True

    def _save_now_and_then(self, lanes: Iterable[Lane]) -> None:
        if time.monotonic() - self._saved >= _SAVE_SECONDS and self._publisher.flush(0):
            self._saved = time.monotonic()
            self._save(lanes)

    def _save(self, lanes: Iterable[Lane]) -> None:
        """Keep where the lanes stand; all that they wrote is acknowledged."""
        for lane in lanes:
            standing = lane.selection.standing()
            if standing != lane.saved and not lane.skip:
                self._publisher.replay(standing, self._time(lane))
                lane.saved = standing

    def _settle(self) -> None:
        """Wait until all is acknowledged, however long Kafka is away."""
        while not self._publisher.flush(1.0):
            self._watcher.waiting()
            if self._stopping.is_set() and not self._publisher.flush(5.0):
                raise BrokerError("Kafka does not take the last records; the same command goes on where Kafka stands")

    def _time(self, lane: Lane) -> int:
        """A moment for the record of its standing."""
        return max(0, lane.selection.replay.from_ or 0)


def _refuse_strange(world: str, lanes: Iterable[Lane], held: Mapping[int, int]) -> None:
    """Raises UsageError for records in a partition that has none of the replay's, BrokerError for lost ones."""
    lanes = list(lanes)
    if any(lane.skip < 0 for lane in lanes):
        raise BrokerError(
            f"world {world} holds fewer records than were written: the broker lost data; drop it (arbitrex world drop "
            f"{world}) and begin anew"
        )
    if any(held[partition] for partition in held.keys() - {lane.partition for lane in lanes}):
        raise strange(world)


def strange(world: str) -> UsageError:
    """The error for a world that holds records of others."""
    return UsageError(
        f"world {world} holds records that its replay did not write: something else writes there; drop it "
        f"(arbitrex world drop {world}) and begin anew, or give another world with --into"
    )
