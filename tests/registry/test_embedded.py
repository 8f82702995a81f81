"""What our own registry answers beyond what every registry does: Confluent's finer points, and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from infra.settings import Settings
from tests.registry.cases import ID, field, record
from tests.registry.conftest import CONTENT_TYPE, Http
from tests.support import Child

V1 = record(ID)
V2 = record(ID, field("n", "int", default=0))


@pytest.fixture(scope="module")
def own(own_settings: Settings) -> Iterator[Http]:
    with Child(own_settings, "registry") as child:
        yield Http(child.ready["url"])


def test_deletion_by_confluents_rules(own: Http, subject: str) -> None:
    first = own.register(subject, V1).body["id"]
    own.register(subject, V2)
    assert own("DELETE", f"/subjects/{subject}/versions/1?permanent=true").code == 40407
    assert own("DELETE", f"/subjects/{subject}/versions/1").body == 1
    assert own("DELETE", f"/subjects/{subject}/versions/1").code == 40406
    assert own("GET", f"/subjects/{subject}/versions?deleted=true").body == [1, 2]
    assert own("GET", f"/schemas/ids/{first}").status == 200
    assert own("DELETE", f"/subjects/{subject}?permanent=true").code == 40405
    assert own("DELETE", f"/subjects/{subject}").body == [2]
    assert own("DELETE", f"/subjects/{subject}").code == 40404
    assert subject in own("GET", "/subjects?deleted=true").body
    assert own("GET", f"/subjects?deletedOnly=true&subjectPrefix={subject}").body == [subject]
    assert own.register(subject, V1).body["id"] == first, "registered again, the id comes back"
    assert own("GET", f"/subjects/{subject}/versions").body == [3]
    own("DELETE", f"/subjects/{subject}")
    assert own("DELETE", f"/subjects/{subject}?permanent=true").body == [1, 2, 3]
    assert own("GET", f"/subjects/{subject}/versions?deleted=true").code == 40401


def test_levels_and_modes(own: Http, subject: str) -> None:
    assert own("GET", "/config").body == {"compatibilityLevel": "BACKWARD"}
    assert own("GET", f"/config/{subject}").code == 40408
    assert own("GET", f"/config/{subject}?defaultToGlobal=true").body == {"compatibilityLevel": "BACKWARD"}
    assert own("PUT", f"/config/{subject}", {"compatibility": "full"}).body == {"compatibility": "FULL"}
    assert own("DELETE", f"/config/{subject}").body == {"compatibilityLevel": "FULL"}
    assert own("PUT", "/config", {"compatibility": "NONE"}).body == {"compatibility": "NONE"}
    assert own("DELETE", "/config").body == {"compatibilityLevel": "NONE"}
    assert own("GET", "/config").body == {"compatibilityLevel": "BACKWARD"}
    assert own("GET", "/mode").body == {"mode": "READWRITE"}
    assert own("GET", f"/mode/{subject}").code == 40409
    assert own("PUT", f"/mode/{subject}", {"mode": "READONLY"}).body == {"mode": "READONLY"}
    assert own.register(subject, V1).code == 42205
    assert own("PUT", f"/mode/{subject}", {"mode": "sideways"}).code == 42204
    assert own("DELETE", f"/mode/{subject}").body == {"mode": "READONLY"}
    assert own.register(subject, V1).status == 200


def test_compatibility_calls(own: Http, subject: str) -> None:
    schema = {"schema": json.dumps(record(ID, field("n", "int")))}
    path = f"/compatibility/subjects/{subject}/versions"
    assert own("POST", path, schema).body == {"is_compatible": True}
    assert own("POST", f"{path}/latest", schema).code == 40401
    own.register(subject, V1)
    answer = own("POST", f"{path}/1?verbose=true", schema).body
    assert answer["is_compatible"] is False
    assert "reader_field_missing_default_value" in answer["messages"][0]
    assert own("POST", path, schema).body == {"is_compatible": False}
    assert own("POST", f"{path}/2", schema).code == 40402


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"{}", 42201),
        ({"schema": "{"}, 42201),
        ({"schema": json.dumps(record(field("n", "int", default="x")))}, 42201),
        ({"schema": "{}", "schemaType": "PROTOBUF"}, 42201),
        ({"schema": json.dumps(V1), "references": [{"name": "x", "subject": "y", "version": 1}]}, 42201),
        ({"schema": "[" * 5_000}, 42201),
        (b"x" * (1 << 20) + b"x", 413),
    ],
)
def test_rubbish_gets_a_code(own: Http, subject: str, body: object, code: int) -> None:
    answer = own("POST", f"/subjects/{subject}/versions", body)
    assert answer.code == code
    assert answer.content_type == CONTENT_TYPE
    assert own("GET", "/subjects").status == 200


def test_unknown_calls_get_a_code(own: Http) -> None:
    assert own("GET", "/nothing/here").code == 404
    assert own("PATCH", "/subjects").code == 405
    assert own("GET", "/schemas/ids/x").code == 404
    assert own("GET", "/subjects/x/versions/0").code == 42202


def test_a_web_page_cannot_write(own: Http, subject: str) -> None:
    """A browser sends these types to a foreign origin without asking first."""
    body = json.dumps({"schema": json.dumps(V1)}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert own("POST", f"/subjects/{subject}/versions", body, kind).code == 415
    assert own("GET", f"/subjects/{subject}/versions").code == 40401


def test_blanks_and_order_make_no_new_schema(own: Http, subject: str) -> None:
    number = own.register(subject, V1).body["id"]
    turned = json.dumps(dict(reversed(V1.items())), indent=3)
    assert own("POST", f"/subjects/{subject}/versions", {"schema": turned}).body["id"] == number
    assert own("GET", f"/subjects/{subject}/versions").body == [1]
