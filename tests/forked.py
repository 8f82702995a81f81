"""Components for tests, forked from a process that has imported what they import: most of a start is that.

Python's own fork server does it, which has no threads. polars and pyarrow start some when they are imported, so each
component imports them itself. Elsewhere than here, and in the commands of `tests.acceptance`, a component is started as
users start it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
_IMPORTED: Final = (
    "aiohttp.web",
    "aiokafka",
    "confluent_kafka.admin",
    "confluent_kafka.schema_registry",
    "fastavro",
    "faust.transport.drivers.aiokafka",
    "infra.cli.main",
    "infra.process",
    "infra.settings",
    "numpy",
)


class Forked:
    """A process of the ``arbitrex`` command with pipes, used as one of `subprocess`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_IMPORTED))
        its_input, stdin = context.Pipe(duplex=False)
        stdout, its_output = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(arguments, environment, its_input, its_output))
        self._process.start()
        its_input.close()
        its_output.close()
        self.stdin = os.fdopen(os.dup(stdin.fileno()), "wb")
        self.stdout = os.fdopen(os.dup(stdout.fileno()), "rb")
        stdin.close()
        stdout.close()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen` tells it: negative for a signal, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("arbitrex", timeout or 0)
        return self.returncode

    def kill(self) -> None:
        """Kill it the hard way."""
        self._process.kill()


def _run(arguments: Sequence[str], environment: Mapping[str, str], stdin: Connection, stdout: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(_ROOT)
    for pipe, number in ((stdin, 0), (stdout, 1)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdin, sys.stdout = os.fdopen(0, "r"), os.fdopen(1, "w")
    sys.argv = ["arbitrex", *arguments]
    from infra.cli.main import main

    main()
