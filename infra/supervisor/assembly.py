"""What runs in a stack: which broker, which children, with which environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra import ports
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.brokers.node import Node
from infra.process import MANAGED
from infra.shards import shards
from infra.supervisor.child import Command
from infra.supervisor.stack import BROKER, COMPONENTS, REGISTRY
from schemas.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from infra.settings import Settings

EMBEDDED: Final = "embedded"
KAFKA: Final = "kafka"
BROKER_CHILD: Final = "broker"
PRODUCER_CHILD: Final = "producer"
_LOOPBACK: Final = {"127.0.0.1", "localhost"}
_COMPONENTS: Final = {
    "processor": ["processor"],
    "sink-lake": ["sink", "lake"],
    "sink-csv": ["sink", "csv"],
    "optimizer": ["lake", "optimize", "--every", "1"],
    "gateway": ["gateway"],
}


@dataclass(frozen=True, slots=True)
class Assembly:
    """A stack's settings, with ports chosen, and its children's commands."""

    settings: Settings
    commands: list[Command]
    page: str
    volatile: bool
    """The broker forgets its last second when it is killed."""
    configure: Callable[[], None]
    """To be called before the first start."""


def broker_kind(settings: Settings, asked: str | None) -> str:
    """``embedded``, ``kafka`` or the address of an existing cluster. Pure. Raises UsageError."""
    if asked in {EMBEDDED, KAFKA}:
        return str(asked)
    if asked is not None:
        for server in asked.split(","):
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit():
                raise UsageError(f"--broker {asked}: give embedded, kafka, or an address such as kafka-1:9092")
        return asked
    servers = settings.kafka.bootstrap_servers
    return EMBEDDED if "," not in servers and servers.rpartition(":")[0] in _LOOPBACK else servers


def assemble(settings: Settings, asked_broker: str | None) -> Assembly:
    """Choose ports and describe the children.

    Raises SettingsError for a port that is taken, ComponentError for a broker that cannot be had, UsageError for a
    simulated past in the live world.
    """
    if settings.simulator.start is not None and settings.world == "main":
        raise UsageError(
            f"ARBITREX_SIMULATOR__START={settings.simulator.start} needs a world of its own, since nothing old may "
            "enter the live one: add --world NAME"
        )
    kind = broker_kind(settings, asked_broker)
    node: Node | None = None
    configure: Callable[[], None] = _nothing
    if kind == EMBEDDED:
        node = EmbeddedBroker(settings.home, _broker_port(settings))
    elif kind == KAFKA:
        cluster = KafkaCluster(settings.home, 1, _broker_port(settings))
        node, configure = cluster.nodes[0], cluster.configure
    kafka = settings.kafka.model_copy(
        update={
            "bootstrap_servers": kind if node is None else node.bootstrap_servers,
            "embedded": kind == EMBEDDED,
        }
    )
    registry = settings.registry
    own_registry = "url" not in registry.model_fields_set
    if own_registry:
        port = ports.claim("ARBITREX_REGISTRY__PORT", registry.port, registry.host)
        registry = registry.model_copy(update={"port": port, "url": ports.url(registry.host, port)})
    gateway = settings.gateway
    gateway = gateway.model_copy(update={"port": ports.claim("ARBITREX_GATEWAY__PORT", gateway.port, gateway.host)})
    settings = settings.model_copy(
        update={"kafka": kafka, "registry": registry, "gateway": gateway, "home": settings.home.resolve()}
    )
    environment = child_environment(settings)
    commands = [] if node is None else [_broker(node, kind)]
    if own_registry:
        commands.append(Command("registry", REGISTRY, arbitrex("registry"), environment))
    commands += shard_commands(settings, environment)
    commands += [
        Command(name, COMPONENTS, arbitrex(*arguments), environment) for name, arguments in _COMPONENTS.items()
    ]
    page = f"{ports.url(gateway.host, gateway.port, tls=gateway.tls_certificate is not None)}/"
    return Assembly(settings, commands, page, kind == EMBEDDED, configure)


def shard_commands(settings: Settings, environment: Mapping[str, str]) -> list[Command]:
    """One command for each shard: its process is killed when a call of its terminal hangs. Raises SettingsError."""
    found = shards(settings)
    return [
        Command(
            PRODUCER_CHILD if len(found) == 1 else f"{PRODUCER_CHILD}-{name}",
            COMPONENTS,
            arbitrex(PRODUCER_CHILD, "--shard", name),
            environment,
            silence=each.producer.call_seconds,
            alone=len(found) > 1,
        )
        for name, each in found.items()
    ]


def arbitrex(*arguments: str) -> list[str]:
    """The command line of a component, whatever the working folder holds."""
    return [sys.executable, "-P", "-m", "infra.cli", *arguments]


def child_environment(settings: Settings) -> Mapping[str, str]:
    """What a child must know beyond the environment and the ``.env`` file that it shares with its parent."""
    return {
        MANAGED: "1",
        "ARBITREX_WORLD": settings.world,
        "ARBITREX_HOME": str(settings.home),
        "ARBITREX_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "ARBITREX_KAFKA__EMBEDDED": str(settings.kafka.embedded).lower(),
        "ARBITREX_REGISTRY__URL": settings.registry.url,
        "ARBITREX_REGISTRY__PORT": str(settings.registry.port),
        "ARBITREX_GATEWAY__PORT": str(settings.gateway.port),
        "ARBITREX_STATUS__PORT": "0",
    }


def _broker(node: Node, kind: str) -> Command:
    about = "embedded: a development broker" if kind == EMBEDDED else "Apache Kafka"
    return Command(
        BROKER_CHILD,
        BROKER,
        node.command,
        grace=node.grace,
        prepare=node.prepare,
        serves=node.serves,
        facts={"address": node.bootstrap_servers, "about": about, "log": str(node.log_file)},
        pid=lambda: node.pid,
    )


def _broker_port(settings: Settings) -> int:
    name, servers = "ARBITREX_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers
    host, _, port = servers.rpartition(":")
    if host not in _LOOPBACK or not port.isdigit():
        raise SettingsError(
            f"{name}={servers}: a broker of this machine listens on 127.0.0.1; set it to 127.0.0.1:PORT, unset it, "
            "or use the cluster with --broker HOST:PORT"
        )
    return int(port)


def _nothing() -> None:
    """Do nothing."""
