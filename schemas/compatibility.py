"""Whether schemas can read one another's data, by Apache Avro's own rules.

Source: https://avro.apache.org/docs/1.12.0/specification/#schema-resolution; the levels' names and meaning:
https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import avro.schema
import fastavro
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from schemas.definitions import plain
from schemas.errors import DecodeError

LEVELS: Final = (
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
)


def problems(level: str, new: str, earlier: Sequence[str]) -> list[str]:
    """Why ``new`` must not follow ``earlier`` (the oldest first) at a level; empty when it may.

    BACKWARD: the new one reads what the last one wrote. FORWARD: the last one reads what the new one writes. FULL:
    both. TRANSITIVE: every earlier one, not the last alone. Raises DecodeError for what is no Avro schema.
    """
    found = []
    for old in reversed(earlier if level.endswith("_TRANSITIVE") else earlier[-1:]):
        if level.startswith(("BACKWARD", "FULL")):
            found += [f"the new schema cannot read the old: {why}" for why in unreadable(new, old)]
        if level.startswith(("FORWARD", "FULL")):
            found += [f"the old schema cannot read the new: {why}" for why in unreadable(old, new)]
    return found


def unreadable(reader: str, writer: str) -> list[str]:
    """Why data of schema ``writer`` cannot be read with schema ``reader``; empty when it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(parse_strictly(reader), parse_strictly(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    kinds = ", ".join(sorted({kind.name for kind in result.incompatibilities}))
    return [f"{kinds} at {', '.join(sorted(result.locations))} ({'; '.join(sorted(result.messages))})"]


@lru_cache(maxsize=1_000)
def parse_strictly(text: str) -> Any:
    """The schema as Apache Avro's library has it. Raises DecodeError for what is no Avro schema."""
    try:
        bare = plain(json.loads(text))
        fastavro.parse_schema(bare)  # checks defaults against their types, which the other does not
        return avro.schema.make_avsc_object(bare)
    except Exception as error:  # both raise what they stumble over
        raise DecodeError(f"not an Avro schema: {str(error) or type(error).__name__}") from error
