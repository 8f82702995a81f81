"""The life of our own registry: killed, doubled, late, guarded."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from infra.registry.catalog import Catalog
from infra.registry.client import connect
from infra.settings import RegistrySettings, Settings
from schemas.errors import RegistryAwayError, RegistryError
from tests.registry.cases import ID, field, record
from tests.registry.conftest import Http
from tests.support import ROOT, Child, environment

V1 = record(ID)


def test_killed_at_any_moment_nothing_is_lost(own_settings: Settings, subject: str) -> None:
    schemas = [record(ID, *(field(f"f{n}", "int", default=0) for n in range(count))) for count in range(4)]
    ids = []
    for schema in schemas:
        with Child(own_settings, "registry") as child:
            http = Http(child.ready["url"])
            ids.append(http.register(subject, schema).body["id"])
            http("PUT", f"/config/{subject}", {"compatibility": "FULL"})
            child.kill()
    with Child(own_settings, "registry") as child:
        http = Http(child.ready["url"])
        assert http("GET", f"/subjects/{subject}/versions").body == [1, 2, 3, 4]
        assert [json.loads(http("GET", f"/schemas/ids/{number}").body["schema"]) for number in ids] == schemas
        assert http("GET", f"/config/{subject}").body["compatibilityLevel"] == "FULL"
        assert len(set(ids)) == 4


def test_a_second_registry_takes_over_and_the_first_says_so(own_settings: Settings, subject: str) -> None:
    with Child(own_settings, "registry") as first:
        with Child(own_settings, "registry") as second:
            answer = Http(first.ready["url"]).register(subject, V1)
            assert (answer.status, answer.code) == (500, 50001)
            assert "another registry" in answer.body["message"]
            assert "ARBITREX_REGISTRY__URL" in answer.body["message"], "what to do"
            assert Http(second.ready["url"]).register(subject, V1).status == 200
        assert first.process.wait(20) == 1


def test_an_id_is_never_given_twice(own_settings: Settings, subject: str) -> None:
    """Messages may still carry the id of a schema that was deleted for good."""
    with Child(own_settings, "registry") as child:
        http = Http(child.ready["url"])
        gone = http.register(subject, record(ID, field(f"x{subject[-6:]}", "int"))).body["id"]
        http("DELETE", f"/subjects/{subject}")
        http("DELETE", f"/subjects/{subject}?permanent=true")
        assert http("GET", f"/schemas/ids/{gone}").code == 40403
        child.kill()
    with Child(own_settings, "registry") as child:
        http = Http(child.ready["url"])
        assert http.register(subject, record(ID, field(f"y{subject[-6:]}", "int"))).body["id"] > gone


def test_credentials_where_they_are_set(own_settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    guarded = RegistrySettings(port=0, username="desk", password=SecretStr("hunter2"))
    with Child(own_settings.model_copy(update={"registry": guarded}), "registry") as child:
        http = Http(child.ready["url"])
        assert http("GET", "/subjects").code == 401
        wrong = "Basic " + base64.b64encode(b"desk:hunter3").decode()
        assert http("GET", "/subjects", Authorization=wrong).code == 401
        right = guarded.model_copy(update={"url": child.ready["url"]})
        codec = connect(own_settings.model_copy(update={"registry": right}))
        assert codec.headers["Tick"]
        refused = right.model_copy(update={"password": SecretStr("hunter3")})
        with pytest.raises(RegistryError, match="401") as error:
            connect(own_settings.model_copy(update={"registry": refused}))
        assert "hunter" not in str(error.value)
    assert "hunter" not in capfd.readouterr().err


def test_connect_waits_for_a_registry_that_is_late(own_settings: Settings, free_port: int) -> None:
    late = RegistrySettings(url=f"http://127.0.0.1:{free_port}", port=free_port)
    settings = own_settings.model_copy(update={"registry": late})
    with pytest.raises(RegistryAwayError, match=str(free_port)):
        connect(settings, wait_seconds=0.5)
    with Child(settings, "registry"):
        assert connect(settings).headers["Tick"]


def test_a_taken_port_is_one_line(own_settings: Settings) -> None:
    with Child(own_settings, "registry") as child:
        port = int(child.ready["url"].rpartition(":")[2])
        taken = own_settings.model_copy(update={"registry": RegistrySettings(port=port)})
        found = subprocess.run(
            [sys.executable, "-m", "infra.cli", "registry"],
            env=environment(taken),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert found.returncode == 2
    assert f"ARBITREX_REGISTRY__PORT={port}" in found.stderr


def test_a_topic_of_another_registry_is_left_alone() -> None:
    with pytest.raises(RegistryError, match="another kind of registry"):
        Catalog().apply({"keytype": "NOOP", "magic": 0}, None)
