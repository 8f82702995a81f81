"""The soak, short: two shards for seconds, on one broker."""

from __future__ import annotations

from itertools import chain

import pytest
from rich.console import Console

from infra.settings import Settings
from producers.simulated.faults import Kind
from tests.acceptance.soak import burn
from tests.acceptance.soak_faults import KINDS
from tests.acceptance.soak_fire import Plan


def test_every_fault_is_in_the_soak() -> None:
    assert set(chain(*KINDS.values())) == set(Kind)


@pytest.mark.kafka
@pytest.mark.one_broker
def test_what_arrives_through_all_faults_is_what_the_brokers_had(settings: Settings) -> None:
    plan = Plan(minutes=0.25, symbols=2, rate=0.3, shards=("a", "d"), spared=None, head=8, patience=4)
    assert burn(settings, plan, None, Console(width=150))
