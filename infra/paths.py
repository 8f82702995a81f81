"""Names from outside as names of files and folders, on every system."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST: Final = 120
_PLAIN: Final = 80


def encoded(name: str) -> str:
    """``name`` as one part of a path: percent-encoded where Windows or a path would take it for something else.

    Letters, digits and ``_ . - ~`` stay; names that Windows reserves and a last dot do not. `urllib.parse.unquote`
    gives the name back. The empty name is ``%``; one too long for a file system is cut and told apart by a hash.
    """
    if not name:
        return "%"
    text = quote(name, safe="")
    if _RESERVED.fullmatch(text) or text.startswith("."):
        text = _escaped(text[0]) + text[1:]
    if text.endswith("."):
        text = text[:-1] + _escaped(".")
    return _fitting(text, name)


def encoded_apart(name: str) -> str:
    """Another encoding of ``name``, in which no two names differ by case alone: every letter is percent-encoded."""
    text = "".join(_escaped(char) if char.isalpha() and char.isascii() else quote(char, safe="") for char in name)
    return _fitting(text, name)


def _fitting(text: str, name: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_PLAIN]}%~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _escaped(char: str) -> str:
    return f"%{ord(char):02X}"
