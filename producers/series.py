"""What a shard knows of one of its series while it polls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.market.zones import ServerZone
from producers.cursor import PAGE, Cursor, Times
from producers.recent import Recent

_FIRST_PAUSE_MS: Final = 250
_LONGEST_PAUSE_MS: Final = 5_000


@dataclass(slots=True)
class Series:
    """Times are UTC milliseconds."""

    broker_name: str
    symbol: str
    cursor: Cursor
    recent: Recent
    count: int = PAGE
    """Rows that the terminal can give at once."""
    changed: bool = False
    """Its cursor moved since it was kept."""
    moved_ms: int = 0
    confirmed: bool = False
    """It was fetched once more after it fell silent: a probe cannot tell of a second tick in the same millisecond."""
    retry_ms: int = 0
    """Not to be asked for before."""
    failures: int = 0
    """In a row."""
    reduced: bool = False
    """Fewer rows were asked for than before, and they have not come yet."""
    lacking_ms: int | None = None
    """Since when the terminal does not show the history that leads up to the cursor."""
    former: ServerZone | None = None
    """The zone that shows the cursor's last tick, where the server's clock was moved since."""
    finished: bool = False
    """The server's clock was moved, and all that came before is read."""
    dropped: bool = False
    """The broker does not offer it now."""
    reread_ms: int = 0
    """When its last minutes were read again."""
    shown: int = 0
    """The server's time of its newest tick as a probe told it."""

    def waits(self, now: int) -> bool:
        """Whether it is to be left alone after a failure."""
        return now < self.retry_ms

    def failed(self, now: int) -> None:
        """Wait before the next call, longer each time."""
        self.retry_ms = now + min(_FIRST_PAUSE_MS << min(self.failures, 10), _LONGEST_PAUSE_MS)
        self.failures += 1

    def succeeded(self, *, fetched: bool) -> list[str]:
        """Note that an answer came, ``fetched`` or to a probe; from what it has recovered: retry, history, reduce."""
        recovered = []
        if self.failures and self.lacking_ms is None:
            recovered.append("retry")
        self.failures = 0
        if fetched:
            recovered += ["history"] * (self.lacking_ms is not None) + ["reduce"] * self.reduced
            self.lacking_ms, self.reduced = None, False
        return recovered

    def lacks(self, times: Times) -> bool:
        """Whether an answer, asked from the cursor's second on, begins behind it: then what led up to it is not shown.

        A series that was never read has no tick to be looked for: whether its history is whole is to be seen elsewhere.
        """
        return bool(len(times)) and int(times[0]) > self.cursor.last_msc

    def behind(self, probe: int | None) -> bool:
        """Whether ticks after the cursor are known of, or may be there."""
        return not self.dropped and (probe is None or self.failures > 0 or probe >= self.cursor.after)
