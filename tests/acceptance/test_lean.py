"""Real ticks through the running stack: `python -m tests.acceptance.lean` prints the same as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.brokers.kafka import KafkaCluster
from schemas.errors import ComponentError
from tests.acceptance import lean, oracle

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not oracle.DATA.exists(), reason=f"no real tick files at {oracle.DATA}"),
]


@pytest.fixture(params=["embedded", "three-nodes"], scope="module")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "embedded":
        yield "embedded"
        return
    try:
        with KafkaCluster(tmp_path_factory.mktemp("kafka"), nodes=3) as cluster:
            yield cluster.bootstrap_servers
    except ComponentError as error:
        pytest.skip(str(error))


def test_with_own_hours_every_bar_is_the_third_partys(broker: str, tmp_path: Path) -> None:
    rows = lean.pipeline(tmp_path, oracle.FEEDS, broker, own_hours=True)
    assert not [row for row in rows if row.wrong]
    assert sum(row.equal for row in rows) == 30_233


def test_with_the_defaults_only_minutes_with_rejected_ticks_differ(broker: str, tmp_path: Path) -> None:
    rows = lean.pipeline(tmp_path, oracle.FEEDS, broker, own_hours=False)
    assert not [row for row in rows if row.wrong]
    assert sum(row.rejected.total() for row in rows) > 69_354


def test_killed_children_change_nothing(broker: str, tmp_path: Path) -> None:
    rows = lean.pipeline(tmp_path, oracle.FEEDS[:2], broker, own_hours=True, kills=1, speed=20_000)
    assert not [row for row in rows if row.wrong]
