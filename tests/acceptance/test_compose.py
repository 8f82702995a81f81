"""The compose file's components, run natively: their commands and their environment, against three real nodes."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.brokers.apicurio import Apicurio
from infra.brokers.kafka import KafkaCluster
from infra.process import MANAGED
from infra.settings import Settings
from schemas.errors import ComponentError
from tests.acceptance.stack import ARBITREX, environment
from tests.support import eventually

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.kafka.yml").read_text("utf-8"))
COMPONENTS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "arbitrex"}
REGISTRY = "http://registry:8080/apis/ccompat/v7"
NODES = "kafka-1:9092,kafka-2:9092,kafka-3:9092"


def test_every_component_has_its_service() -> None:
    commands = {" ".join(service["command"]) for service in COMPONENTS.values()}
    assert commands == {"topics apply", "producer --shard a", "processor", "sink lake", "sink csv", "gateway"}


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_environment_is_one_that_the_settings_know(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in COMPONENTS[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    settings = Settings(_env_file=None)
    assert settings.kafka.bootstrap_servers == NODES
    assert settings.registry.url == REGISTRY
    known = settings.model_dump()
    for variable in COMPONENTS[name]["environment"]:
        place: Any = known
        for part in variable.removeprefix("ARBITREX_").lower().split("__"):
            assert part in place, variable
            place = place[part]


def test_only_loopback_is_published_to_the_host() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.fixture
def registry(cluster: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apicurio]:
    for variable, value in COMPOSE["services"]["registry"]["environment"].items():
        monkeypatch.setenv(variable, cluster.bootstrap_servers if value == NODES else value)
    with ExitStack() as exits:
        try:
            running = exits.enter_context(Apicurio(tmp_path / "registry"))
        except ComponentError as error:
            pytest.skip(str(error))
        yield running


@pytest.mark.kafka
@pytest.mark.real_kafka
@pytest.mark.slow
def test_the_components_run_with_their_environment_on_three_nodes(
    cluster: KafkaCluster, registry: Apicurio, tmp_path: Path
) -> None:
    def natively(name: str) -> dict[str, str]:
        moved = {
            NODES: cluster.bootstrap_servers,
            REGISTRY: registry.url,
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - the container's, replaced
            "9100": "0",
            "8080": "0",
        }
        given = {key: str(value) for key, value in COMPONENTS[name]["environment"].items()}
        given = {key: moved.get(value, value).replace("/data", str(tmp_path)) for key, value in given.items()}
        return environment(tmp_path, "main", **given)

    applied = subprocess.run(
        [*ARBITREX, *COMPONENTS["topics"]["command"]],
        env=natively("topics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    with ExitStack() as exits:
        ready = {}
        for name in COMPONENTS.keys() - {"topics"}:
            process = subprocess.Popen(
                [*ARBITREX, *COMPONENTS[name]["command"]],
                env=natively(name) | {MANAGED: "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=exits.enter_context((tmp_path / f"{name}.log").open("wb")),
            )
            ready[name] = exits.enter_context(process)
        facts = {name: json.loads(process.stdout.readline()) for name, process in ready.items() if process.stdout}
        url = facts["gateway"]["url"]

        def newest() -> Any:
            try:
                with urllib.request.urlopen(f"{url}/v1/latest?symbol=EURUSD", timeout=10) as answer:  # noqa: S310 - ours
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # 404 until the symbol is known
                error.close()
                return None

        first = eventually(newest, 90)
        eventually(lambda: newest() != first, 60)
        eventually(lambda: list((tmp_path / "lake").rglob("*.parquet")), 60)
        eventually(lambda: list((tmp_path / "raw").rglob("*.csv")), 60)
    with urllib.request.urlopen(f"{registry.url}/subjects", timeout=10) as answer:  # noqa: S310 - ours
        assert {"arbitrex.Tick", "main.ticks.clean-value", "main.bars-value"} <= set(json.load(answer))
