"""The simulated terminal as the package it stands for: held to the wheel's spec, and to its users' programs."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from infra.market.zones import ServerZone
from producers.simulated import structs
from producers.simulated.market import Market
from producers.simulated.package import FUNCTIONS, TradingTerminal, module
from producers.terminal import RATES_DTYPE, TICK_DTYPE

HERE = Path(__file__).parent
SPEC: dict[str, Any] = json.loads((HERE / "mt5_api_spec.json").read_text("utf-8"))
NOW = 1_772_546_400_000  # 2026-03-03T14:00Z
KINDS = {"bool": bool, "float": float, "str": str}
SAYS = {
    "account": "login=1000001",
    "login": "authorized True 1000001",
    "terminal": "maxbars=100000",
    "symbols": "Symbols:  14 14",
    "symbol": "unknown: None (-4, 'Terminal: Not found')",
    "rates_from": "bars 10",
    "rates_pos": "bars 3 20",
    "rates_range": "bars 157",
    "ticks": "all in the hour: True",
    "trading": "result: None (-8, 'Terminal: AutoTrading disabled')",
}


class Clock:
    def now_us(self) -> int:
        return NOW * 1_000

    def now_ms(self) -> int:
        return NOW


@pytest.fixture
def mt5() -> ModuleType:
    return module(TradingTerminal(Market(7), ServerZone.parse("New_York+7"), Clock()))


def test_constants_are_the_packages(mt5: ModuleType) -> None:
    found = {name: value for name, value in vars(mt5).items() if name.isupper() and name != "VERSION"}
    assert found == SPEC["constants"]
    assert all(type(value) is int for value in found.values())


@pytest.mark.parametrize(("name", "dtype"), [("ticks_dtype", TICK_DTYPE), ("rates_dtype", RATES_DTYPE)])
def test_dtypes_are_the_packages(name: str, dtype: np.dtype[Any]) -> None:
    assert [list(field) for field in dtype.descr] == SPEC[name]
    assert dtype.itemsize == 60


@pytest.mark.parametrize("name", sorted(SPEC["structseq"]))
def test_structs_are_the_packages(name: str) -> None:
    made = getattr(structs, name).of()
    assert list(made._asdict()) == [field for field, _ in SPEC["structseq"][name]]
    for (field, kind), value in zip(SPEC["structseq"][name], made, strict=True):
        assert type(value) is KINDS.get(kind, int), field
        assert getattr(made, field) == value
    assert isinstance(made, tuple)
    assert not hasattr(made, "_fields")
    assert not hasattr(made, "_replace")


def test_before_initialize_every_call_says_that_there_is_no_connection(mt5: ModuleType) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "login": (1,),
        "symbol_select": ("EURUSD",),
        "copy_ticks_from": ("EURUSD", 1, 1, -1),
        "copy_ticks_range": ("EURUSD", 1, 2, -1),
        "copy_rates_from": ("EURUSD", 1, 1, 1),
        "copy_rates_from_pos": ("EURUSD", 1, 0, 1),
        "copy_rates_range": ("EURUSD", 1, 1, 2),
        "order_calc_margin": (0, "EURUSD", 1.0, 1.1),
        "order_calc_profit": (0, "EURUSD", 1.0, 1.1, 1.2),
        "order_check": ({},),
        "order_send": ({},),
        "history_orders_total": (1, 2),
        "history_deals_total": (1, 2),
    } | dict.fromkeys(
        ("symbol_info", "symbol_info_tick", "market_book_add", "market_book_get", "market_book_release"), ("EURUSD",)
    )
    for name in set(FUNCTIONS) - {"initialize", "shutdown", "last_error"}:
        assert not getattr(mt5, name)(*arguments.get(name, ())), name
        assert mt5.last_error() == (-10004, "No IPC connection"), name


def test_calls_by_position_take_no_keywords_and_exactly_four(mt5: ModuleType) -> None:
    assert mt5.initialize()
    for name, keywords in (
        ("copy_ticks_from", {"flags": -1}),
        ("copy_ticks_range", {"flags": -1}),
        ("copy_rates_from", {"count": 1}),
        ("copy_rates_from_pos", {"count": 1}),
        ("copy_rates_range", {"date_to": 1}),
    ):
        with pytest.raises(TypeError):
            getattr(mt5, name)("EURUSD", 1, 1, **keywords)
        with pytest.raises(TypeError):
            getattr(mt5, name)("EURUSD", 1, 1)


def test_more_bars_than_the_terminal_keeps_are_refused(mt5: ModuleType) -> None:
    mt5.initialize()
    mt5.symbol_select("EURUSD", True)
    assert mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_M1, 0, mt5.terminal_info().maxbars + 1) is None
    assert mt5.last_error() == (-2, "Invalid arguments")


def test_bars_are_the_ticks_bars(mt5: ModuleType) -> None:
    mt5.initialize()
    mt5.symbol_select("EURUSD", True)
    at = NOW // 1_000 + 7_200 - 3_600
    bars = mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_M15, at, at + 1_800)
    assert bars["time"].tolist() == [at, at + 900, at + 1_800]
    assert not bars.flags.writeable
    for bar in bars[:2]:
        ticks = mt5.copy_ticks_range("EURUSD", int(bar["time"]), int(bar["time"]) + 900, mt5.COPY_TICKS_ALL)
        ticks = ticks[ticks["time"] < bar["time"] + 900]
        bids = ticks["bid"]
        assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (bids[0], bids.max(), bids.min(), bids[-1])
        assert bar["tick_volume"] == ((ticks["flags"] & mt5.TICK_FLAG_BID) != 0).sum()
        assert bar["spread"] == round((ticks["ask"] - bids).min() * 1e5)
    again = mt5.copy_rates_from("EURUSD", mt5.TIMEFRAME_M15, at + 1_800, 3)
    assert again.tobytes() == bars.tobytes()


def test_a_range_of_ticks_ends_with_its_last_full_second(mt5: ModuleType) -> None:
    mt5.initialize()
    mt5.symbol_select("BTCUSD", True)
    second = NOW // 1_000 + 7_200 - 600
    ticks = mt5.copy_ticks_range("BTCUSD", second, second + 60, mt5.COPY_TICKS_ALL)
    assert len(ticks) > 30
    assert second * 1_000 <= ticks["time_msc"][0]
    assert ticks["time_msc"][-1] <= (second + 60) * 1_000


@pytest.mark.parametrize("name", sorted(SAYS))
def test_a_program_written_for_the_package_runs_unchanged(
    name: str, mt5: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "MetaTrader5", mt5)
    runpy.run_path(str(HERE / "scripts" / f"{name}.py"), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out
