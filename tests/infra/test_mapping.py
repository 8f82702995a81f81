from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping import NameMap, collisions, refuse_collisions
from infra.symbols import Symbols
from schemas.errors import SettingsError

NAMES = st.from_regex(r"[A-Za-z0-9.#_+-]{1,12}", fullmatch=True)


def test_the_first_rule_that_fits_decides_and_says_so() -> None:
    names = NameMap({"GOLD": "XAUUSD", "US*.cash": "*", "*.r": "*", "m*": "*.mini"})
    told = {
        name: (names.name(name).symbol, names.name(name).rule) for name in ("GOLD", "US500.cash", "EURUSD.r", "mDAX")
    }
    assert told == {
        "GOLD": ("XAUUSD", "GOLD: XAUUSD"),
        "US500.cash": ("500", "US*.cash: *"),
        "EURUSD.r": ("EURUSD", "*.r: *"),
        "mDAX": ("DAX.mini", "m*: *.mini"),
    }
    assert (names.name("EURUSD").symbol, names.name("EURUSD").rule) == ("EURUSD", None)
    assert names.name(".r").symbol == ".r", "a star stands for something"


@given(NAMES, NAMES)
def test_a_suffix_that_is_added_can_be_dropped(name: str, suffix: str) -> None:
    there = NameMap({"*": f"*.{suffix}"}).name(name).symbol
    assert NameMap({f"*.{suffix}": "*"}).name(there).symbol == name


@given(st.lists(NAMES, unique=True))
def test_without_rules_all_keep_their_names(names: list[str]) -> None:
    assert [NameMap({}).name(name).symbol for name in names] == names
    assert not collisions(map(NameMap({}).name, names))


def test_two_of_the_same_name_are_refused_with_both_named() -> None:
    named = [NameMap({"*.r": "*"}).name(name) for name in ("EURUSD", "EURUSD.r", "GBPUSD")]
    with pytest.raises(SettingsError, match=re.escape("EURUSD and EURUSD.r would all be called EURUSD")):
        refuse_collisions(named, "icm")


@pytest.mark.parametrize("rules", [{"*a*": "*"}, {"GOLD": "X*"}, {"": "X"}, {"*": "**"}])
def test_rules_that_cannot_be_meant(rules: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="write NAME: SYMBOL"):
        NameMap(rules)


@pytest.mark.parametrize("name", ["US 500", "A|B", "@x", "", "x" * 65])
def test_names_that_no_key_can_have(name: str) -> None:
    with pytest.raises(SettingsError, match="give it a name"):
        NameMap({"X": name}).name("X")


def test_the_symbols_file_holds_them_by_feed(tmp_path: Path) -> None:
    path = tmp_path / "symbols.yaml"
    path.write_text('feeds:\n  icm:\n    GOLD: XAUUSD\n    "*.r": "*"\nsymbols:\n  XAU*: {calendar: 24/7}\n')
    symbols = Symbols.read(path)
    assert symbols.names("icm").name("GOLD").symbol == "XAUUSD"
    assert symbols.names("other").name("GOLD").symbol == "GOLD"
    assert symbols.pattern("XAUUSD") == "XAU*"
    path.write_text('feeds: {icm: {"*x*": "*"}}\n')
    with pytest.raises(SettingsError, match=r"ARBITREX_SYMBOLS_FILE=.*feeds: "):
        Symbols.read(path)
