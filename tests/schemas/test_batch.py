"""Batches decode like single messages, whatever is among them."""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import batch
from schemas.batch import SMALL, Decoded, decode_batch
from schemas.codec import HEADER, Codec
from schemas.definitions import NAMES, Schema, definition, parse
from schemas.errors import ArbitrexError, DecodeError, RegistryError, UnknownSchemaError
from schemas.records import Bar, BarStatus, Control, ControlKind, Tick
from tests.schemas.strategies import MemoryStore, any_record, record

CODEC = Codec(MemoryStore())
FLAT = ["Tick", "Bar", "SymbolSpec", "FeedEvent"]


def tick(number: int, **changes: Any) -> Tick:
    return dataclasses.replace(
        Tick(
            symbol="EURUSD",
            ts_event=1_700_000_000_000 + number,
            ordinal=0,
            bid=1.1,
            ask=1.2,
            flags=6,
            feed="sim",
            server_time=1_700_007_200_000 + number,
            ts_recv=1_700_000_000_000_000 + number,
        ),
        **changes,
    )


def one_by_one(values: list[bytes | None], columnar: str) -> tuple[dict[int, Any], dict[int, Any], set[int]]:
    """What `decode_batch` must say, by the codec of single records."""
    rows: dict[int, Any] = {}
    others: dict[int, Any] = {}
    bad: set[int] = set()
    for place, value in enumerate(values):
        try:
            found = CODEC.decode(value or b"")
        except ArbitrexError:
            bad.add(place)
            continue
        (rows if type(found).__name__ == columnar else others)[place] = found
    return rows, others, bad


def as_rows(decoded: Decoded) -> dict[int, dict[str, Any]]:
    return {row.pop("index"): row for row in decoded.frame.to_dicts()}


def plain(found: Any) -> dict[str, Any]:
    return {
        name.rstrip("_"): str(value) if isinstance(value, str) else value
        for name, value in dataclasses.asdict(found).items()
    }


def check(values: list[bytes | None], columnar: str, codec: Codec = CODEC) -> Decoded:
    decoded = decode_batch(values, codec, columnar)
    rows, others, bad = one_by_one(values, columnar)
    assert as_rows(decoded) == {place: plain(found) for place, found in rows.items()}
    assert dict(decoded.others) == others
    assert {place for place, _ in decoded.bad} == bad
    assert all(isinstance(error, DecodeError | UnknownSchemaError) for _, error in decoded.bad)
    places = [*decoded.frame["index"], *(p for p, _ in decoded.others), *(p for p, _ in decoded.bad)]
    assert sorted(places) == list(range(len(values)))
    assert decoded.frame["index"].is_sorted()
    assert decoded.others == sorted(decoded.others, key=lambda other: other[0])
    return decoded


