"""Where a sink goes on in each partition, and what is to be said when that place is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from infra import kafka_log, logs, metrics
from schemas.errors import BrokerError
from sinks.sink import Source

_PATIENCE_SECONDS: Final = 60.0
"""For a partition without a leader: a cluster that lost a node needs some seconds."""

log = logs.logger(__name__)


def starts(
    consumer: Consumer,
    partitions: Sequence[TopicPartition],
    recorded: Mapping[Source, int],
    sink: str,
    *,
    accept_loss: bool,
) -> list[TopicPartition]:
    """The partitions with the offset to read from: what the sink recorded, else the first there is.

    Raises KafkaException when Kafka does not answer for a minute; BrokerError when records were deleted before the
    sink read them (unless ``accept_loss``), and when a topic ends before what the sink has of it.
    """
    found = []
    for each in partitions:
        low, high = kafka_log.extent(consumer, each, timeout=_PATIENCE_SECONDS)
        offset = recorded.get(Source(each.topic, each.partition))
        name = f"{each.topic}/{each.partition}"
        if offset is None:
            offset = low
            if low > 0:
                log.info("starting after records that are there no more", partition=name, offset=low)
        elif offset > high:
            raise BrokerError(
                f"{name} ends at offset {high}, but the sink {sink} has read up to {offset}: the topic was made anew "
                "or the broker lost records. Go on in a new world, or drop this one with: arbitrex world drop"
            )
        elif offset < low:
            lost = (
                f"{name}: {low - offset} offsets ({offset} to {low - 1}) were deleted before the sink {sink} read them"
            )
            if not accept_loss:
                raise BrokerError(f"{lost}; to go on without them set ARBITREX_{sink.upper()}__ACCEPT_LOSS=true")
            log.error("records lost to retention, as accepted", what=lost)
            metrics.SINK_LOST.labels(sink, each.topic.partition(".")[2]).inc(low - offset)
            offset = low
        found.append(TopicPartition(each.topic, each.partition, offset))
    return found
