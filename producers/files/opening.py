"""Files as blocks of whole lines: plain, gzip, or a zip with one CSV in it; UTF-8, or UTF-16, as MQL5 writes it."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from schemas.errors import SourceError

BLOCK_BYTES: Final = 16 << 20
"""Read at once; no line may be longer."""

_DAMAGED: Final = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError)
"""What the archive modules raise for files that are cut short, encrypted or no archives."""

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's text, unpacked. Raises SourceError when it cannot be read, within the block too."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as file:
                yield _as_utf_8(file)
        elif path.suffix.lower() == ".gz":
            with gzip.open(path) as unpacked:
                yield _as_utf_8(cast("IO[bytes]", unpacked))
        else:
            with path.open("rb") as file:
                yield _as_utf_8(file)
    except _DAMAGED as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def head(path: Path, size: int = 65_536) -> bytes:
    """The first bytes of the file's text. Raises SourceError."""
    with opened(path) as file:
        return file.read(size)


def tail(path: Path, size: int = 65_536) -> bytes:
    """The last bytes of the file's text. Raises SourceError."""
    with opened(path) as file:
        if path.suffix.lower() not in {".zip", ".gz"} and isinstance(file, io.BufferedReader):
            file.seek(max(0, path.stat().st_size - size))
        last = b""
        while block := file.read(BLOCK_BYTES):
            last = (last + block)[-size:]
        return last


def blocks(path: Path) -> Iterator[list[str]]:
    """The file's lines, many at a time. Raises SourceError."""
    with opened(path) as file:
        rest = b""
        while block := file.read(BLOCK_BYTES):
            whole, line_end, after = block.rpartition(b"\n")
            if not line_end and len(rest) + len(after) > BLOCK_BYTES:
                raise SourceError(f"{path} has a line of more than {BLOCK_BYTES >> 20} MB: this is no text of ticks")
            if line_end:
                yield (rest + whole).decode("utf-8", "replace").split("\n")
                rest = after
            else:
                rest += after
        if rest:
            yield [rest.decode("utf-8", "replace")]


def _as_utf_8(file: IO[bytes]) -> IO[bytes]:
    """The file's text as UTF-8, whatever its mark says it is."""
    buffered = io.BufferedReader(cast("io.RawIOBase", file))
    if buffered.peek(2)[:2] not in _UTF_16:
        return buffered
    return cast("IO[bytes]", codecs.EncodedFile(buffered, "utf-8", "utf-16"))


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
    names = names or [name for name in archive.namelist() if name.lower().endswith(".txt")]
    if len(names) != 1:
        raise SourceError(f"{path} holds {len(names)} CSV files, not one: unpack it, and import what is in it")
    return names[0]
