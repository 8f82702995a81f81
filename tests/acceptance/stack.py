"""The `arbitrex` command as a user runs it, in processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.settings import KafkaSettings, RegistrySettings, Settings
from infra.supervisor import control, report, runfile
from schemas.errors import ArbitrexError
from tests.support import eventually

ARBITREX = (sys.executable, "-c", "from infra.cli.main import main; main()")


def environment(home: Path, world: str, **more: str) -> dict[str, str]:
    """The environment of a stack of its own: nothing of the caller's settings, any free port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARBITREX_")}
    return kept | {
        "ARBITREX_HOME": str(home),
        "ARBITREX_WORLD": world,
        "ARBITREX_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:0",
        "ARBITREX_CSV__ROTATE_SECONDS": "5",
        "ARBITREX_LAKE__ROTATE_SECONDS": "5",
        "ARBITREX_GATEWAY__PORT": "0",
        "ARBITREX_REGISTRY__PORT": "0",
        "ARBITREX_LOG__FORMAT": "json",
        **more,
    }


def run(env: Mapping[str, str], *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*ARBITREX, *arguments], env=dict(env), capture_output=True, text=True, timeout=timeout, check=False
    )


def status(env: Mapping[str, str]) -> dict[str, Any]:
    """What `arbitrex status --json` says, asked without a process of its own; empty while nothing runs."""
    run = runfile.read(Path(env["ARBITREX_HOME"]))
    try:
        return report.complete(control.ask(run, "GET", "/status"), run) if run else {}
    except ArbitrexError:
        return {}


@contextmanager
def up(env: Mapping[str, str], *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`arbitrex up`, ready when entered, down when left."""
    with log.open("ab") as out:
        process = subprocess.Popen([*ARBITREX, "up", *arguments], env=dict(env), stdout=out, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: _ready(process, env, log), 180, every=0.5)
        yield process
    finally:
        run(env, "down", timeout=120)
        process.wait(60)


def settings_of(env: Mapping[str, str], stack: Mapping[str, Any]) -> Settings:
    """Settings that reach a running stack's broker and registry."""
    return Settings(
        world=env["ARBITREX_WORLD"],
        home=Path(env["ARBITREX_HOME"]),
        kafka=KafkaSettings(bootstrap_servers=stack["kafka"], embedded=stack["embedded"]),
        registry=RegistrySettings(url=stack["registry"]),
    )


def _ready(process: subprocess.Popen[bytes], env: Mapping[str, str], log: Path) -> bool:
    assert process.poll() is None, f"arbitrex up ended:\n{log.read_text('utf-8', 'replace')[-4000:]}"
    components = status(env).get("components", [])
    return bool(components) and all(each["ready"] or each["state"] == "off" for each in components)
