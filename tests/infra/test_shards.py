"""Shards of a file: what each has, and that no two have the same symbol."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.patterns import common
from infra.settings import ProducerSettings, Settings
from infra.shards import shards
from schemas.errors import SettingsError

patterns = st.lists(st.sampled_from(["A", "B", "*", "?", "[AB]", "[!A]"]), max_size=5).map("".join)
names = st.text("ABC", max_size=6)


@given(patterns, patterns, names)
def test_names_in_common_are_found_and_no_others(first: str, second: str, name: str) -> None:
    found = common(first, second)
    if fnmatchcase(name, first) and fnmatchcase(name, second):
        assert found is not None
    if found is not None:
        assert fnmatchcase(found, first)
        assert fnmatchcase(found, second)


def of_file(path: Path, text: str) -> dict[str, Settings]:
    path.write_text(text, "utf-8")
    return shards(Settings(producer=ProducerSettings(shards_file=path)))


@pytest.mark.parametrize(
    ("first", "second", "example"),
    [
        ("[EURUSD]", "[EURUSD]", "EURUSD"),
        ("['EUR*', GBPUSD]", "['*USD']", "EURUSD"),
        ("['*']", "[XAUUSD]", "XAUUSD"),
        ("[]", "['*.r']", r"\.r"),
        ("['???JPY']", "['[EU]*']", r"E\w\wJPY"),
    ],
)
def test_two_shards_of_a_feed_that_would_have_one_symbol_are_refused(
    first: str, second: str, example: str, tmp_path: Path
) -> None:
    text = f"london: {{symbols: {first}}}\ntokyo: {{symbols: {second}}}\n"
    with pytest.raises(SettingsError, match=rf"london and tokyo would both have {example} .*feed sim") as told:
        of_file(tmp_path / "shards.yaml", text)
    assert "\n" not in str(told.value)


def test_shards_that_have_nothing_in_common_start(tmp_path: Path) -> None:
    text = "a: {symbols: ['EUR*', 'GBP*']}\nb: {symbols: ['USD*', XAUUSD]}\nc: {symbols: ['*'], feed: second}\n"
    assert list(of_file(tmp_path / "shards.yaml", text)) == ["a", "b", "c"]
