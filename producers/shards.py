"""The producer as a whole: a process for each shard, watched from outside."""

from __future__ import annotations

from dataclasses import replace

from infra import logs
from infra.process import MANAGED, Process
from infra.settings import Settings
from infra.supervisor.assembly import shard_commands
from infra.supervisor.child import Child
from infra.supervisor.stack import Stack

log = logs.logger(__name__)


def run(settings: Settings, process: Process) -> None:
    """Run every shard until asked to stop; one that cannot run does not disturb the others.

    Raises SettingsError, and ComponentError when the only shard cannot run as it is configured.
    """
    commands = [
        replace(command, environment={MANAGED: "1", "ARBITREX_STATUS__PORT": str(_port(settings, number))})
        for number, command in enumerate(shard_commands(settings, {}), 1)
    ]
    children = [Child(command, settings.home / "logs") for command in commands]
    stack = Stack(children, lambda line: log.info("shard", said=line), before={})
    stack.run(process.stopping, lambda: process.ready(shards=len(children)))


def _port(settings: Settings, number: int) -> int:
    """A shard serves its metrics beside its parent's port, or wherever there is room."""
    return settings.status.port + number if settings.status.port else 0
