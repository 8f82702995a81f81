"""What of one partition's log a replay copies: the pure rule, the same whenever it is followed again.

Records of the range are copied as they are, in their order. Of those outside it some controls matter, too; they are
written with the nearest moment of the range instead of their own: a spec, a coverage or a gap that was published late,
a gap that reaches into the range, and each shard's first watermark past its end, which says that the range is complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from schemas.codec import Codec, schema_id
from schemas.errors import DecodeError, UnknownSchemaError
from schemas.records import Control, ControlKind, Replay, Tick

Headers = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]] | None


class Copy(NamedTuple):
    """A record as it is written."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = None


class Selection:
    """The rule for one partition, followed in the order of offsets from where ``replay`` stands."""

    def __init__(self, replay: Replay, codec: Codec) -> None:
        self.replay: Final = replay
        self._codec = codec
        self._start = -math.inf if replay.from_ is None else replay.from_
        self._stop = math.inf if replay.to is None else replay.to
        self._said = set(replay.said)
        self._uncertain = {
            str(control.symbol).encode(): control for control in replay.uncertain if control.symbol not in self._said
        }
        self._chosen: dict[bytes | None, bool] = {}
        self._next_offset, self._written = replay.next_offset, replay.written

    @property
    def written(self) -> int:
        """How many records came out so far, those of earlier runs included."""
        return self._written

    def standing(self, *, complete: bool = False) -> Replay:
        """Where it stands, to go on from there."""
        return replace(
            self.replay,
            next_offset=self.replay.end if complete else self._next_offset,
            written=self._written,
            said=tuple(sorted(self._said)),
            complete=complete,
        )

    def opening(self) -> list[Copy]:
        """What is written before the first record; nothing once that is done."""
        if self._written:
            return []
        copies = [self._copy(control, control.time) for control in self.replay.controls]
        self._written = len(copies)
        return copies

    def within(self, timestamp: int) -> bool:
        """Whether a record of this time belongs to the range."""
        return self._start <= timestamp < self._stop

    def take(self, record: Copy, offset: int) -> Sequence[Copy]:
        """What is written for the source's record at ``offset``. Raises RegistryError when the registry is away."""
        self._next_offset = offset + 1
        if self.replay.symbols and not self.chosen(record.key):
            return ()
        if not self.within(record.timestamp):
            copies = self._outside(record)
        elif self._uncertain and record.key in self._uncertain:
            copies = self._first(record)
        else:
            copies = (record,)
        self._written += len(copies)
        return copies

    def chosen(self, key: bytes | None) -> bool:
        """Whether the key is of a symbol that was asked for, or of a shard."""
        known = self._chosen.get(key)
        if known is None:
            known = self._chosen[key] = is_chosen(key, self.replay.symbols)
        return known

    def _outside(self, record: Copy) -> Sequence[Copy]:
        control = self._decoded(record, "Control")
        early = record.timestamp < self._start
        nearest = self.replay.from_ if early else self.replay.to
        if not isinstance(control, Control) or nearest is None:
            return ()
        moment = nearest if early else nearest - 1
        match control.kind:
            case ControlKind.SYMBOL_SPEC | ControlKind.COVERAGE if early:
                return (self._copy(control, moment),)
            case ControlKind.GAP if (control.to or 0) > self._start and (control.from_ or 0) < self._stop:
                return (self._copy(control, moment),)
            case ControlKind.WATERMARK | ControlKind.RETIRED if not early and self._says(control):
                return (self._copy(replace(control, kind=ControlKind.WATERMARK, symbol=None), moment),)
            case _:
                return ()

    def _says(self, control: Control) -> bool:
        """Whether it is the first of its shard."""
        shard = f"@{control.feed}/{control.shard}"
        first = shard not in self._said
        self._said.add(shard)
        return first

    def _first(self, record: Copy) -> Sequence[Copy]:
        """A series' first tick may have had others before it, at its own moment, too: coverage begins after that."""
        tick = self._decoded(record, "Tick")
        if record.key is None or not isinstance(tick, Tick) or tick.correction:
            return (record,)
        coverage = self._uncertain.pop(record.key)
        self._said.add(str(coverage.symbol))
        return (record, self._copy(coverage, tick.ts_event + 1))

    def _decoded(self, record: Copy, name: str) -> object:
        """The record if it is a ``name``; what is none, or cannot be decoded, says nothing."""
        if record.value is None:
            return None
        try:
            known = self._codec.writer(schema_id(record.value))[0] == name
            return self._codec.decode(record.value) if known else None
        except (DecodeError, UnknownSchemaError):
            return None

    def _copy(self, control: Control, moment: int) -> Copy:
        control = replace(control, time=moment)
        key = control.symbol if control.symbol is not None else f"@{control.feed}/{control.shard}"
        return Copy(key.encode(), self._codec.encode(control), moment)


def is_chosen(key: bytes | None, symbols: Sequence[str]) -> bool:
    """Whether the key is of one of ``symbols`` (names or patterns; none: all), or of a shard."""
    if not symbols:
        return True
    if key is None:
        return False
    text = key.decode("utf-8", "replace")
    return text.startswith("@") or any(fnmatchcase(text, pattern) for pattern in symbols)
