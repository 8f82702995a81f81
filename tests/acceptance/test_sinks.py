"""The short version of `python -m tests.acceptance.sinks`."""

from __future__ import annotations

import pytest

from schemas.errors import ComponentError
from tests.acceptance import sinks

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.real_kafka]


def test_whatever_is_killed_every_offset_is_in_the_lake_once() -> None:
    try:
        report = sinks.run("disk", kills=3, seed=3)
    except ComponentError as error:  # neither Java nor a Kafka to run
        pytest.skip(str(error))
    assert not report.wrong, report
    assert report.reads > 0
