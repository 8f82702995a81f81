"""A real schema registry on this machine: Apicurio, by Maven, which speaks Confluent's REST API. For tests and CI."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infra.brokers import guard, jars
from infra.ports import claim, free_port
from schemas.errors import ComponentError

VERSION: Final = "3.3.3"
JAVA: Final = 21
"""The oldest Java that runs it."""
_ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_STARTUP_SECONDS: Final = 90.0
_GRACE_SECONDS: Final = 10.0


class Apicurio:
    """One Apicurio that keeps its schemas in memory, on loopback; port 0 is any free one. A context manager."""

    def __init__(self, home: Path, port: int = 0) -> None:
        self._folder = home.resolve() / "logs"
        self._port = claim("ARBITREX_REGISTRY__PORT", port)
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"
        self.log_file = self._folder / "apicurio.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. Raises ComponentError when Java, Maven or it fails."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {"http.host": "127.0.0.1", "http.port": self._port}
        options |= {"management.host": "127.0.0.1", "management.port": free_port()}
        command = [
            *(sys.executable, "-I", guard.__file__, str(self._folder / "apicurio.pid"), str(self.log_file)),
            *(str(_GRACE_SECONDS), jars.java(JAVA), "-Xmx512m"),
            *(f"-Dquarkus.{name}={value}" for name, value in options.items()),
            *("-jar", str(_program() / "quarkus-run.jar")),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + _STARTUP_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ComponentError(f"Apicurio did not start; its log: {self.log_file}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end; kill it after its grace."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(2 * _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as response:  # noqa: S310 - loopback
                return bool(response.status == HTTPStatus.OK)
        except OSError:  # urllib's own errors are of this kind
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _program() -> Path:
    """The unpacked program in the user's cache, fetched if this version never was."""
    return jars.fetched(
        f"apicurio-{VERSION}",
        "Apicurio",
        lambda target: ("dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={target}"),
        "Apicurio is fetched by Maven: install it (apt install maven, brew install maven)",
        _unpacked,
    )


def _unpacked(fetched: Path) -> Path:
    folder = fetched / "unpacked"
    with tarfile.open(next(fetched.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder
