"""``arbitrex up`` with its real children on the embedded broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra import kafka_log, provision
from infra.settings import KafkaSettings, Settings
from infra.supervisor import runfile
from infra.supervisor.assembly import child_environment
from infra.worlds import World
from tests.support import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COMPONENTS = ["broker", "registry", "producer", "processor", "sink-lake", "sink-csv", "optimizer", "gateway"]


class Home:
    """A home folder and the ``arbitrex`` command working on it, with any free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        settings = Settings(home=folder, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:0"))
        mine = child_environment(settings)
        chosen = ("ARBITREX_HOME", "ARBITREX_KAFKA__BOOTSTRAP_SERVERS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARBITREX_")}
        self.environment = inherited | {name: mine[name] for name in chosen}
        self.environment |= {"ARBITREX_REGISTRY__PORT": "0", "ARBITREX_GATEWAY__PORT": "0"}

    def popen(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        with (self.folder.parent / f"{arguments[0]}.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "infra.cli", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder.parent,
                env=self.environment | more,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "infra.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder.parent,
            env=self.environment,
            check=False,
            timeout=100,
        )

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return found

    def pids(self) -> dict[str, int]:
        return {each["component"]: each["pid"] for each in self.status()["components"]}

    def output(self) -> str:
        return (self.folder.parent / "up.out").read_text("utf-8")

    def await_up(self, process: subprocess.Popen[str], times: int = 1) -> None:
        def there() -> bool:
            assert process.poll() is None, self.output()
            return self.output().count("Arbitrex runs") >= times

        eventually(there, 120)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    for process in home.started:
        process.kill()  # nothing must be left even so
        process.wait()
    eventually(lambda: not family_of(home), 60)


def family_of(home: Home) -> list[psutil.Process]:
    """All processes that work for this home, however they came about."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("ARBITREX_HOME", "")]
        except psutil.Error:
            continue
        if any(str(home.folder) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return found


def test_a_stack_from_first_start_over_kills_to_reset(home: Home) -> None:
    process = home.popen("up")
    home.await_up(process)
    lines = [line.split()[0] for line in home.output().splitlines() if " ready in " in line]
    assert lines[:2] == ["broker", "topics"]
    assert sorted(lines) == sorted([*COMPONENTS, "topics"])
    status = home.status()
    assert [each["component"] for each in status["components"]] == COMPONENTS
    assert all(each["ready"] and each["pid"] for each in status["components"]), status
    page = re.search(r"Arbitrex runs, world main: (http://\S+)", home.output())
    assert page
    assert status["page"] == page[1]

    second = home.call("up")
    assert second.returncode == 2
    assert re.fullmatch(rf"arbitrex: a stack already runs in .*{re.escape(page[1])}; .*arbitrex down\n", second.stderr)
    refused = home.call("reset", "--yes")
    assert refused.returncode == 2
    assert "stop it first" in refused.stderr
    assert "nothing to change" in home.call("topics", "plan").stdout  # finds the running stack's broker
    assert "main" in home.call("world", "list").stdout

    before = home.pids()
    for name in COMPONENTS[1:]:
        psutil.Process(before[name]).kill()
    eventually(
        lambda: all(
            each["ready"] and (each["pid"] != before[each["component"]] or each["component"] == "broker")
            for each in home.status()["components"]
        ),
        90,
        every=1,
    )
    assert [each["restarts"] for each in home.status()["components"]] == [0] + [1] * (len(COMPONENTS) - 1)

    settings = Settings(home=home.folder, kafka=KafkaSettings(bootstrap_servers=status["kafka"], embedded=True))
    produced = sum(kafka_log.ends(settings.kafka, World("main").topic("ticks.raw")).values())
    assert produced > 0
    began = time.monotonic()
    assert home.call("down").stdout == "all stopped\n"
    assert time.monotonic() - began < 30
    assert process.wait(5) == 0
    assert family_of(home) == []
    assert home.call("status").returncode == 3

    process = home.popen("up")  # goes on where the first one stopped
    home.await_up(process, 2)
    assert "shorter" not in home.output()
    kafka = KafkaSettings(bootstrap_servers=home.status()["kafka"], embedded=True)
    assert sum(kafka_log.ends(kafka, World("main").topic("ticks.raw")).values()) >= produced
    assert provision.plan(settings.model_copy(update={"kafka": kafka})) == []

    psutil.Process(home.pids()["broker"]).kill()  # the embedded one loses its last second: all starts over
    home.await_up(process, 3)
    assert "all starts over" in home.output()
    assert all(each["ready"] for each in home.status()["components"])
    process.kill()
    process.wait()
    eventually(lambda: not family_of(home))
    assert not runfile.is_running(home.folder)
    assert home.call("reset", "--yes").returncode == 0
    assert list(home.folder.iterdir()) == []


def test_a_world_of_history_gets_no_live_ticks_and_sigterm_ends_it(
    home: Home, start_broker: Callable[[str], KafkaSettings]
) -> None:
    kafka = start_broker("embedded")
    provision.apply(Settings(world="old", kafka=kafka), historical=True)
    process = home.popen("up", "--world", "old", "--broker", kafka.bootstrap_servers)
    home.await_up(process)
    assert "producer   off: world old holds history" in home.output()
    states = {each["component"]: each["state"] for each in home.status()["components"]}
    assert (states["producer"], states["processor"]) == ("off", "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert family_of(home) == []
