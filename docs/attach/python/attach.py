"""Prints a world's ticks and bars. Needs confluent-kafka[avro,schemaregistry], and nothing of Arbitrex.

python attach.py 127.0.0.1:9092 http://127.0.0.1:8081 main [COUNT]
"""

import sys

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def line(topic: str, record: dict) -> str:
    """A tick or a bar; its times are datetimes in UTC."""
    if topic.endswith(".bars"):
        opened = record["ts_open"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        names = ("open", "high", "low", "close", "status", "revision")
        return " ".join(map(str, [topic, record["symbol"], record["timeframe"], opened, *map(record.get, names)]))
    time = record["ts_event"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{topic} {record['symbol']} {time} {record['bid']} {record['ask']}"


def main(brokers: str, registry: str, world: str, count: str = "-1") -> None:
    """Print records from the beginning on; ``count`` of them, or until Ctrl-C."""
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "attach-python",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",  # the default of this client
        }
    )
    consumer.subscribe([f"{world}.ticks.clean", f"{world}.bars"])
    left = int(count)
    try:
        while left:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            if message.value() is None:  # a bar that was deleted
                continue
            context = SerializationContext(message.topic(), MessageField.VALUE)
            print(line(message.topic(), deserialize(message.value(), context)), flush=True)
            left -= 1
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
