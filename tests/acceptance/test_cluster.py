"""A cluster of three real nodes: what is put into it survives a node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infra import kafka_log, provision
from infra.brokers.kafka import KafkaCluster
from infra.settings import KafkaSettings, Settings
from infra.worlds import World
from tests.support import Out, produce_all

pytestmark = [pytest.mark.kafka, pytest.mark.real_kafka]


def test_a_killed_node_is_survived_and_comes_back(cluster: KafkaCluster, tmp_path: Path) -> None:
    settings = Settings(world="node", home=tmp_path, kafka=KafkaSettings(bootstrap_servers=cluster.bootstrap_servers))
    topic = World("node").topic("ticks.raw")

    def produce() -> None:
        now = time.time_ns() // 1_000_000
        produce_all(settings, topic, (Out("EURUSD", b"x", now, partition=0) for _ in range(50)))

    changes = provision.apply(settings)
    assert {(change.partitions, change.replication) for change in changes} == {(12, 3)}
    assert {change.config["min.insync.replicas"] for change in changes} == {"2"}
    assert {change.config["unclean.leader.election.enable"] for change in changes} == {"false"}
    assert provision.plan(settings) == []
    produce()
    cluster.kill(1)
    assert cluster.nodes[0].pid is None
    produce()
    cluster.start(1)
    produce()
    assert kafka_log.ends(settings.kafka, topic)[0] == 150
