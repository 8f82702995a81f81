"""What the simulated broker offers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FX_HOURS: Final = (
    *(0.45, 0.5, 0.45, 0.4, 0.4, 0.5, 0.8, 1.4, 1.6, 1.4, 1.2, 1.1),
    *(1.5, 2.0, 2.1, 1.9, 1.5, 1.1, 0.8, 0.7, 0.6, 0.25, 0.3, 0.4),
)
"""Activity of each UTC hour against the day's mean: London's morning, New York's, the lull around rollover."""

ASIAN_HOURS: Final = (
    *(1.5, 1.4, 1.3, 0.9, 0.8, 0.8, 0.9, 1.2, 1.3, 1.1, 1.0, 0.9),
    *(1.2, 1.5, 1.5, 1.3, 1.0, 0.8, 0.6, 0.5, 0.5, 0.3, 0.5, 1.0),
)

EVEN_HOURS: Final = (
    *(1.0, 0.95, 0.9, 0.85, 0.8, 0.8, 0.85, 0.9, 1.0, 1.0, 1.0, 1.05),
    *(1.1, 1.3, 1.4, 1.35, 1.25, 1.15, 1.05, 1.0, 0.95, 0.9, 0.95, 1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One symbol."""

    name: str
    description: str
    price: float
    """What it moves around."""
    digits: int
    volatility: float
    """Standard deviation of a year's logarithmic return."""
    spread: float
    """In points, at usual activity."""
    rate: float
    """Ticks a second, the day's mean."""
    hours: tuple[float, ...] = FX_HOURS

    @property
    def point(self) -> float:
        return round(10.0**-self.digits, self.digits)


INSTRUMENTS: Final = {
    instrument.name: instrument
    for instrument in (
        Instrument(
            name="EURUSD", description="Euro vs US Dollar", price=1.1, digits=5, volatility=0.08, spread=8, rate=2.2
        ),
        Instrument(
            name="GBPUSD", description="Pound vs US Dollar", price=1.28, digits=5, volatility=0.09, spread=11, rate=2.0
        ),
        Instrument(
            name="USDJPY",
            description="US Dollar vs Yen",
            price=148.0,
            digits=3,
            volatility=0.1,
            spread=9,
            rate=2.2,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="USDCHF", description="US Dollar vs Franc", price=0.88, digits=5, volatility=0.08, spread=13, rate=1.2
        ),
        Instrument(
            name="AUDUSD",
            description="Australian vs US Dollar",
            price=0.66,
            digits=5,
            volatility=0.1,
            spread=10,
            rate=1.3,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="NZDUSD",
            description="New Zealand vs US Dollar",
            price=0.61,
            digits=5,
            volatility=0.1,
            spread=14,
            rate=0.9,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="USDCAD",
            description="US vs Canadian Dollar",
            price=1.36,
            digits=5,
            volatility=0.07,
            spread=13,
            rate=1.2,
        ),
        Instrument(
            name="EURGBP", description="Euro vs Pound", price=0.86, digits=5, volatility=0.06, spread=10, rate=1.1
        ),
        Instrument(
            name="EURJPY",
            description="Euro vs Yen",
            price=163.0,
            digits=3,
            volatility=0.1,
            spread=14,
            rate=1.8,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="GBPJPY",
            description="Pound vs Yen",
            price=189.0,
            digits=3,
            volatility=0.11,
            spread=20,
            rate=1.9,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="EURCHF", description="Euro vs Franc", price=0.96, digits=5, volatility=0.05, spread=14, rate=0.8
        ),
        Instrument(
            name="AUDJPY",
            description="Australian Dollar vs Yen",
            price=98.0,
            digits=3,
            volatility=0.11,
            spread=16,
            rate=1.2,
            hours=ASIAN_HOURS,
        ),
        Instrument(
            name="XAUUSD", description="Gold vs US Dollar", price=2400.0, digits=2, volatility=0.15, spread=22, rate=3.0
        ),
        Instrument(
            name="BTCUSD",
            description="Bitcoin vs US Dollar",
            price=65000.0,
            digits=2,
            volatility=0.55,
            spread=900,
            rate=3.5,
            hours=EVEN_HOURS,
        ),
    )
}
"""By name."""


def offered(copies: int) -> dict[str, Instrument]:
    """A broker's list with each instrument so many times: ``EURUSD``, ``EURUSD.2`` and so on, markets of their own."""
    return INSTRUMENTS | {
        f"{name}.{number}": replace(instrument, name=f"{name}.{number}")
        for number in range(2, copies + 1)
        for name, instrument in INSTRUMENTS.items()
    }
