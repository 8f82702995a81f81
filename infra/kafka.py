"""Kafka clients with the settings that this system needs, and where each record goes."""

from __future__ import annotations

import functools
import logging
import ssl
from typing import Any, Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from infra.settings import KafkaSettings
from schemas.errors import SettingsError

EMBEDDED_IDLE_SECONDS: Final = 0.05
"""How long an idle consumer of the embedded broker waits: it answers empty fetches at once."""

_LOG: Final = logging.getLogger("librdkafka")


def librdkafka(kafka: KafkaSettings) -> dict[str, Any]:
    """What every librdkafka client needs to reach the brokers."""
    security = kafka.security
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": security.protocol,
        "socket.nagle.disable": True,
        "reconnect.backoff.max.ms": 2_000,
    }
    if security.ca_file:
        config["ssl.ca.location"] = str(security.ca_file)
    if security.protocol.startswith("SASL"):
        username, password = _credentials(kafka)
        config |= {"sasl.mechanism": security.mechanism, "sasl.username": username, "sasl.password": password}
    return config


def aiokafka(kafka: KafkaSettings) -> dict[str, Any]:
    """The same for aiokafka's clients, by its keyword names."""
    security = kafka.security
    config: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": security.protocol,
    }
    if security.protocol.endswith("SSL"):
        config["ssl_context"] = ssl.create_default_context(cafile=security.ca_file)
    if security.protocol.startswith("SASL"):
        username, password = _credentials(kafka)
        config |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": username,
            "sasl_plain_password": password,
        }
    return config


def producer(kafka: KafkaSettings, *, transactional_id: str | None = None, **overrides: Any) -> Producer:
    """An idempotent producer that never gives a message up and never overtakes itself.

    With ``transactional_id`` it is that transaction's only owner, once `init_transactions` has returned.
    Partitions are the caller's to give (`partition_for`); messages without one go by murmur2 of the key.
    """
    config = librdkafka(kafka) | {
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": 0,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 512_000,
        "sticky.partitioning.linger.ms": 0,
    }
    if transactional_id:
        config |= {"transactional.id": transactional_id, "transaction.timeout.ms": 60_000}
        config |= {"message.timeout.ms": 60_000}  # librdkafka refuses more than the transaction's own time-out
    return Producer(config | overrides, logger=_LOG)


def consumer(kafka: KafkaSettings, *, group: str, **overrides: Any) -> Consumer:
    """A read_committed consumer that never commits by itself and treats a lost position as an error."""
    config = librdkafka(kafka) | {
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 1_000_000,
        "fetch.error.backoff.ms": 100,
    }
    if kafka.embedded:
        config["fetch.wait.max.ms"] = 100
    return Consumer(config | overrides, logger=_LOG)


def admin(kafka: KafkaSettings) -> AdminClient:
    """An admin client."""
    return AdminClient(librdkafka(kafka), logger=_LOG)


@functools.lru_cache(maxsize=65_536)
def partition_for(symbol: str, partitions: int) -> int:
    """The partition of all records of ``symbol``: murmur2 of its UTF-8, as Java's and Faust's default has it."""
    return (murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2. Source: org.apache.kafka.common.utils.Utils.murmur2 (seed 0x9747b28c)."""
    mixer, mask, length = 0x5BD1E995, 0xFFFFFFFF, len(data)
    hashed = (0x9747B28C ^ length) & mask
    for start in range(0, length & ~3, 4):
        word = int.from_bytes(data[start : start + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        hashed = hashed * mixer & mask ^ word
    if tail := data[length & ~3 :]:
        hashed = (hashed ^ int.from_bytes(tail, "little")) * mixer & mask
    hashed = (hashed ^ hashed >> 13) * mixer & mask
    return hashed ^ hashed >> 15


def _credentials(kafka: KafkaSettings) -> tuple[str, str]:
    security = kafka.security
    if security.username is None or security.password is None:
        raise SettingsError(
            f"ARBITREX_KAFKA__SECURITY__PROTOCOL={security.protocol} needs ARBITREX_KAFKA__SECURITY__USERNAME "
            "and ARBITREX_KAFKA__SECURITY__PASSWORD"
        )
    return security.username, security.password.get_secret_value()
