"""A real Apache Kafka on this machine without Docker: one node, or a cluster of three, in KRaft mode."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infra.brokers import jars
from infra.brokers.node import Node
from infra.ports import claim, free_port
from schemas.errors import ComponentError, UsageError

_GRACE_SECONDS: Final = 20.0
_SIZES: Final = (1, 3)
_LOG4J: Final = """\
Configuration:
  status: ERROR
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %p %c{1} %m%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""


class KafkaNode(Node):
    """One node of a `KafkaCluster`; it is formatted before its first start."""

    def __init__(self, number: int, ports: tuple[int, int], folder: Path, logs: Path, heap: str) -> None:
        self.number = number
        self.port, self.controller_port = ports
        self.folder = folder
        self.properties = folder / "server.properties"
        self._java = jars.java(jars.KAFKA_JAVA)
        self._classpath = jars.kafka_classpath()
        log4j = folder / "log4j2.yaml"
        super().__init__(
            f"kafka-{number}",
            [
                *(self._java, f"-Xmx{heap}", "-XX:+UseG1GC", "-Djava.awt.headless=true", "-XX:+ExitOnOutOfMemoryError"),
                *(f"-Dlog4j2.configurationFile={log4j.as_uri()}", "-cp", self._classpath),
                *("kafka.Kafka", str(self.properties)),
            ],
            mark=str(self.properties),
            port=self.port,
            folder=logs,
            grace=_GRACE_SECONDS,
        )
        self._log4j = log4j

    def configure(self, cluster_id: str, properties: dict[str, str]) -> None:
        """Write its files, and format its data folder unless that was done before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log4j.write_text(_LOG4J, "utf-8")
        lines = [f"{key}={value}" for key, value in sorted(properties.items())]
        self.properties.write_text("\n".join(lines) + "\n", "utf-8")
        if (self.folder / "data" / "meta.properties").exists():
            return
        command = [self._java, f"-Dlog4j2.configurationFile={self._log4j.as_uri()}", "-cp", self._classpath]
        command += ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(self.properties)]
        output = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if output.returncode != 0:
            raise ComponentError(f"Kafka could not format {self.folder}: {(output.stderr or output.stdout).strip()}")


class KafkaCluster:
    """One or three Kafka nodes with their data in ``home``; a context manager.

    ``port`` is the first node's; the others follow. 0: any free ones. Raises ComponentError when Java, or KAFKA_HOME
    or Maven, is missing.
    """

    def __init__(self, home: Path, nodes: int = 1, port: int = 0) -> None:
        if nodes not in _SIZES:
            raise UsageError(f"a Kafka of {nodes} nodes: one or three are offered")
        home = home.resolve() / ("kafka" if nodes == 1 else f"kafka-{nodes}")
        ports = [claim("ARBITREX_KAFKA__BOOTSTRAP_SERVERS", port + number if port else 0) for number in range(nodes)]
        heap = "1g" if nodes == 1 else "512m"
        self.nodes: Sequence[KafkaNode] = [
            KafkaNode(number, (ports[number - 1], free_port()), home / f"node-{number}", home / "logs", heap)
            for number in range(1, nodes + 1)
        ]
        self._id_file = home / "cluster.id"

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def configure(self) -> None:
        """Write the nodes' files and format what is new."""
        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        if not self._id_file.exists():
            self._id_file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="), "ascii")
        for node in self.nodes:
            node.configure(self._id_file.read_text("ascii"), self._properties(node))

    def start(self, number: int | None = None) -> None:
        """Start one node, or all, and wait until they serve."""
        wanted = [node for node in self.nodes if number in {None, node.number}]
        try:
            for node in wanted:
                node.launch()
            for node in wanted:
                node.await_serving()
        except ComponentError:
            self.stop()
            raise

    def kill(self, number: int) -> None:
        """Kill one node the hard way."""
        self.nodes[number - 1].kill()

    def stop(self) -> None:
        """Stop all nodes in order: one after the other would make the last wait for a quorum."""
        for node in self.nodes:
            node.ask_to_stop()
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        self.configure()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ComponentError):
            self.stop()

    def _properties(self, node: KafkaNode) -> dict[str, str]:
        size = len(self.nodes)
        replicas, isr = (3, 2) if size == max(_SIZES) else (1, 1)
        internal = {"replication.factor": str(replicas), "num.partitions": "4"}
        data = (node.folder / "data").as_posix()  # a backslash would be an escape in a properties file
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(
                f"{other.number}@127.0.0.1:{other.controller_port}" for other in self.nodes
            ),
            "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(isr),
            "broker.session.timeout.ms": "4000",  # how long a killed node is waited for, also by its successor
            "broker.heartbeat.interval.ms": "1000",
            "group.initial.rebalance.delay.ms": "0",
            "transaction.state.log.min.isr": str(isr),
            "share.coordinator.state.topic.min.isr": str(isr),
            **{f"offsets.topic.{key}": value for key, value in internal.items()},
            **{f"transaction.state.log.{key}": value for key, value in internal.items()},
            **{f"share.coordinator.state.topic.{key}": value for key, value in internal.items()},
        }
