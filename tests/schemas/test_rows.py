"""Batches encode like single records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.definitions import NAMES
from schemas.rows import FEW, encode_batch
from tests.schemas.strategies import MemoryStore, record

CODEC = Codec(MemoryStore())


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=30)
def test_as_one_by_one(name: str, data: Any) -> None:
    some = data.draw(st.lists(record(name), min_size=1, max_size=5))
    records = (some * (FEW + 1))[: data.draw(st.integers(FEW, FEW + 5))]
    assert encode_batch(records, CODEC) == [CODEC.encode(each) for each in records]


def test_none_is_none() -> None:
    assert encode_batch([], CODEC) == []
