"""One cluster of three real nodes for all acceptance tests: it takes longer to start than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from infra.brokers.kafka import KafkaCluster
from schemas.errors import ComponentError


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with ExitStack() as exits:
        try:
            running = exits.enter_context(KafkaCluster(tmp_path_factory.mktemp("cluster"), nodes=3))
        except ComponentError as error:
            pytest.skip(str(error))
        yield running
