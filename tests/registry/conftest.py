"""Registries at hand: our own on the embedded broker, and a real Apicurio where Java and Maven are."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from infra.brokers.apicurio import Apicurio
from infra.brokers.embedded import EmbeddedBroker
from infra.settings import KafkaSettings, RegistrySettings, Settings
from schemas.errors import ComponentError
from tests.support import Child

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Answer(NamedTuple):
    status: int
    body: Any
    content_type: str

    @property
    def code(self) -> int:
        return int(self.body["error_code"])


class Http:
    """Raw calls, as any client makes them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, method: str, path: str, body: Any = None, content_type: str = CONTENT_TYPE, **headers: str
    ) -> Answer:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.url + path, data, {"Content-Type": content_type, **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return Answer(response.status, json.loads(response.read()), response.headers.get_content_type())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()), error.headers.get_content_type())

    def register(self, subject: str, schema: Any) -> Answer:
        return self("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": json.dumps(schema)})


@pytest.fixture(scope="session")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker for these tests alone: a registry started here would end the session's, as there is one writer."""
    home = tmp_path_factory.mktemp("own-registry")
    with EmbeddedBroker(home) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, embedded=True)
        yield Settings(kafka=kafka, home=home, registry=RegistrySettings(port=0))


@pytest.fixture(scope="module", params=["embedded", "apicurio"])
def url(
    request: pytest.FixtureRequest, own_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "embedded":
        with Child(own_settings, "registry") as child:
            yield child.ready["url"]
        return
    apicurio = Apicurio(tmp_path_factory.mktemp("apicurio"))
    try:
        apicurio.start()
    except ComponentError as error:
        pytest.skip(str(error))
    try:
        yield apicurio.url
    finally:
        apicurio.stop()


@pytest.fixture
def http(url: str) -> Http:
    return Http(url)


@pytest.fixture
def client(url: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": url}) as found:
        yield found


@pytest.fixture
def subject() -> str:
    return f"test-{uuid.uuid4().hex[:10]}"
