"""Workers killed and frozen while ticks flow: afterwards everything is there exactly once."""

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from infra import topics
from infra.kafka_log import ends, partition_count
from infra.process import MANAGED
from infra.settings import Settings
from infra.worlds import World
from schemas.codec import Codec
from tests.processors.oracle import caught_up, check
from tests.processors.stream import Stream
from tests.processors.test_service import recent_ms
from tests.support import ROOT, environment, eventually, produce_all

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker, pytest.mark.slow]

FAULTS = 6
FROZEN_SECONDS = 8.0
"""Past the session timeout of 6 s."""


class Workers:
    """Two workers that are started again whenever they are gone."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._running = [self._start(), self._start()]
        stack.callback(self._stop)

    def kill(self, which: int) -> None:
        self._running[which].kill()
        self._running[which].wait()
        _close(self._running[which])

    def freeze(self, which: int) -> None:
        self._running[which].send_signal(signal.SIGSTOP)

    def thaw(self, which: int) -> None:
        self._running[which].send_signal(signal.SIGCONT)

    def tend(self) -> None:
        """Start again what is gone, as the supervisor would."""
        for which, worker in enumerate(self._running):
            if worker.poll() is not None:
                _close(worker)
                self._running[which] = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "processor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment(self._settings) | {MANAGED: "1"},
            cwd=ROOT,
        )

    def _stop(self) -> None:
        for worker in self._running:
            _close(worker)
        for worker in self._running:
            try:
                worker.wait(20)
            finally:
                worker.kill()
                worker.wait()


def _close(worker: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, if it still runs."""
    assert worker.stdin is not None
    worker.stdin.close()


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_kills_and_zombies_lose_nothing_and_double_nothing(settings: Settings, codec: Codec) -> None:
    raw = World(settings.world).topic(topics.TICKS_RAW.name)
    stream = Stream(codec, recent_ms(), partitions=partition_count(settings.kafka, raw))
    chance = random.Random(3)
    produce_all(settings, raw, stream.specs())
    over = threading.Event()
    produced: list[int] = []

    def produce() -> None:
        while not over.wait(0.3):
            produced.append(produce_all(settings, raw, stream.ticks(400, late=True, step_ms=400)))

    def transactions() -> int:
        return sum(ends(settings.kafka, World(settings.world).topic(topics.PROGRESS.name)).values())

    producing = threading.Thread(target=produce)
    with ExitStack() as stack:
        workers = Workers(settings, stack)
        producing.start()

        def tended() -> int:
            workers.tend()
            return transactions()

        stack.callback(producing.join)
        stack.callback(over.set)
        for fault in range(FAULTS):
            committed = transactions()
            eventually(lambda: tended() > committed + 3, 120)  # noqa: B023 - called at once
            time.sleep(chance.uniform(0, 1))
            which = chance.randrange(2)
            if fault % 3 == 2:
                workers.freeze(which)
                time.sleep(FROZEN_SECONDS)
                workers.thaw(which)
            else:
                workers.kill(which)
        over.set()
        producing.join()
        produce_all(settings, raw, stream.watermark(stream.time))

        def done() -> bool:
            workers.tend()
            return caught_up(settings, codec)

        eventually(done, 120, every=1)
    expected = check(settings, codec)
    assert expected.repeats > 100
    assert sum(len(revisions) - 1 for revisions in expected.bars.values()) > 5
