"""Which zone a broker's clock runs in, found from when its weeks end.

The FX week ends at 17:00 in New York, whatever the broker's clock shows then. Weeks in which the American and the
European daylight-saving rules differ tell the zones apart that follow them; summer and winter, those that follow none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from infra.market.zones import ServerZone
from producers.failures import TryAgainError, failure
from producers.restore import server_time
from producers.terminal import Terminal
from schemas.errors import SettingsError

AUTO: Final = "auto"
CANDIDATES: Final = (
    *("New_York+7", "Europe/Athens", "UTC", "Europe/London", "Europe/Berlin", "New_York+0"),
    *(f"UTC{hours:+d}" for hours in range(-8, 13) if hours),
)
"""The commonest first: it is taken where nothing tells two apart."""

_TIMEFRAME_H1: Final = 16_385
_HOUR_S: Final = 3_600
_DAY_MS: Final = 86_400_000
_WEEKS: Final = 56
_OF_EACH: Final = 2
_STEP_MS: Final = 30 * 60_000
_NEAR_MS: Final = 60_000
_WELL_KNOWN: Final = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF", "USDCAD")


def detect(terminal: Terminal, names: Iterable[str], now: int) -> ServerZone:
    """The zone of the terminal's broker; the terminal is connected. Raises SettingsError when its bars do not tell.

    ``names``: what the broker offers; ``now``: UTC milliseconds. Raises TryAgainError as long as there are no bars (the
    terminal may be fetching them), and TerminalAwayError.
    """
    symbol = _currency_pair(names)
    if symbol is None:
        raise _cannot("the broker offers no currency pair that is known")
    if not terminal.symbol_select(symbol, True):
        raise failure(f"symbol_select({symbol})", terminal.last_error())
    zones = [ServerZone.parse(name) for name in CANDIDATES]
    closes = telling_weeks(now, zones)
    votes: Counter[str] = Counter()
    asked = 0
    for close in closes:
        last = _last_bar(terminal, symbol, close)
        if last is not None:
            asked += 1
            votes.update(zone.name for zone in zones if server_time(close, zone) // 1_000 - _HOUR_S == last)
    if not asked:
        raise TryAgainError(str(_cannot(f"the terminal has no hourly bars of {symbol} yet")))
    if not votes:
        raise _cannot(f"no week of {symbol} ends as in any zone that is known")
    best = max(CANDIDATES, key=lambda name: (votes[name], -CANDIDATES.index(name)))
    if votes[best] * 2 <= asked:
        raise _cannot(f"the weeks of {symbol} end as in no single zone")
    return ServerZone.parse(best)


def by_offset(offset_ms: int, now: int, *, other_than: ServerZone) -> ServerZone | None:
    """The commonest zone that is ``offset_ms`` ahead of UTC now, if it is another one; for a clock that was moved."""
    step = round(offset_ms / _STEP_MS) * _STEP_MS
    if abs(offset_ms - step) > _NEAR_MS:
        return None
    for name in CANDIDATES:
        zone = ServerZone.parse(name)
        if server_time(now, zone) - now == step and zone is not other_than:
            return zone
    return None


def telling_weeks(now: int, zones: Sequence[ServerZone]) -> list[int]:
    """Ends of past weeks, UTC: the latest ones of each way in which the zones' clocks differ."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for close in _closes(now):
        way = tuple(server_time(close, zone) - close for zone in zones)
        group = groups.setdefault(way, [])
        if len(group) < _OF_EACH:
            group.append(close)
    return sorted(close for group in groups.values() for close in group)


def _closes(now: int) -> Iterator[int]:
    """Fridays 17:00 in New York, backwards from ``now``."""
    new_york = ServerZone.parse("New_York+0")
    day = now // _DAY_MS
    friday = day - (day - 1) % 7  # 1970-01-02 was one
    for week in range(_WEEKS):
        local = (friday - 7 * week) * _DAY_MS + 17 * _HOUR_S * 1_000
        close = int(new_york.to_utc(np.array([local]))[0])
        if close < now - _DAY_MS // 2:
            yield close


def _last_bar(terminal: Terminal, symbol: str, close: int) -> int | None:
    """When the last hour before a week's end opens, by the server's clock, in seconds; None without bars there."""
    first, last = close // 1_000 - 12 * _HOUR_S, close // 1_000 + 14 * _HOUR_S
    bars = terminal.copy_rates_range(symbol, _TIMEFRAME_H1, first, last)
    if bars is None:
        raise failure(f"copy_rates_range({symbol})", terminal.last_error())
    return int(bars["time"][-1]) if len(bars) else None


def _currency_pair(names: Iterable[str]) -> str | None:
    offered = list(names)
    return next((name for pair in _WELL_KNOWN for name in offered if name.upper().startswith(pair)), None)


def _cannot(why: str) -> SettingsError:
    return SettingsError(f"ARBITREX_PRODUCER__ZONE=auto: {why}; set it to the broker's zone, such as New_York+7")
