"""`arbitrex producer` with what people get wrong at first: one line each, which says what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import Settings
from producers.simulated.terminal import Installation
from tests.support import ROOT, environment

TERMINAL = "ARBITREX_PRODUCER__TERMINAL__"
KNOWN = Installation()
NO_ALGO_TRADING = """\
def initialize(*_path, **_options):
    return False

def last_error():
    return -8, "Terminal: AutoTrading disabled"

def shutdown():
    pass
"""


def said(settings: Settings, more: dict[str, str]) -> tuple[int, str]:
    """Exit code and the one line of a producer that cannot run."""
    ended = subprocess.run(
        [sys.executable, "-m", "infra.cli", "producer", "--shard", "a"],
        env=environment(settings) | {"ARBITREX_LOG__LEVEL": "error"} | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("arbitrex: ")
    return ended.returncode, line


@pytest.mark.kafka
@pytest.mark.one_broker
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {f"{TERMINAL}LOGIN": str(KNOWN.login), f"{TERMINAL}PASSWORD": "hunter2"},
            f"the broker refuses account {KNOWN.login} at its server: check {TERMINAL}LOGIN, {TERMINAL}PASSWORD",
        ),
        (
            {f"{TERMINAL}LOGIN": str(KNOWN.login), f"{TERMINAL}SERVER": "Broker-Lvie"},
            "at server Broker-Lvie: check .*SERVER .its name as the terminal's login window shows it",
        ),
        (
            {f"{TERMINAL}PATH": "D:\\MT5\\terminal64.exe"},
            rf"there is no MetaTrader 5 terminal at D:\\MT5\\terminal64.exe: install it, or set {TERMINAL}PATH",
        ),
        (
            {"ARBITREX_PRODUCER__SYMBOLS": "EURUSDD", f"{TERMINAL}PATH": f"{KNOWN.path}\\terminal64.exe"},
            "ARBITREX_PRODUCER__SYMBOLS: the broker of feed sim has no EURUSDD; near: EURUSD, ",
        ),
        pytest.param(
            {"ARBITREX_PRODUCER__SOURCE": "mt5"},
            "SOURCE=mt5 needs the MetaTrader5 package; it exists for Windows only: run the producer there, with "
            "ARBITREX_KAFKA__BOOTSTRAP_SERVERS set to these brokers, or use ARBITREX_PRODUCER__SOURCE=simulated",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="the package may be there"),
        ),
    ],
    ids=["password", "server", "terminal", "symbol, at a path with spaces", "package"],
)
def test_what_is_set_wrong_is_one_line(settings: Settings, more: dict[str, str], says: str) -> None:
    assert " " in KNOWN.path
    code, line = said(settings, more)
    assert code == 2, "it is not tried again"
    assert re.search(says, line)
    assert "hunter2" not in line


@pytest.mark.kafka
@pytest.mark.one_broker
def test_algo_trading_that_is_off_is_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "MetaTrader5.py").write_text(NO_ALGO_TRADING, "utf-8")
    code, line = said(settings, {"ARBITREX_PRODUCER__SOURCE": "mt5", "PYTHONPATH": str(tmp_path)})
    assert code == 1, "it is tried again, with pauses: somebody may press the button"
    assert "algo trading is switched off: press Algo Trading in the terminal's toolbar" in line
