"""What a process with a terminal may do instead of answering; run in the child."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from infra.settings import Settings
from producers.history.terminals import Opened
from producers.terminal import TICK_DTYPE


def serve(pipe: Connection, settings: Settings) -> None:
    """Connect always; hang in the first process's question, die in the second's, answer in the third's."""
    tries = Path(settings.home) / "tries"
    with tries.open("a") as file:
        file.write(f"{os.getpid()}\n")
    number = len(tries.read_text().splitlines())
    while True:
        if pipe.recv() is None:
            pipe.send(Opened("t", 1_000, 0, "UTC", ()))
        elif number == 1 or (Path(settings.home) / "always").exists():
            time.sleep(3_600)
        elif number == 2:
            os._exit(3)
        else:
            pipe.send(np.zeros(number, TICK_DTYPE))
