"""What any Confluent-compatible registry does, checked against a real one and against ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.codec import Codec
from schemas.definitions import NAMES, definition, parse, parsed
from schemas.errors import IncompatibleSchemaError, RegistryAwayError, RegistryError, UnknownSchemaError
from schemas.registry import Registry
from tests.registry.cases import CASES, ID, Case, field, record
from tests.registry.conftest import Http


def avro(schema: object) -> Schema:
    return Schema(json.dumps(schema), "AVRO")


V1 = record(ID)
V2 = record(ID, field("n", "int", default=0))
BAD = record(ID, field("n", "int"))


def test_register_look_up_and_list(client: SchemaRegistryClient, subject: str) -> None:
    number = client.register_schema(subject, avro(V1))
    assert client.register_schema(subject, avro(V1)) == number
    second = client.register_schema(subject, avro(V2))
    assert second != number
    assert client.get_versions(subject) == [1, 2]
    assert subject in client.get_subjects()
    latest = client.get_latest_version(subject)
    assert (latest.version, latest.schema_id, latest.subject) == (2, second, subject)
    assert json.loads(latest.schema.schema_str or "") == V2
    assert client.get_version(subject, 1).schema_id == number
    found = client.lookup_schema(subject, avro(V1))
    assert (found.version, found.schema_id) == (1, number)
    assert json.loads(client.get_schema(number).schema_str or "") == V1


def test_the_same_schema_has_the_same_id_everywhere(http: Http, subject: str) -> None:
    first = http.register(subject, V1).body["id"]
    assert http.register(f"{subject}/ü b", V1).body["id"] == first
    used = http("GET", f"/schemas/ids/{first}/versions").body
    assert {"subject": subject, "version": 1} in used
    assert {"subject": f"{subject}/ü b", "version": 1} in used


def test_unknown_things_have_their_codes(http: Http, subject: str) -> None:
    assert http("GET", f"/subjects/{subject}/versions").code == 40401
    assert http("GET", f"/subjects/{subject}/versions/latest").code == 40401
    assert http("GET", "/schemas/ids/123456").code == 40403
    assert http("POST", f"/subjects/{subject}", {"schema": json.dumps(V1)}).code == 40401
    http.register(subject, V1)
    assert http("GET", f"/subjects/{subject}/versions/7").code == 40402
    assert http("POST", f"/subjects/{subject}", {"schema": json.dumps(V2)}).code == 40403
    assert http("GET", f"/subjects/{subject}/versions/none").code in {42202, 40402}
    assert http("PUT", f"/config/{subject}", {"compatibility": "SOMEWHAT"}).code == 42203
    assert http("POST", f"/subjects/{subject}/versions", {"schema": '{"type": "nonsense"}'}).code == 42201


def test_a_schema_alone(http: Http, subject: str) -> None:
    number = http.register(subject, V1).body["id"]
    assert http("GET", f"/subjects/{subject}/versions/1/schema").body == V1
    assert json.loads(http("GET", f"/schemas/ids/{number}").body["schema"]) == V1
    assert "AVRO" in http("GET", "/schemas/types").body


def test_levels(client: SchemaRegistryClient, subject: str) -> None:
    client.register_schema(subject, avro(V1))
    client.set_compatibility(subject, "FULL_TRANSITIVE")
    assert client.get_compatibility(subject) == "FULL_TRANSITIVE"
    with pytest.raises(SchemaRegistryError) as error:
        client.register_schema(subject, avro(BAD))
    assert error.value.http_status_code == 409
    assert not client.test_compatibility(subject, avro(BAD))
    assert client.test_compatibility(subject, avro(V2))
    client.set_compatibility(subject, "NONE")
    client.register_schema(subject, avro(BAD))


def test_transitive_looks_at_every_version(http: Http, subject: str) -> None:
    """The third reads the second, but not the first."""
    first, second, third = record(ID), record(ID, field("n", "int", default=0)), record(ID, field("n", "int"))
    http.register(subject, first)
    http.register(subject, second)
    http("PUT", f"/config/{subject}", {"compatibility": "BACKWARD_TRANSITIVE"})
    assert http.register(subject, third).status == 409
    http("PUT", f"/config/{subject}", {"compatibility": "BACKWARD"})
    assert http.register(subject, third).status == 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "-"))
def test_compatibility_is_avros(http: Http, subject: str, case: Case) -> None:
    http("PUT", f"/config/{subject}", {"compatibility": "NONE"})
    http.register(subject, case.old)
    expected = {"BACKWARD": case.backward, "FORWARD": case.forward, "FULL": case.backward and case.forward}
    for level, allowed in expected.items():
        assert http("PUT", f"/config/{subject}", {"compatibility": level}).status == 200
        answer = http(
            "POST",
            f"/compatibility/subjects/{subject}/versions/latest?verbose=true",
            {"schema": json.dumps(case.new)},
        )
        assert answer.body["is_compatible"] is allowed, (level, answer.body)


def test_soft_and_permanent_deletion(client: SchemaRegistryClient, subject: str) -> None:
    client.register_schema(subject, avro(V1))
    client.register_schema(subject, avro(V2))
    assert client.delete_version(subject, 1) == 1
    assert client.get_versions(subject) == [2]
    assert 2 in client.delete_subject(subject)
    assert subject not in client.get_subjects()
    client.delete_subject(subject, permanent=True)
    with pytest.raises(SchemaRegistryError) as error:
        client.get_versions(subject)
    assert error.value.error_code == 40401


def test_content_type(http: Http, subject: str) -> None:
    assert http.register(subject, V1).content_type.startswith("application/")
    assert http("GET", "/subjects", Accept="application/vnd.schemaregistry.v1+json").content_type.endswith("json")


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with closing(Registry(url)) as found:
        yield found


def test_our_client(registry: Registry, http: Http, subject: str) -> None:
    registry.register_all()
    registry.register_all()
    codec = Codec(registry)
    for name in NAMES:
        number = registry.id_of(name)
        assert parse(registry.schema_of(number)) == parsed(name)
        assert codec.headers[name] == b"\x00" + number.to_bytes(4, "big")
        assert http("GET", f"/config/arbitrex.{name}").body["compatibilityLevel"] == "FULL_TRANSITIVE"
    assert registry.register_value(subject, "Bar") == registry.id_of("Bar")
    assert http("GET", f"/subjects/{subject}-value/versions").body == [1]
    with pytest.raises(UnknownSchemaError, match="987654"):
        registry.schema_of(987_654)
    with closing(Registry(registry.url)) as fresh:
        assert fresh.id_of("Tick") == registry.id_of("Tick")


def test_our_client_refuses_to_break_readers(registry: Registry, http: Http, subject: str) -> None:
    stranger = {**definition("Tick"), "fields": [{"name": "symbol", "type": "long", "default": 0}]}
    http.register(f"{subject}-value", stranger)
    http("PUT", f"/config/{subject}-value", {"compatibility": "FULL"})
    with pytest.raises(IncompatibleSchemaError, match=f"{subject}-value"):
        registry.register_value(subject, "Tick")
    assert http("GET", f"/config/{subject}-value").body["compatibilityLevel"] == "FULL"


def test_nobody_there() -> None:
    with closing(Registry("http://user:hunter2@127.0.0.1:1")) as registry:
        with pytest.raises(RegistryAwayError, match=r"127\.0\.0\.1:1") as error:
            registry.register_all()
        assert isinstance(error.value, RegistryError)
        assert "hunter2" not in str(error.value) + repr(registry)
