"""The embedded development broker: ``noida-db``, its Kafka service only, loopback only.

It holds its data in memory and saves it when it is asked to stop; killed hard it loses the last second.
"""

from __future__ import annotations

import os
import stat
from importlib.resources import files
from pathlib import Path
from typing import Final

from infra.brokers.node import Node
from infra.ports import claim
from schemas.errors import ComponentError

_GRACE_SECONDS: Final = 60.0
"""Saving three million records takes twelve."""


class EmbeddedBroker(Node):
    """One embedded broker with its data in ``home``; port 0 is any free one. A context manager."""

    def __init__(self, home: Path, port: int = 0) -> None:
        data = home.resolve() / "broker"
        port = claim("ARBITREX_KAFKA__BOOTSTRAP_SERVERS", port)
        super().__init__(
            "broker",
            [
                *(str(_program()), "start", "--only", "kafka", "--host", "127.0.0.1"),
                *("--kafka-port", str(port), "--data-dir", str(data)),
            ],
            mark=str(data),
            port=port,
            folder=home.resolve() / "logs",
            grace=_GRACE_SECONDS,
        )
        self.data = data

    def prepare(self) -> bool:
        self.data.mkdir(parents=True, exist_ok=True)
        return super().prepare()


def _program() -> Path:
    program = Path(str(files("noida_db"))) / ("noida-db.exe" if os.name == "nt" else "noida-db")
    if not program.is_file():
        raise ComponentError(
            f"the embedded broker is not there for this platform ({program}); use --broker kafka or --broker HOST:PORT"
        )
    if not os.access(program, os.X_OK):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)  # wheels do not always keep the bit
    return program
