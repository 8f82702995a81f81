"""Sinks as a component: one runner each, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from typing import Final

from infra import provision
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings
from infra.worlds import World
from sinks.kinds import limits_of, sink_of
from sinks.runner import Runner

_EVERY_SECONDS: Final = 0.25


def run(
    settings: Settings,
    process: Process,
    names: Sequence[str],
    show: Callable[[Mapping[str, Runner]], None] = lambda _: None,
) -> None:
    """Keep the world's records in the sinks ``names`` until the process is asked to stop.

    ``show`` is called several times a second. The first sink that fails stops the others, and its error is raised:
    FencedError when another process has the sink, BrokerError, StoreError, RegistryError, UsageError.
    """
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(closing(sink_of(settings, name))) for name in dict.fromkeys(names)}
        for sink in sinks.values():
            sink.positions(())
        provision.wait_until_there(settings, process.stopping)
        if process.stopping.is_set():
            return
        world = World(settings.world)
        runners = {
            name: Runner(sink, limits_of(settings, name), settings.kafka, world, connect(settings, process.stopping))
            for name, sink in sinks.items()
        }
        _run_all(runners, process, show)


def _run_all(runners: Mapping[str, Runner], process: Process, show: Callable[[Mapping[str, Runner]], None]) -> None:
    waiting, lock = set(runners), threading.Lock()

    def joined(name: str) -> None:
        with lock:
            waiting.discard(name)
            if not waiting:
                process.ready(sinks=list(runners))

    with ThreadPoolExecutor(len(runners), "sink") as pool:
        futures = [
            pool.submit(runner.run, process.stopping, lambda name=name: joined(name))  # type: ignore[misc]
            for name, runner in runners.items()
        ]
        for future in futures:
            future.add_done_callback(lambda _: process.stop())
        while wait(futures, _EVERY_SECONDS).not_done:
            show(runners)
    for future in futures:
        future.result()
