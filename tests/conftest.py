"""Brokers, worlds and registries for tests.

`pytest -k embedded` or `-k real` runs one kind of broker; ARBITREX_TEST_BROKERS=embedded,container,real chooses, too.
Containers are for machines where a Docker engine answers. What is
marked `one_broker` is about something else than Kafka, or takes minutes: it runs against the most real one at hand.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import hypothesis
import pytest

from infra import kafka as clients
from infra import ports, provision
from infra.brokers import jars
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.settings import (
    GatewaySettings,
    KafkaSettings,
    RegistrySettings,
    Settings,
    StatusSettings,
)
from infra.worlds import World
from schemas.codec import Codec
from schemas.errors import ComponentError
from schemas.registry import Registry
from tests.containers import KafkaContainer, engine_answers
from tests.forked import Forked
from tests.support import Child

hypothesis.settings.register_profile("arbitrex", deadline=None)  # how fast something is, benchmarks tell
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)  # says the same of the same code
hypothesis.settings.load_profile("arbitrex")

AT_HAND = "embedded,container,real" if engine_answers() else "embedded,real"
BROKERS = os.environ.get("ARBITREX_TEST_BROKERS", AT_HAND).split(",")
START: dict[str, Callable[[Path], EmbeddedBroker | KafkaContainer | KafkaCluster]] = {
    "embedded": EmbeddedBroker,
    "container": KafkaContainer,
    "real": KafkaCluster,
}
PARTITIONS = 4
JAVA = "-XX:TieredStopAtLevel=1"
"""Half the processor time of a Java that runs for minutes."""


def pytest_configure() -> None:
    """What every program that a test starts has, and how components are started."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling all anew is most of a component's start
    if "forkserver" in multiprocessing.get_all_start_methods():  # not on Windows
        Child.start = Forked
    os.environ["JDK_JAVA_OPTIONS"] = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} {JAVA}".strip()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the other brokers out for tests that are marked `one_broker`."""
    best = next((kind for kind in reversed(BROKERS) if kind != "real" or _has_real_kafka()), None)
    wanted: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        kind = item.callspec.params.get("kafka") if hasattr(item, "callspec") else None
        other = item.get_closest_marker("one_broker") is not None and kind is not None and kind != best
        (others if other else wanted).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = wanted


def _has_real_kafka() -> bool:
    try:
        jars.java(jars.KAFKA_JAVA)
        jars.kafka_classpath()
    except ComponentError:
        return False
    return True


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the caller's environment nor a .env file decides what is tested."""
    for name in os.environ:
        if name.startswith("ARBITREX_") and not name.startswith("ARBITREX_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(scope="session")
def start_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], KafkaSettings]]:
    """Starts each kind of broker once, when it is first asked for."""
    running: dict[str, KafkaSettings | ComponentError] = {}
    with ExitStack() as stack:

        def start(kind: str) -> KafkaSettings:
            if kind not in running:
                home = tmp_path_factory.mktemp(kind)
                try:
                    broker = START[kind](home)
                    stack.enter_context(broker)
                    running[kind] = KafkaSettings(
                        bootstrap_servers=broker.bootstrap_servers, embedded=kind == "embedded", partitions=PARTITIONS
                    )
                except ComponentError as error:
                    running[kind] = error
            found = running[kind]
            if isinstance(found, ComponentError):
                pytest.skip(str(found))
            return found

        yield start


@pytest.fixture(params=BROKERS, scope="session")
def kafka(request: pytest.FixtureRequest, start_broker: Callable[[str], KafkaSettings]) -> KafkaSettings:
    """How to reach a broker; the test runs once for each kind at hand."""
    return start_broker(request.param)


@pytest.fixture(scope="session")
def registry_url(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded registry on the broker of `kafka`."""
    settings = Settings(
        kafka=kafka,
        home=tmp_path_factory.mktemp("registry"),
        registry=RegistrySettings(port=0),
    )
    with Child(settings, "registry") as child:
        yield child.ready["url"]


@pytest.fixture
def settings(kafka: KafkaSettings, registry_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a fresh world whose topics are there."""
    settings = Settings(
        world=f"t-{uuid.uuid4().hex[:12]}",
        home=tmp_path / "home",
        kafka=kafka,
        registry=RegistrySettings(url=registry_url, port=0),
        status=StatusSettings(port=0),
        gateway=GatewaySettings(port=0),
    )
    settings.home.mkdir()
    provision.apply(settings)
    yield settings
    with suppress(Exception):  # the broker goes away with the session
        topics = provision.world_topics(settings)
        admin = clients.admin(settings.kafka)  # its futures end only while it lives
        for future in admin.delete_topics(topics).values():
            future.result(10)
    shutil.rmtree(settings.home, ignore_errors=True)


@pytest.fixture
def world(settings: Settings) -> World:
    return World(settings.world)


@pytest.fixture
def codec(settings: Settings) -> Iterator[Codec]:
    """A codec whose schemas are registered."""
    from infra.registry.client import connect

    codec = connect(settings)
    yield codec
    registry = codec._store
    assert isinstance(registry, Registry)
    registry.close()


@pytest.fixture
def free_port() -> int:
    return ports.free_port()