@pytest.fixture(params=["native", "small"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(batch, "SMALL", 1 if request.param == "native" else 10_000)
    return str(request.param)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", FLAT)
def test_both_paths_give_what_was_encoded(name: str) -> None:
    @settings(max_examples=60)
    @given(st.lists(record(name), max_size=20))
    def every_list(found: list[Any]) -> None:
        decoded = check([CODEC.encode(one) for one in found], name)
        assert decoded.frame.height == len(found)

    every_list()


@pytest.mark.parametrize("name", NAMES)
def test_every_record_can_be_columns(name: str) -> None:
    @settings(max_examples=15)
    @given(st.lists(record(name), max_size=4))
    def every_list(found: list[Any]) -> None:
        decoded = decode_batch([CODEC.encode(one) for one in found], CODEC, name)
        assert decoded.frame.height == len(found)
        assert decoded.frame.columns == ["index", *(field["name"] for field in definition(name)["fields"])]

    every_list()


@st.composite
def damaged(draw: st.DrawFn) -> bytes | None:
    """A message that is bad, or looks it."""
    message = bytearray(CODEC.encode(draw(any_record())))
    how = draw(st.sampled_from(["cut", "byte", "longer", "twice", "id", "none", "random", "int"]))
    if how == "cut":
        return bytes(message[: draw(st.integers(0, len(message) - 1))])
    if how == "byte":
        message[draw(st.integers(0, len(message) - 1))] ^= draw(st.integers(1, 255))
        return bytes(message)
    if how == "id":
        return HEADER.pack(0, draw(st.integers(9, 99))) + bytes(message[5:])
    if how == "int":
        return with_wide_ordinal(draw(st.integers(2**31, 2**40)))
    return {
        "longer": bytes(message) + draw(st.binary(min_size=1, max_size=20)),
        "twice": bytes(message) + bytes(message[5:]),
        "none": None,
        "random": HEADER.pack(0, 1) + draw(st.binary(max_size=80)),
    }[how]


def with_wide_ordinal(ordinal: int) -> bytes:
    schema = definition("Tick")
    fields = [dict(field, type="long") if field["name"] == "ordinal" else field for field in schema["fields"]]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse({**schema, "fields": fields}), {"ordinal": ordinal})
    return HEADER.pack(0, 1) + out.getvalue()


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.builds(tick, st.integers(0, 10**6)).map(CODEC.encode), damaged()), max_size=40),
    st.sampled_from([1, 5]),
)
def test_any_mix_is_accounted_for(values: list[bytes | None], small: int) -> None:
    saved = batch.SMALL
    batch.SMALL = small  # type: ignore[misc]
    try:
        decoded = decode_batch(values, CODEC)
        wide = {p for p, error in decoded.bad if "is not an int" in str(error)}
        rows, others, bad = one_by_one(values, "Tick")
        assert as_rows(decoded) == {p: plain(found) for p, found in rows.items() if p not in wide}
        assert {p: repr(record) for p, record in decoded.others} == {p: repr(record) for p, record in others.items()}
        assert {p for p, _ in decoded.bad} == bad | wide
    finally:
        batch.SMALL = saved  # type: ignore[misc]


@pytest.mark.parametrize("length", range(HEADER.size))
def test_a_batch_that_begins_with_a_stump_loses_nothing_else(length: int) -> None:
    whole = CODEC.encode(tick(1))
    decoded = check([whole[:length], whole], "Tick")
    assert [place for place, _ in decoded.bad] == [0]
    assert decoded.frame["index"].to_list() == [1]


def test_a_datum_that_swallows_its_neighbour_shifts_nothing() -> None:
    """One message holds two datums and another is empty, so that the bytes of the whole batch still add up."""
    values: list[bytes | None] = [CODEC.encode(tick(number)) for number in range(3 * SMALL)]
    values[10] = (values[10] or b"") + (values[11] or b"")[5:]
    values[11] = HEADER.pack(0, 1)
    decoded = check(values, "Tick")
    assert [place for place, _ in decoded.bad] == [10, 11]


def test_a_boundary_that_moved_between_two_messages_is_seen() -> None:
    """Both messages together are two sound datums, but neither is one by itself."""
    values: list[bytes | None] = [CODEC.encode(tick(number)) for number in range(2 * SMALL)]
    first, second = values[50] or b"", values[51] or b""
    values[50], values[51] = first + second[5:8], second[:5] + second[8:]
    decoded = check(values, "Tick")
    assert {50, 51} >= {place for place, _ in decoded.bad} >= {50}


@pytest.mark.usefixtures("path")
def test_a_number_outside_int_is_bad_on_both_paths() -> None:
    values: list[bytes | None] = [CODEC.encode(tick(number)) for number in range(5)]
    values[2] = with_wide_ordinal(2**31)
    decoded = decode_batch(values, CODEC)
    assert [place for place, _ in decoded.bad] == [2]
    assert decoded.frame["index"].to_list() == [0, 1, 3, 4]


def test_a_panicking_reader_costs_only_the_culprit() -> None:
    values: list[bytes | None] = [CODEC.encode(tick(number)) for number in range(20 * SMALL)]
    values[777] = HEADER.pack(0, 1) + b"\xfe\xff\xff\x0f" + b"x" * 60  # a string of 16 million bytes
    decoded = check(values, "Tick")
    assert [place for place, _ in decoded.bad] == [777]


def test_controls_come_beside_ticks_in_order() -> None:
    control = Control(kind=ControlKind.WATERMARK, feed="sim", shard="sim/a", time=5)
    values: list[bytes | None] = [CODEC.encode(tick(number) if number % 3 else control) for number in range(900)]
    decoded = check(values, "Tick")
    assert len(decoded.others) == 300
    assert not decoded.bad


