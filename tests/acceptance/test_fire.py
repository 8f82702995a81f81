"""Two minutes of fire; `python -m tests.acceptance.fire` burns for ten."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.brokers.kafka import KafkaCluster
from tests.acceptance import fire
from tests.acceptance.fire_faults import FREEZE, JOIN, KILL, LEAVE, NODE


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.real_kafka
@pytest.mark.timeout(1500)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_whatever_burns_everything_is_there_once_and_as_recomputed(cluster: KafkaCluster, tmp_path: Path) -> None:
    found = fire.run(
        cluster, tmp_path, minutes=2, seed=1, workers=2, generators=2, rate=500, partitions=4
    )  # fewer than the command's: the machine is shared
    verdict = found.verdict
    assert not verdict.wrong, "\n".join(verdict.wrong)
    assert found.faults == {KILL: 13, FREEZE: 2, NODE: 1, JOIN: 1, LEAVE: 1}
    assert verdict.ticks == verdict.clean + verdict.rejected + verdict.repeats > 20_000
    assert min(verdict.repeats, verdict.revisions, verdict.partial, verdict.rejected) > 100
    assert verdict.dead > 5
