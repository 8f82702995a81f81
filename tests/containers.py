"""A Kafka in a container, where a Docker engine is: the image of the compose file, one node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import yaml

from infra.brokers.node import Node
from infra.ports import free_port
from schemas.errors import ComponentError
from tests.support import ROOT, eventually

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text("utf-8"))
_SINGLE: Final = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "HOST://:9092,CONTROLLER://:9093,INSIDE://:29092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
}


def engine_answers() -> bool:
    """Whether a Docker engine can be asked to run something."""
    client = shutil.which("docker")
    if client is None:
        return False
    return subprocess.run([client, "version"], capture_output=True, check=False, timeout=30).returncode == 0


class KafkaContainer:
    """One node of the compose file's Kafka; a context manager. Raises ComponentError where no engine answers."""

    def __init__(self, home: Path) -> None:
        if not engine_answers():
            raise ComponentError("a Kafka in a container needs a Docker engine, and none answers")
        self._home = home
        self._port = free_port()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        from testcontainers.core.container import DockerContainer

        self._container: DockerContainer = DockerContainer(_COMPOSE["x-kafka"]["image"])
        self._container.with_bind_ports(9092, self._port)
        advertised = f"HOST://{self.bootstrap_servers},INSIDE://localhost:29092"
        for name, value in (_SINGLE | {"KAFKA_ADVERTISED_LISTENERS": advertised}).items():
            self._container.with_env(name, value)
        self._container.start()
        watched = Node("container", (), mark="", port=self._port, folder=self._home, grace=0)
        eventually(watched.serves, every=0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.stop()
