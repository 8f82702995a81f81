"""What one tick adds to a bar."""

from __future__ import annotations

from typing import NamedTuple

from infra.market.counts import Counted
from processors.core.filter import FLAG_BID, FLAG_LAST, FLAG_VOLUME, spread_of
from processors.core.series import Identity, OpenBar
from processors.core.terms import Terms


class Addition(NamedTuple):
    """What a tick adds to a bar."""

    identity: Identity
    price: float
    ask: float
    counts: bool
    volume: float
    spread: int
    offset: int
    rules: str
    amount: float
    """Its volume as count bars have it: the exchange's or, over the counter, tick volume."""

    def weight(self, counted: Counted) -> float:
        """What it brings a count bar nearer to being full."""
        if counted == Counted.TICKS:
            return 1.0
        return self.amount if counted == Counted.VOLUME else self.price * self.amount


def addition_of(
    terms: Terms, prices: tuple[float, float, float, float], identity: Identity, flags: int, offset: int
) -> Addition:
    """A tick's with these bid, ask, last and volume, if it makes bars."""
    bid, ask, last, volume = prices
    counts = bool(terms.last or flags & FLAG_BID)
    traded = volume + 0.0 if flags & (FLAG_LAST | FLAG_VOLUME) else 0.0
    return Addition(
        identity,
        last if terms.last else bid,
        ask + 0.0,  # -0.0 becomes 0.0: which of the two is the higher is nobody's to say
        counts,
        traded,
        spread_of(terms, bid, ask),
        offset,
        terms.hash,
        traded if terms.last else float(counts),
    )


def opened(span: Identity, more: Addition) -> OpenBar:
    """A bar over the span, opened by a tick."""
    return OpenBar(
        *span,
        *(more.price, more.price, more.price, more.price),
        *(more.ask, more.ask, more.ask, more.ask),
        int(more.counts),
        more.volume,
        more.spread,
        1,
        more.identity,
        more.identity,
        more.rules,
        more.offset,
        more.offset,
    )


def join(bar: OpenBar, more: Addition) -> None:
    """A correction may come before the bar's first tick or between."""
    identity, price, ask, counts, volume, spread, offset, _, _ = more
    if price > bar.high:
        bar.high = price
    if price < bar.low:
        bar.low = price
    if ask > bar.ask_high:
        bar.ask_high = ask
    if ask < bar.ask_low:
        bar.ask_low = ask
    if identity > bar.last:
        bar.close, bar.ask_close, bar.last = price, ask, identity
    elif identity < bar.first:
        bar.open, bar.ask_open, bar.first = price, ask, identity
    bar.tick_volume += counts
    bar.real_volume += volume
    if spread < bar.spread:
        bar.spread = spread
    bar.tick_count += 1
    bar.last_offset = offset
