"""Some days of real ticks through the running stack: `python -m tests.acceptance.lean` takes them all, as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.brokers.kafka import KafkaCluster
from tests.acceptance import lean, oracle

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not oracle.DATA.exists(), reason=f"no real tick files at {oracle.DATA}"),
]


def test_with_the_defaults_only_minutes_with_rejected_ticks_differ(tmp_path: Path) -> None:
    rows = lean.pipeline(tmp_path, oracle.START_OF_FEEDS, "embedded", own_hours=False)
    assert not [row for row in rows if row.wrong]
    assert sum(row.rejected["crossed"] for row in rows) == 16_226


@pytest.mark.real_kafka
def test_with_own_hours_every_bar_is_the_third_partys_whatever_is_killed(cluster: KafkaCluster, tmp_path: Path) -> None:
    rows = lean.pipeline(tmp_path, oracle.START_OF_FEEDS, cluster, own_hours=True, kills=1)
    assert not [row for row in rows if row.wrong]
    assert sum(row.equal for row in rows) == 9_869
    assert sum(row.sql for row in rows) == 9_869
