"""What is wrong with a terminal, an account or a symbol is one line that says what to do."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import SecretStr

from infra.market.zones import ServerZone
from infra.settings import ProducerSettings, Settings, TerminalSettings
from producers import sources
from producers import terminal as api
from producers.failures import TerminalAwayError, TooMuchError, TryAgainError, failure, unknown_symbol
from producers.opening import open_terminal
from producers.simulated.faults import Faults
from producers.simulated.market import Market
from producers.simulated.terminal import Installation, SimulatedTerminal
from schemas.errors import SettingsError, SourceError

NOW = 1_772_546_400_000


class Clock:
    def now_us(self) -> int:
        return NOW * 1_000

    def now_ms(self) -> int:
        return NOW


def opened(*faults: str, **wanted: Any) -> Any:
    terminal = SimulatedTerminal(Market(7), ServerZone.parse("UTC"), Clock(), Faults.parse(faults))
    return open_terminal(terminal, TerminalSettings(**wanted))


@pytest.mark.parametrize(
    ("wanted", "faults", "says"),
    [
        ({"login": 1_000_001, "password": SecretStr("hunter2")}, [], "account 1000001 at its server: check .*PASSWORD"),
        ({"login": 1_000_001, "server": "Other-Live"}, [], "account 1000001 at server Other-Live: check .*SERVER"),
        ({"path": "C:\\No Such Place\\terminal64.exe"}, [], r"no MetaTrader 5 terminal at C:\\No Such Place.*PATH"),
        (
            {"login": 1_000_001},
            ["account=55"],
            "logged in to account 55 at .*, not to 1000001 at .*LOGIN",
        ),
        (
            {"server": "Other-Live"},
            [],
            "logged in to account 1000001 at .*, not .* Other-Live: .*SERVER",
        ),
    ],
    ids=["password", "server", "path", "account", "account's server"],
)
def test_one_line_says_what_to_do(wanted: dict[str, Any], faults: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        opened(*faults, **wanted)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_path_with_spaces_is_found() -> None:
    path = f"{Installation().path}\\terminal64.exe"
    assert " " in path
    assert opened(path=path, portable=True).path == Installation().path
    assert opened(path=Installation().path.replace("\\", "/").upper() + "/").connected


@pytest.mark.parametrize(
    ("fault", "says"), [("timeout", "one login through its own window"), ("offline", "no connection")]
)
def test_what_may_pass_is_tried_again(fault: str, says: str) -> None:
    with pytest.raises(TerminalAwayError, match=says):
        opened(fault)


def test_another_terminal_than_the_one_asked_for_is_refused() -> None:
    class Other(SimulatedTerminal):
        def initialize(self, *_path: str, **_options: Any) -> bool:
            return super().initialize()

    terminal = Other(Market(7), ServerZone.parse("UTC"), Clock())
    with pytest.raises(SettingsError, match=r"stands in .*Simulated Terminal, not at D:.*PORTABLE=true"):
        open_terminal(terminal, TerminalSettings(path="D:\\MT5\\terminal64.exe"))


@pytest.mark.skipif(sys.platform == "win32", reason="the package is there")
def test_the_package_is_for_windows() -> None:
    settings = Settings(producer=ProducerSettings(source="mt5"))
    with pytest.raises(SettingsError, match=r"exists for Windows only: run the producer there, .*SOURCE=simulated"):
        sources.open_source(settings, dict)


def test_a_misspelt_symbol_is_told_with_near_ones() -> None:
    error = unknown_symbol("eurusd", ["EURUSD.icm", "EURGBP.icm", "XAUUSD"], "icm")
    assert isinstance(error, SettingsError)
    assert "no eurusd; near: EURUSD.icm" in str(error)


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (api.FAIL, TryAgainError, "Call failed"),
        (api.NO_MEMORY, TooMuchError, "memory"),
        (api.IPC_SEND, TerminalAwayError, "send"),
        (api.NO_CONNECTION, TerminalAwayError, "connection"),
        (api.INVALID_VERSION, SourceError, "update it"),
        (api.AUTH_FAILED, SourceError, "log in once"),
        (api.TRADING_DISABLED, SourceError, "algo trading is switched off: press Algo Trading"),
    ],
)
def test_codes_are_what_the_table_says(code: int, kind: type[Exception], says: str) -> None:
    error = failure("copy_ticks_from(EURUSD)", (code, says))
    assert type(error) is kind
    assert says in str(error)
