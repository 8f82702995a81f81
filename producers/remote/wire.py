"""What goes between agent and client: frames of a JSON head and, for arrays, their bytes.

A frame is two big-endian 32-bit lengths, of head and body, then both. A request's head is ``{"call", "args",
"options"}``; an answer's ``{"value" | "struct" | "structs" | "dtype", "error": [code, text]}``: a result and the
terminal's last error come together, so that no other call stands between them.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from schemas.errors import SourceError

CALLS: Final = frozenset(
    {
        *("initialize", "shutdown", "last_error", "terminal_info", "account_info", "symbols_get", "symbol_info"),
        *("symbol_select", "symbol_info_tick", "copy_ticks_from", "copy_ticks_range"),
        *("copy_rates_from_pos", "copy_rates_range"),
    }
)
"""What a client may call: nothing that trades."""

LONGEST_REQUEST: Final = 65_536
LONGEST_ANSWER: Final = 1 << 29
_LENGTHS: Final = struct.Struct(">II")


class BrokenFrameError(SourceError):
    """The other side does not speak as it should, or is gone."""


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame."""
    text = json.dumps(head).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


def unpack(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """A frame's head and body. Raises BrokenFrameError."""
    try:
        length, _ = _LENGTHS.unpack_from(frame)
        head = json.loads(frame[_LENGTHS.size : _LENGTHS.size + length])
    except (struct.error, ValueError) as error:
        raise BrokenFrameError(f"no frame: {error}") from error
    if not isinstance(head, dict):
        raise BrokenFrameError("a frame's head is no object")
    return head, frame[_LENGTHS.size + length :]


def receive(connection: socket.socket, limit: int) -> bytes:
    """The next frame, of ``limit`` bytes at most. Raises BrokenFrameError, OSError."""
    lengths = _exactly(connection, _LENGTHS.size)
    size = sum(_LENGTHS.unpack(lengths))
    if size > limit:
        raise BrokenFrameError(f"a frame of {size} bytes, of {limit} at most")
    return lengths + _exactly(connection, size)


def answer(call: Callable[..., Any], last_error: Callable[[], tuple[int, str]], head: dict[str, Any]) -> bytes:
    """The frame that answers a request for ``call``."""
    try:
        result = call(*head.get("args", ()), **head.get("options", {}))
        error = list(last_error())
    except (TypeError, ValueError) as wrong:
        return pack({"value": None, "error": [-2, str(wrong)]})
    if isinstance(result, np.ndarray):
        return pack({"dtype": result.dtype.descr, "error": error}, result.tobytes())
    if hasattr(result, "_asdict"):
        return pack({"struct": result._asdict(), "error": error})
    if isinstance(result, tuple) and all(hasattr(item, "_asdict") for item in result):
        return pack({"structs": [item._asdict() for item in result], "error": error})
    return pack({"value": result, "error": error})


def result(frame: bytes) -> tuple[Any, tuple[int, str]]:
    """What a call gave, and the last error. Raises BrokenFrameError."""
    head, body = unpack(frame)
    try:
        code, text = head["error"]
        if "dtype" in head:
            rows = np.frombuffer(body, np.dtype([(str(name), str(kind)) for name, kind in head["dtype"]]))
            return rows, (int(code), str(text))  # read-only, as the package's are
        if "struct" in head:
            return SimpleNamespace(**head["struct"]), (int(code), str(text))
        if "structs" in head:
            return tuple(SimpleNamespace(**each) for each in head["structs"]), (int(code), str(text))
        return head.get("value"), (int(code), str(text))
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenFrameError(f"no answer: {error}") from error


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts, missing = [], size
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            raise BrokenFrameError("the other side has closed the connection")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
