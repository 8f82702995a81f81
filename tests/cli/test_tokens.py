"""`arbitrex token`: what it prints, keeps and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.access import EVERYTHING, Access
from gateway.protocol import Stream
from gateway.tokens import TokenFile
from infra.cli.main import app
from infra.cli.times import ahead
from schemas.errors import SettingsError, UsageError

NOW = 1_763_888_400_000
DAY = 86_400_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARBITREX_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", *arguments])


def test_a_token_is_shown_once_and_only_its_hash_is_kept(home: Path) -> None:
    made = run("create", "bot", "--symbol", "EUR*", "--channel", "ticks", "--rate", "20", "--expires", "30d")
    shown = made.stdout.strip()
    assert shown.startswith("arbitrex_")
    kept = home / "tokens.json"
    assert shown.split("_")[2] not in kept.read_text("utf-8")
    if sys.platform != "win32":
        assert kept.stat().st_mode & 0o077 == 0
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["name"], listed["symbols"], listed["channels"], listed["rate"]) == ("bot", ["EUR*"], ["ticks"], 20)
    assert "hash" not in listed
    assert run("revoke", "bot").exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "bot", "--channel", "trades"), "--channel trades: there is ticks, bars, bars.live, events"),
        (("create", "bot", "--symbol", "*U*R*"), "at most 2 *"),
        (("create", "bot", "--expires", "2020-01-01"), "has passed"),
        (("revoke", "nobody"), "there is no token nobody"),
    ],
)
def test_what_is_wrong_is_said(home: Path, arguments: tuple[str, ...], text: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, UsageError)
    assert text in str(error)
    assert not (home / "tokens.json").exists()


def test_names_of_two_are_no_name(home: Path) -> None:
    for _ in range(2):
        run("create", "bot")
    assert "2 tokens are named bot" in str(run("revoke", "bot").exception)
    assert len(json.loads((home / "tokens.json").read_text("utf-8"))) == 2


def test_what_a_token_allows_and_until_when(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    now = [NOW]
    access = Access(file, public=False, may_be_open=False, now=lambda: now[0])
    assert access.grant(None) is EVERYTHING
    shown, token = file.create("bot", symbols=["EUR*"], channels=["ticks"], rate=None, expires=NOW + DAY, now=NOW)
    assert not access.holds(EVERYTHING)
    assert access.grant(None) is None
    assert access.grant(f"{shown}x") is None
    grant = access.grant(shown)
    assert grant is not None
    allowed = [grant.allows(Stream(*each)) for each in (("ticks", "EURUSD"), ("ticks", "EUR*"), ("ticks", "EUR*X"))]
    refused = [grant.allows(Stream(*each)) for each in (("ticks", "*"), ("ticks", "E*"), ("bars", "EURUSD", "M1"))]
    assert (allowed, refused) == ([True] * 3, [False] * 3)
    now[0] += DAY
    assert not access.holds(grant)
    assert access.grant(shown) is None
    now[0] = NOW
    file.revoke(token.id)
    assert not access.holds(grant)


def test_a_gateway_that_others_can_reach_is_never_open_by_itself(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    assert Access(file, public=True, may_be_open=False, now=lambda: 0).grant(None) is None
    assert Access(file, public=True, may_be_open=True, now=lambda: 0).grant(None) is EVERYTHING


def test_a_damaged_file_is_no_open_door(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('[{"id": 1}]')
    with pytest.raises(SettingsError, match=r"tokens\.json: is no file of tokens"):
        Access(TokenFile(tmp_path / "tokens.json"), public=False, may_be_open=False, now=lambda: 0).grant(None)


def test_moments_to_come() -> None:
    assert ahead("30d", NOW) == NOW + 30 * DAY
    assert ahead("2027-01-01T00:00Z", NOW) == 1_798_761_600_000
    with pytest.raises(UsageError):
        ahead("now", NOW)
