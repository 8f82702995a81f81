"""Which kind of tick text a file holds: from its name and its first lines.

Sources: the exports of a MetaTrader 5 terminal (Symbols, Ticks, Export), https://www.histdata.com/f-a-q/data-files-detailed-specification,
TrueFX's and Dukascopy's own downloads, and what programs that save the latter write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from producers.files.text import AROUND, Layout
from producers.files.times import TimeForm, find_form
from schemas.errors import UsageError


class BarsError(UsageError):
    """A file of bars, which is none of ticks."""


_HISTDATA: Final = re.compile(r"\d{8} \d{9},[\d.]+,[\d.]+(,\d+)?")
_TRUEFX: Final = re.compile(r"([A-Z]{3}/[A-Z]{3}),\d{8} \d\d:\d\d:\d\d\.\d{3},[\d.]+,[\d.]+")
_BARS: Final = {"open", "high", "low", "close"}
_DUKASCOPY: Final = (
    {"askvolume", "bidvolume"},
    {"gmttime", "localtime", "timeutc", "timeeet", "timestamp", "time"},
)

_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "time": (
        *("time", "timestamp", "datetime", "gmttime", "localtime", "timeutc", "timeeet", "tsevent", "ts", "timemsc"),
        *("tickon", "utc", "dateandtime"),
    ),
    "date": ("date",),
    "bid": ("bid", "bidprice", "bidrate", "b"),
    "ask": ("ask", "askprice", "askrate", "offer", "a"),
    "last": ("last", "lastprice"),
    "volume": ("volume", "volumereal", "vol"),
    "flags": ("flags",),
    "symbol": ("symbol", "instrument", "pair", "ticker"),
}
"""Names of columns, in small letters and digits only; the first that is there counts."""


def recognise(path: Path, text: str, columns: Mapping[str, str] | None = None) -> Layout | None:
    """What ``text``, the beginning of a file, is laid out as; None when it is none of the formats.

    ``columns``: names of a header's columns by what they mean, where they are not the usual ones. Raises BarsError, and
    UsageError for columns that are not there.
    """
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    if _HISTDATA.fullmatch(lines[0]):
        return Layout(
            format="histdata", title="HistData ticks", separator=",", fields=(3, 4),
            columns={"time": 0, "bid": 1, "ask": 2}, time=TimeForm("%Y%m%d %H%M%S%3f"), zone="UTC-5",
        )  # fmt: skip
    if match := _TRUEFX.fullmatch(lines[0]):
        return Layout(
            format="truefx", title="TrueFX ticks", separator=",", fields=(4, 4), symbol=match[1],
            columns={"symbol": 0, "time": 1, "bid": 2, "ask": 3}, time=TimeForm("%Y%m%d %H:%M:%S%.f"), zone="UTC",
        )  # fmt: skip
    return _by_header(path, lines, columns or {})


def meanings(names: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Which of a header's ``names`` means what. Raises UsageError for one of ``columns`` that is not there."""
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    found = {}
    for meaning, aliases in _ALIASES.items():
        if meaning in columns:
            if columns[meaning] not in names:
                raise UsageError(f"--columns: there is no column {columns[meaning]!r}; there are {', '.join(names)}")
            found[meaning] = names.index(columns[meaning])
        elif places := [plain.index(alias) for alias in aliases if alias in plain]:
            found[meaning] = places[0]
    if "date" in found and ("time" not in found or plain[found["time"]] not in {"time", "timestamp"}):
        found.setdefault("time", found["date"])
        del found["date"]
    return found


def _by_header(path: Path, lines: list[str], columns: Mapping[str, str]) -> Layout | None:
    separator = max("\t;,", key=lines[0].count)
    names = [name.strip().strip("\"'\ufeff") for name in lines[0].split(separator)]
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in names}
    found = meanings(names, columns)
    if not {"bid", "ask"} <= found.keys():
        if plain >= _BARS:
            raise BarsError(f"{path} holds bars, not ticks: bars are made of ticks here, and cannot be imported")
        return None
    if "time" not in found or len(lines) < 2:  # noqa: PLR2004 - a header and a tick
        return None
    fields = lines[1].split(separator)
    if len(fields) <= max(found["time"], found.get("date", 0)):
        return None
    form = find_form(" ".join(fields[found[part]].strip(AROUND) for part in ("date", "time") if part in found))
    if form is None:
        return None
    metatrader = "date" in found and {"last", "volume"} <= found.keys()
    dukascopy = _DUKASCOPY[0] <= plain and bool(_DUKASCOPY[1] & plain)
    zone = "UTC" if form.absolute else None
    if dukascopy and zone is None:
        zone = "EET" if "timeeet" in plain else "UTC"
    kind, title = (
        ("metatrader", f"MetaTrader ticks, separated by {_called(separator)}")
        if metatrader
        else ("dukascopy", "Dukascopy ticks as CSV")
        if dukascopy
        else ("columns", f"CSV with the columns {', '.join(names[place] for place in found.values())}")
    )
    return Layout(
        format=kind,
        title=title,
        separator=separator,
        columns=found,
        fields=(max(found["time"], found["bid"], found["ask"]) + 1, len(names)) if metatrader else (len(names),) * 2,
        time=form,
        header=True,
        zone=zone,
        symbol=fields[found["symbol"]].strip(AROUND) if "symbol" in found else None,
        carried=metatrader,
    )


def _called(separator: str) -> str:
    return {"\t": "tabs", ",": "commas", ";": "semicolons"}[separator]
