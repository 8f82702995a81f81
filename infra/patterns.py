"""Whether two patterns of names, as `fnmatch` reads them, have a name in common: pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from typing import Final

_PART: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_SPECIAL: Final = "*?[]!"
_ANY: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._#"


def common(first: str, second: str) -> str | None:
    """A name that both match, as short as can be; None when there is none."""
    ours, theirs = _PART.findall(first), _PART.findall(second)
    letters = "".join(dict.fromkeys([*(c for c in first + second if c not in _SPECIAL), *_ANY, *_SPECIAL]))

    @cache
    def rest(i: int, j: int) -> str | None:
        if i == len(ours) and j == len(theirs):
            return ""
        found = []
        if i < len(ours) and ours[i] == "*":
            found.append(rest(i + 1, j))
        if j < len(theirs) and theirs[j] == "*":
            found.append(rest(i, j + 1))
        if i < len(ours) and j < len(theirs) and (ours[i] != "*" or theirs[j] != "*"):
            letter = next((c for c in letters if _takes(ours[i], c) and _takes(theirs[j], c)), None)
            after = rest(i + (ours[i] != "*"), j + (theirs[j] != "*")) if letter is not None else None
            found.append(None if after is None else f"{letter}{after}")
        return min((name for name in found if name is not None), key=len, default=None)

    return rest(0, 0)


def _takes(part: str, letter: str) -> bool:
    return part == "*" or fnmatchcase(letter, part)