def test_empty_batch() -> None:
    decoded = check([], "Tick")
    assert decoded.frame.schema["ts_event"] == pl.Int64
    assert decoded.frame.schema["ordinal"] == pl.Int32


def without(schema: Schema, *names: str) -> Schema:
    return {**schema, "fields": [field for field in schema["fields"] if field["name"] not in names]}


def encode_as(schema: Schema, schema_id: int, found: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse(schema), plain(found))
    return HEADER.pack(0, schema_id) + out.getvalue()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.usefixtures("path")
def test_an_older_writer_lacks_fields_and_a_newer_has_more(store: MemoryStore) -> None:
    store.schemas[20] = older = without(definition("Tick"), "correction", "volume", "feed")
    newer = {**definition("Tick")}
    newer["fields"] = [{"name": "venue", "type": ["null", "string"], "default": None}, *newer["fields"]]
    store.schemas[21] = newer
    values: list[bytes | None] = [
        encode_as(older, 20, tick(1, volume=5.0)),
        encode_as(newer, 21, tick(2, feed="x")),
        encode_as(older, 20, tick(3)),
    ]
    decoded = decode_batch(values, Codec(store))
    assert not decoded.bad
    rows = as_rows(decoded)
    assert rows[0] == plain(tick(1, feed=""))
    assert rows[1] == plain(tick(2, feed="x"))
    assert rows[2] == plain(tick(3, feed=""))


@pytest.mark.usefixtures("path")
def test_a_symbol_the_reader_does_not_know_is_its_default(store: MemoryStore) -> None:
    newer = definition("Bar")
    fields = [
        dict(field, type=dict(field["type"], symbols=["new", *field["type"]["symbols"]]))
        if field["name"] == "status"
        else field
        for field in newer["fields"]
    ]
    store.schemas[30] = newer = {**newer, "fields": fields}
    bar = Bar(**{field["name"]: field.get("default") for field in definition("Bar")["fields"]})
    known = dataclasses.replace(bar, status=BarStatus.REVISED)
    unknown = plain(bar) | {"status": "new"}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse(newer), unknown)
    values: list[bytes | None] = [encode_as(newer, 30, known), HEADER.pack(0, 30) + out.getvalue()]
    assert decode_batch(values, Codec(store), "Bar").frame["status"].to_list() == ["revised", "unknown"]


@pytest.mark.usefixtures("path")
def test_a_type_that_grew_is_resolved(store: MemoryStore) -> None:
    """An older schema whose ``ts_event`` was an int: Avro promotes it; only its own resolution knows that."""
    schema = definition("Tick")
    store.schemas[40] = older = {
        **schema,
        "fields": [dict(field, type="int") if field["name"] == "ts_event" else field for field in schema["fields"]],
    }
    decoded = decode_batch([encode_as(older, 40, tick(0, ts_event=7))], Codec(store))
    assert decoded.frame["ts_event"].to_list() == [7]
    assert decoded.frame.schema["ts_event"] == pl.Int64


def test_schemas_that_are_not_ours_are_bad_and_named(store: MemoryStore) -> None:
    store.schemas[50] = {"type": "record", "name": "Order", "namespace": "shop", "fields": []}
    store.schemas[51] = {"type": "record", "name": "Tick", "namespace": "arbitrex", "fields": [{"name": "x"}]}
    store.schemas[52] = {}
    values: list[bytes | None] = [HEADER.pack(0, number) + b"\x00" for number in (50, 51, 52)]
    bad = dict(decode_batch(values, Codec(store)).bad)
    assert "shop.Order" in str(bad[0])
    assert all(isinstance(error, DecodeError) for error in bad.values())
    assert set(bad) == {0, 1, 2}


def test_a_registry_that_is_away_is_not_bad_data() -> None:
    class Away(MemoryStore):
        def schema_of(self, schema_id: int) -> Schema:
            raise RegistryError(f"away, so no {schema_id}")

    with pytest.raises(RegistryError, match="away"):
        decode_batch([struct.pack(">bI", 0, 77) + b"x"], Codec(Away()))
