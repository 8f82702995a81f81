"""Every error that Arbitrex raises on purpose.

    ArbitrexError
    ├── SettingsError          a setting is wrong: names it, its value and the remedy
    ├── UsageError             what was asked for cannot be done as asked
    ├── BrokerError            Kafka is away, or refused
    │   └── FencedError        another owner has taken over: this process must stop
    ├── RegistryError          the schema registry is away, or refused
    │   ├── RegistryAwayError  it does not answer, or cannot at the moment: asking again may help
    │   ├── UnknownSchemaError no schema has this id
    │   └── IncompatibleSchemaError
    ├── DecodeError            bytes that no schema can decode
    ├── ProcessingError        a record on which the processor's code raised
    ├── SourceError            a terminal or a file gave something unusable
    ├── StoreError             the lake or a disk is away, or refused
    └── ComponentError         a child process or a part of the stack failed for good

The message of each says the cause and, where there is one, the remedy; the command line prints it as one
line and exits with 1 (2 for SettingsError and UsageError).
"""

from __future__ import annotations

import re
from typing import Final

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class ArbitrexError(Exception):
    """Root of the tree."""


class SettingsError(ArbitrexError):
    """A setting is wrong."""


class UsageError(ArbitrexError):
    """What was asked for cannot be done as asked."""


class BrokerError(ArbitrexError):
    """Kafka is away, or refused."""


class FencedError(BrokerError):
    """Another owner has taken over."""


class RegistryError(ArbitrexError):
    """The schema registry is away, or refused."""


class RegistryAwayError(RegistryError):
    """The schema registry does not answer, or cannot at the moment."""


class UnknownSchemaError(RegistryError):
    """No schema has this id."""


class IncompatibleSchemaError(RegistryError):
    """A schema would break readers or writers of a released one."""


class DecodeError(ArbitrexError):
    """Bytes that no schema can decode."""


class ProcessingError(ArbitrexError):
    """A record on which the processor's code raised."""


class SourceError(ArbitrexError):
    """A terminal or a file gave something unusable."""


class StoreError(ArbitrexError):
    """The lake or a disk is away, or refused. What its library says in several coloured lines becomes one."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(_COLOUR.sub("", text).split()).replace(" ↳", ":"))


class ComponentError(ArbitrexError):
    """A part of the stack failed for good."""
