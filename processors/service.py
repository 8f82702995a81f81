"""The processor as a process: a Faust worker that filters ``ticks.raw`` and aggregates bars."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import faust

from infra import kafka as clients
from infra import logs, provision, topics
from infra.kafka_log import partition_count
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings
from infra.worlds import World
from processors import app as apps
from processors import hooks
from processors.core.types import Rules
from processors.membership import Seat
from processors.ownership import Ownership
from processors.pipeline import Pipeline
from schemas.codec import Codec
from schemas.errors import ArbitrexError, ComponentError, RegistryAwayError

STOP_SECONDS: Final = 15.0
"""What a stop may take, a dead broker or not."""

FETCH_SECONDS: Final = 0.015
"""Between two fetches: what comes meanwhile is one transaction. Shorter costs transactions, longer costs latency."""

log = logs.logger(__name__)


def run(settings: Settings, process: Process) -> None:
    """Process ``ticks.raw`` until asked to stop.

    Raises FencedError when another worker owns a partition by now (start again), BrokerError and RegistryError when
    those are away, ComponentError when going on needs a decision.
    """
    provision.wait_until_there(settings, process.stopping)
    if process.stopping.is_set():
        return
    try:
        codec = connect(settings, process.stopping)
    except RegistryAwayError:
        if process.stopping.is_set():
            return
        raise
    if settings.log.level != "debug":
        for chatty in ("faust", "mode", "aiokafka"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
    hooks.unpack_in_bulk()
    hooks.pace_fetches(clients.EMBEDDED_IDLE_SECONDS if settings.kafka.embedded else FETCH_SECONDS)
    hooks.calm_garbage_collector()
    partitions = partition_count(settings.kafka, World(settings.world).topic(topics.TICKS_RAW.name))
    asyncio.run(_Service(settings, process, codec, partitions).work())


class _Worker(faust.Worker):
    """Faust's worker without what belongs to the process: signals, logging, standard output, the process's title."""

    def __init__(self, app: faust.App, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
        self.spinner = None

    def install_signal_handlers(self) -> None:
        """None: `Process` has its own."""

    def _setproctitle(self, info: str, **_: Any) -> None:
        """No new title."""


class _Service:
    def __init__(self, settings: Settings, process: Process, codec: Codec, partitions: int) -> None:
        self._process = process
        self._ready = False
        self._error: ArbitrexError | None = None
        self._settings = settings
        self._codec = codec
        self._partitions = partitions

    async def work(self) -> None:
        """Run the worker until it is asked to stop or fails; raises the reason of the failure."""
        loop = asyncio.get_running_loop()
        leaving = asyncio.Event()

        def fail(error: ArbitrexError) -> None:
            if self._error is None:
                self._error = error
                log.error("leaving", reason=str(error))
                ownership.close()
                leaving.set()

        rules = Rules(self._settings.bars.timeframes, self._settings.processor.future_tolerance_ms)
        ownership = Ownership(self._settings, self._codec, rules, lambda error: loop.call_soon_threadsafe(fail, error))
        ownership.on_opened = self._opened
        pipeline = Pipeline(self._settings, self._codec, rules)
        threads = ThreadPoolExecutor(self._partitions + 1, thread_name_prefix="work")
        seat = Seat.take(self._settings)
        app = apps.create(self._settings, ownership, pipeline, threads, seat.name)
        worker = _Worker(app, loop)

        def stop() -> None:
            loop.call_soon_threadsafe(leaving.set)

        self._process.on_stop(stop)
        running = loop.create_task(worker.start())  # ends when the worker has stopped
        waiting = loop.create_task(leaving.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        guard = threading.Timer(STOP_SECONDS, _give_up)
        guard.daemon = True
        guard.start()
        await worker.stop()
        waiting.cancel()
        await asyncio.gather(running, return_exceptions=True)
        threads.shutdown()
        await ownership.shut_down()
        guard.cancel()
        if self._error:
            raise self._error
        if worker.crash_reason:
            reason = worker.crash_reason
            raise ComponentError(f"the Faust worker failed: {type(reason).__name__}: {reason}") from reason

    def _opened(self, partitions: int) -> None:
        if not self._ready:
            self._ready = True
            self._process.ready(partitions=partitions)


def _give_up() -> None:
    """End the process: a broker that does not answer must not hold it."""
    log.error("not stopped in time, ended hard", seconds=STOP_SECONDS)
    os._exit(1)
