"""What we write ourselves is what fastavro writes."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given

from schemas.codec import Codec, to_avro
from schemas.definitions import parsed
from schemas.records import Progress
from tests.schemas.strategies import MemoryStore, any_record

CODEC = Codec(MemoryStore())


@given(any_record())
def test_it_is_fastavros(record: Any) -> None:
    name = type(record).__name__
    theirs = io.BytesIO()
    fastavro.schemaless_writer(theirs, parsed(name), to_avro(record))
    assert CODEC.encode(record) == CODEC.headers[name] + theirs.getvalue()
    assert CODEC.decode(CODEC.encode(record)) == record


@pytest.mark.parametrize("offset", [2**63, -(2**63) - 1])
def test_what_is_no_long_is_refused(offset: int) -> None:
    with pytest.raises(OverflowError):
        CODEC.encode(Progress(next_offset=offset))
