"""Numbered commits of files into a folder: each file appears whole, once, and is never replaced.

A commit goes through four steps, of which the second decides:

1. its files are written into ``.staging`` and synced;
2. its record, ``metadata/NNNNNN.json``, which names them, is written beside, synced and renamed into place;
3. the files are renamed to their own names;
4. the folders are synced.

A process that died before step 2 leaves staged files that no record names: the next one removes them. One that died
after it leaves files still to be renamed: the next one does it. Only the last record can be unfinished. One process
at a time holds the folder's lock, which the system frees with the process, however it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from infra.locks import try_lock
from schemas.errors import ComponentError, FencedError, StoreError
from sinks.durable import make_folder, sync_folder

_DIGITS: Final = 6


def numbered(number: int) -> str:
    """A commit's number as it stands in names."""
    return f"{number:0{_DIGITS}}"


class Journal:
    """The commits of one folder; this process is its only writer from `open` to `close`."""

    def __init__(self, folder: Path, contents: frozenset[str]) -> None:
        """``contents``: the folders that commits fill; without metadata there may be none of them."""
        self.folder = folder
        self._contents = contents
        self._staging = folder / ".staging"
        self._metadata = folder / "metadata"
        self._lock: BinaryIO | None = None
        self._last = 0
        self._staged: list[dict[str, Any]] = []

    @property
    def next_number(self) -> int:
        """The number of the commit that is being prepared."""
        return self._last + 1

    def open(self) -> Mapping[str, Any] | None:
        """Finish or undo what an earlier process left; the last commit's record, if there is one.

        Raises FencedError while another process holds the folder, StoreError when the disk refuses, ComponentError
        when the folder's record is gone or damaged.
        """
        try:
            for folder in (self.folder, self._staging, self._metadata):
                make_folder(folder)
            self._acquire()
            return self._recover()
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be used: {error}") from error

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def stage(self, path: str, data: bytes, **facts: Any) -> None:
        """Prepare a file of the next commit; ``path`` is relative, with slashes. Raises StoreError."""
        staged = f"{numbered(self.next_number)}-{len(self._staged):05}"
        try:
            with (self._staging / staged).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self._staging / staged} cannot be written: {error}") from error
        digest = hashlib.sha256(data).hexdigest()
        self._staged.append({"path": path, **facts, "bytes": len(data), "sha256": digest, "staged": staged})

    def discard(self) -> None:
        """Forget what was staged; the next commit's files take its place."""
        self._staged = []

    def commit(self, facts: Mapping[str, Any]) -> int:
        """Make the staged files visible with a record that holds ``facts``; how many.

        Raises StoreError, FencedError.
        """
        if self._lock is None:
            raise FencedError(f"{self.folder} is not this process's any more")
        number = self.next_number
        final = self._metadata / f"{numbered(number)}.json"
        if final.exists():
            raise FencedError(f"{final} was written by another process")
        record = {"commit": number, **facts, "files": self._staged}
        beside = self._staging / f"{numbered(number)}.json"
        try:
            sync_folder(self._staging)
            with beside.open("wb") as file:
                file.write(json.dumps(record, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            beside.rename(final)
            self._last = number
            self._staged = []
            sync_folder(self._metadata)
            self._place(record)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error}") from error
        return len(record["files"])

    def _recover(self) -> Mapping[str, Any] | None:
        self.discard()
        numbers = sorted(int(path.stem) for path in self._metadata.glob("*.json") if path.stem.isdigit())
        if not numbers:
            if data := sorted(name for name in self._contents if (self.folder / name).exists()):
                raise ComponentError(
                    f"{self.folder} holds {', '.join(data)} but no metadata, so nobody knows where they end: "
                    "move them away, or bring metadata back"
                )
            record = None
        else:
            self._last = numbers[-1]
            record = self._read(self._last)
            self._place(record)
        for leftover in self._staging.iterdir():
            leftover.unlink()
        return record

    def _read(self, number: int) -> Mapping[str, Any]:
        path = self._metadata / f"{numbered(number)}.json"
        try:
            record = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ComponentError(f"{path} is damaged ({error}): bring it back from a backup, or start anew") from error
        if not isinstance(record, dict):
            raise ComponentError(f"{path} is no record of a commit: bring it back from a backup, or start anew")
        return record

    def _place(self, record: Mapping[str, Any]) -> None:
        """Rename the record's files into place; those that are there already stay."""
        folders = set()
        for file in record["files"]:
            staged, final = self._staging / file["staged"], self.folder / file["path"]
            if not staged.exists():
                continue
            make_folder(final.parent)
            if final.exists():
                raise ComponentError(f"{final} is in the way of commit {record['commit']}: move it away")
            staged.rename(final)
            folders.add(final.parent)
        for folder in folders:
            sync_folder(folder)

    def _acquire(self) -> None:
        if self._lock:
            return
        lock = (self._metadata / ".lock").open("ab")
        if not try_lock(lock):
            lock.close()
            raise FencedError(f"another process writes into {self.folder}, which has one writer")
        self._lock = lock
