"""A terminal behind an agent: the same answers, the same failures, nothing for those without the token."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from infra.settings import AgentSettings, ProducerSettings, RemoteSettings, Settings, SimulatorSettings
from producers import terminal as api
from producers.remote.client import RemoteTerminal
from producers.sources import simulated_clock, simulated_terminal
from producers.terminal import COPY_TICKS_ALL, Terminal
from schemas.errors import SettingsError
from tests.support import Child

SIMULATOR = SimulatorSettings(start="2026-03-03T14:00:00Z", speed=1)
SECOND = 1_772_546_400 + 7_200


def served(home: Path, agent: dict[str, Any] | None = None, **simulator: Any) -> Child:
    return Child(
        Settings(
            home=home,
            agent=AgentSettings(port=0, **agent or {}),
            simulator=SIMULATOR.model_copy(update=simulator),
            producer=ProducerSettings(call_seconds=2),
        ),
        "simulate",
    )


def remote(child: Child, **settings: Any) -> Terminal:
    return RemoteTerminal(RemoteSettings(address=child.ready["address"], **settings), 20).terminal


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with served(tmp_path_factory.mktemp("agent"), {"token": SecretStr("right")}) as child:
        yield child


def test_what_comes_is_what_the_terminal_itself_would_give(agent: Child) -> None:
    far, near = remote(agent, token=SecretStr("right")), simulated_terminal(SIMULATOR, simulated_clock(SIMULATOR))
    assert far.symbol_info_tick("EURUSD") is None
    assert far.last_error()[0] == api.NO_CONNECTION
    for terminal in (far, near):
        assert terminal.initialize()
        assert terminal.symbol_select("EURUSD", True)
    ticks, same = (t.copy_ticks_from("EURUSD", SECOND - 600, 500, COPY_TICKS_ALL) for t in (far, near))
    assert ticks is not None
    assert same is not None
    assert (ticks.dtype, ticks.tobytes(), ticks.flags.writeable) == (same.dtype, same.tobytes(), False)
    bars, again = (t.copy_rates_range("EURUSD", 1, SECOND - 3_600, SECOND - 1_800) for t in (far, near))
    assert bars is not None
    assert again is not None
    assert np.array_equal(bars, again)
    offered, info = far.symbols_get(), far.terminal_info()
    assert offered is not None
    assert info is not None
    assert [each.name for each in offered] == [each.name for each in near.symbols_get() or ()]
    assert info.connected
    assert far.symbol_info("nothing") is None
    assert far.last_error() == (api.NOT_FOUND, "Terminal: Not found")
    assert far.copy_ticks_from("EURUSD", "yesterday", 1, 1) is None  # type: ignore[arg-type]
    assert far.last_error()[0] == api.INVALID_PARAMS
    far.shutdown()
    assert far.symbol_info("EURUSD") is None


def test_without_the_token_there_is_nothing(agent: Child) -> None:
    with pytest.raises(SettingsError, match=r"refuses the token: set ARBITREX_PRODUCER__REMOTE__TOKEN"):
        remote(agent, token=SecretStr("wrong")).initialize()


def test_nothing_can_be_called_but_quotes_and_history(agent: Child) -> None:
    with pytest.raises(AttributeError):
        remote(agent, token=SecretStr("right")).order_send({})  # type: ignore[attr-defined]


def test_no_agent_is_a_terminal_that_may_come(free_port: int) -> None:
    far = RemoteTerminal(RemoteSettings(address=f"127.0.0.1:{free_port}"), 5).terminal
    assert far.initialize() is False
    code, text = far.last_error()
    assert code == api.IPC_INITIALIZE
    assert "no agent answers at 127.0.0.1" in text


def test_a_call_that_hangs_is_ended_by_the_agent_and_the_next_connection_works(tmp_path: Path) -> None:
    with served(tmp_path, faults=("hang@2026-03-03T14:00:01Z+4",)) as child:
        far = remote(child)
        assert far.initialize()
        assert far.symbol_select("EURUSD", True)
        while far.symbol_info_tick("EURUSD") is not None:
            pass
        assert far.last_error()[0] == api.IPC_RECEIVE
        assert far.symbol_info("EURUSD") is None
        assert far.last_error()[0] == api.NO_CONNECTION
        assert far.initialize()
        far.shutdown()


def test_others_are_served_encrypted_only(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    with served(tmp_path, {"token": SecretStr("t"), "cert_file": cert, "key_file": key}) as child:
        far = remote(child, token=SecretStr("t"), ca_file=cert)
        assert far.initialize()
        far.shutdown()
        with pytest.raises(SettingsError, match="not signed by"):
            remote(child, token=SecretStr("t"), ca_file=ssl.get_default_verify_paths().cafile).initialize()
        assert remote(child, token=SecretStr("t")).initialize() is False


@pytest.mark.parametrize(
    ("agent", "says"),
    [({"host": "0.0.0.0"}, "encrypted only: set ARBITREX_AGENT__CERT_FILE"), ({"cert_file": "c"}, "AGENT__TOKEN")],  # noqa: S104
)
def test_unsafe_settings_are_refused(agent: dict[str, Any], says: str) -> None:
    from producers.remote.agent import Agent

    with pytest.raises(SettingsError, match=says):
        Agent(AgentSettings(**agent), lambda: simulated_terminal(SIMULATOR, simulated_clock(SIMULATOR)), 1)
