"""One stack a home folder: a lock that ends with its process, and where the running one can be asked.

The lock is the operating system's, so a killed `up` leaves none behind; the run file beside it says how to reach the
stack's control endpoint, with a token that only the user can read.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from infra.locks import try_lock
from schemas.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from typing import IO

    from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Run:
    """How to reach a running stack."""

    pid: int
    world: str
    control: str
    """URL of the control endpoint."""
    token: str
    kafka: str
    embedded: bool
    registry: str
    page: str


class Lock:
    """Held while a stack of this home runs. Raises UsageError when another one does."""

    def __init__(self, home: Path) -> None:
        self._path = home / "run.lock"
        self._run_path = home / "run.json"
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_HOME={self._path.parent}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        if not try_lock(self._file):
            self._file.close()
            run = read(self._path.parent)
            where = f" (pid {run.pid}, world {run.world}): {run.page}" if run else ""
            raise UsageError(f"a stack already runs in {self._path.parent}{where}; stop it with: arbitrex down")
        self._run_path.unlink(missing_ok=True)
        return self

    def publish(self, run: Run) -> None:
        """Say how to reach the stack."""
        descriptor = os.open(self._run_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(run), file)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._run_path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()


def is_running(home: Path) -> bool:
    """Whether a stack of this home runs."""
    path = home / "run.lock"
    if not path.exists():
        return False
    with path.open("a+b") as file:
        return not try_lock(file)


def read(home: Path) -> Run | None:
    """How to reach the stack of this home; None when none runs, or it is just starting."""
    if not is_running(home):
        return None
    try:
        return Run(**json.loads((home / "run.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def attached(settings: Settings) -> Settings:
    """The settings with the broker and the registry of the stack that runs in their home, where none are set."""
    run = read(settings.home)
    servers = settings.kafka.bootstrap_servers
    if run is None or ("bootstrap_servers" in settings.kafka.model_fields_set and not servers.endswith(":0")):
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": run.kafka, "embedded": run.embedded})
    registry = settings.registry
    if "url" not in registry.model_fields_set:
        registry = registry.model_copy(update={"url": run.registry})
    return settings.model_copy(update={"kafka": kafka, "registry": registry})
