"""Schemas evolve FULL_TRANSITIVE: whatever was released reads what we write, and we read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import release
from schemas.compatibility import LEVELS, problems, unreadable
from schemas.definitions import NAMES, definition, text
from schemas.errors import DecodeError, UsageError
from tests.registry.cases import CASES, ID, Case, field, record

RELEASED = list(release.released())


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from nodes(item)


def test_every_record_was_released() -> None:
    assert {name for _, name, _ in RELEASED} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_current_schemas_are_fully_compatible_with_every_release(name: str) -> None:
    earlier = [schema for _, released, schema in RELEASED if released == name]
    assert not problems("FULL_TRANSITIVE", text(name), earlier)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_and_every_enum_has_a_default(name: str) -> None:
    for node in nodes(definition(name)):
        if node.get("type") == "enum":
            assert node["default"] in node["symbols"]
        if node.get("type") == "record":
            assert all("default" in entry for entry in node["fields"]), node["name"]


def test_a_snapshot_is_never_changed(tmp_path: Path) -> None:
    folder = release.take("1.2.3", tmp_path)
    assert release.take("1.2.3", tmp_path) == folder
    path = folder / "Tick.avsc"
    assert json.loads(path.read_text("utf-8")) == definition("Tick")
    path.write_text(path.read_text("utf-8").replace("bid", "bit"), "utf-8")
    with pytest.raises(UsageError, match=r"1\.2\.3"):
        release.take("1.2.3", tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "-"))
def test_reading(case: Case) -> None:
    old, new = json.dumps(case.old), json.dumps(case.new)
    assert (not unreadable(new, old)) is case.backward
    assert (not unreadable(old, new)) is case.forward


def test_levels() -> None:
    first, second = json.dumps(record(ID)), json.dumps(record(ID, field("n", "int", default=0)))
    third = json.dumps(record(ID, field("n", "int")))
    allowed = {level for level in LEVELS if not problems(level, third, [first, second])}
    assert allowed == {"NONE", "BACKWARD", "FORWARD", "FORWARD_TRANSITIVE", "FULL"}
    assert not problems("FULL_TRANSITIVE", first, [])


@pytest.mark.parametrize("rubbish", ["", "{", '"nothing"', "[]", '{"type": "record"}', "null"])
def test_what_is_no_schema(rubbish: str) -> None:
    if rubbish == "[]":
        assert not unreadable(rubbish, rubbish), "an empty union is one"
        return
    with pytest.raises(DecodeError, match="not an Avro schema"):
        unreadable(rubbish, rubbish)
