"""Every mistake in a setting stops the start with a line that names it, its value and the remedy."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from infra.settings import Settings, load
from infra.settings_check import known_names
from schemas.errors import SettingsError

ROOT = Path(__file__).parents[2]

MISTAKES = [
    ("ARBITREX_WORLD", '"main"', 'ARBITREX_WORLD="main": has quotes around its value; write ARBITREX_WORLD=main'),
    ("ARBITREX_WORLD", "'main'", "write ARBITREX_WORLD=main"),
    ("ARBITREX_WORLD", " main ", "ARBITREX_WORLD= main : has spaces around its value; write ARBITREX_WORLD=main"),
    ("ARBITREX_WORLD", "Main World", "ARBITREX_WORLD=Main World: use lower-case letters"),
    ("ARBITREX_KAFKA__BOOTSTRAP_SERVER", "a:1", "no such setting; did you mean ARBITREX_KAFKA__BOOTSTRAP_SERVERS?"),
    ("ARBITREX_COLOUR", "red", "ARBITREX_COLOUR: there is no such setting; remove it"),
    ("ARBITREX_GATEWAY__PORT", "99999", "ARBITREX_GATEWAY__PORT=99999: must be at most 65535"),
    ("ARBITREX_GATEWAY__PORT", "http", "ARBITREX_GATEWAY__PORT=http: is no whole number"),
    ("ARBITREX_GATEWAY__PORT", "-1", "ARBITREX_GATEWAY__PORT=-1: must be at least 0"),
    ("ARBITREX_SIMULATOR__SPEED", "0", "ARBITREX_SIMULATOR__SPEED=0: must be more than 0"),
    ("ARBITREX_SIMULATOR__SPEED", "fast", "ARBITREX_SIMULATOR__SPEED=fast: is no number"),
    ("ARBITREX_SIMULATOR__START", "yesterday", "ARBITREX_SIMULATOR__START=yesterday: is no ISO 8601 time"),
    ("ARBITREX_SIMULATOR__ZONE", "Nowhere", "ARBITREX_SIMULATOR__ZONE=Nowhere: "),
    ("ARBITREX_SYMBOLS_FILE", "/no/file.yaml", "ARBITREX_SYMBOLS_FILE=/no/file.yaml: cannot be read"),
    ("ARBITREX_PRODUCER__CROSSED", "drop", "ARBITREX_PRODUCER__CROSSED=drop: choose one of reject, keep"),
    ("ARBITREX_KAFKA__EMBEDDED", "perhaps", "ARBITREX_KAFKA__EMBEDDED=perhaps: is neither true nor false"),
    ("ARBITREX_LOG__LEVEL", "inf", "choose one of debug, info, warning, error; did you mean info?"),
    ("ARBITREX_BARS__TIMEFRAMES", "M1,M7", "ARBITREX_BARS__TIMEFRAMES=M1,M7: M7 is no timeframe; choose from M1 M2"),
    (
        "ARBITREX_BARS__TIMEFRAMES",
        "M1,T:0",
        "ARBITREX_BARS__TIMEFRAMES=M1,T:0: T:0: a bar of nothing; its size must be",
    ),
    (
        "ARBITREX_BARS__TIMEFRAMES",
        "V:x",
        "ARBITREX_BARS__TIMEFRAMES=V:x: V:x is no tick, volume or value bar: write T:",
    ),
    ("ARBITREX_KAFKA__BOOTSTRAP_SERVERS", "broker", "ARBITREX_KAFKA__BOOTSTRAP_SERVERS=broker: 'broker' is no address"),
    ("ARBITREX_REGISTRY__URL", "registry:8081", "ARBITREX_REGISTRY__URL=registry:8081: is no address; write http://"),
    ("ARBITREX_REGISTRY__URL", "ftp://me:pw@r:1", "ARBITREX_REGISTRY__URL=********: is no address; write http://"),
    ("ARBITREX_KAFKA__SECURITY__CA_FILE", "/no/ca", "ARBITREX_KAFKA__SECURITY__CA_FILE=/no/ca: there is no such file"),
    ("ARBITREX_LAKE__STORAGE_OPTIONS", "region", "ARBITREX_LAKE__STORAGE_OPTIONS=********: is no JSON object"),
    ("ARBITREX_REGISTRY__PASSWORD", '"secret"', "ARBITREX_REGISTRY__PASSWORD=********: has quotes"),
]


@pytest.mark.parametrize(("name", "value", "expected"), MISTAKES)
def test_a_mistake_is_one_line(name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(expected)) as caught:
        load()
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value)


def test_all_mistakes_are_listed_one_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("ARBITREX_GATEWAY__PORT=x\nARBITREX_GATEWY__HOST=h\n", "utf-8")
    monkeypatch.setitem(Settings.model_config, "env_file", str(env_file))
    monkeypatch.setenv("ARBITREX_PRODUCER__POLL_MS", "0")
    with pytest.raises(SettingsError) as caught:
        load()
    assert sorted(str(caught.value).splitlines()) == [
        f"ARBITREX_GATEWAY__PORT=x (in {env_file}): is no whole number",
        f"ARBITREX_GATEWY__HOST (in {env_file}): there is no such setting; did you mean ARBITREX_GATEWAY__HOST?",
        "ARBITREX_PRODUCER__POLL_MS=0: must be at least 1",
    ]


def test_a_file_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"ARBITREX_WORLD=\xff\xfe")
    monkeypatch.setitem(Settings.model_config, "env_file", str(env_file))
    with pytest.raises(SettingsError, match=re.escape(f"{env_file}: cannot be read as UTF-8")):
        load()


def test_a_home_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("ARBITREX_HOME", str(blocked / "home"))
    with pytest.raises(SettingsError, match=re.escape(f"ARBITREX_HOME={blocked / 'home'}: cannot be written")):
        load()


def test_a_home_is_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path / "a" / "b"))
    assert load().home.is_dir()


def test_an_option_of_the_command_line_is_named_as_one() -> None:
    with pytest.raises(SettingsError, match="--world=A B: use lower-case"):
        load(world="A B")


def test_what_is_right_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ARBITREX_MANAGED": "1",
        "ARBITREX_WORLD": "desk-2",
        "arbitrex_gateway__port" if os.name != "nt" else "ARBITREX_GATEWAY__PORT": "0",
        "ARBITREX_BARS__TIMEFRAMES": "M1 H1",
        "ARBITREX_PRODUCER__SYMBOLS": "",
        "ARBITREX_LAKE__STORAGE_OPTIONS": '{"AWS_REGION": "eu-west-1"}',
        "ARBITREX_KAFKA__SECURITY__PASSWORD": 'in"side',
    }.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.world, settings.gateway.port, settings.bars.timeframes) == ("desk-2", 0, ("M1", "H1"))
    assert settings.lake.storage_options["AWS_REGION"].get_secret_value() == "eu-west-1"
    assert settings.kafka.security.password is not None
    assert settings.kafka.security.password.get_secret_value() == 'in"side'


def test_the_example_names_only_what_there_is() -> None:
    named = set(re.findall(r"^#?(ARBITREX_\w+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert named
    assert named <= set(known_names(Settings))
