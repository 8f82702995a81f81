"""The soak, short: two shards for seconds, on the development broker."""

from __future__ import annotations

import pytest
from rich.console import Console

from infra.settings import Settings
from tests.acceptance.soak import Plan, burn


@pytest.mark.kafka
def test_what_arrives_through_all_faults_is_what_the_brokers_had(settings: Settings) -> None:
    assert burn(settings, Plan(minutes=0.25, symbols=2, rate=0.3, shards=("a", "d")), None, Console())
