"""What the processors compute: a pure step over the records of one partition, with no Kafka, clock or disk in it."""
