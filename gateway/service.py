"""The gateway's process: a thread that follows Kafka, and the event loop that serves clients."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Final

from gateway.app import Gateway
from gateway.catchup import LogReader
from gateway.feed import Feed
from gateway.history import History
from gateway.hub import Hub
from gateway.listener import Listener
from gateway.market import Market, Update
from infra import logs, provision
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings
from schemas.codec import Codec

_UPDATES_AHEAD: Final = 4
"""Updates that may wait for the event loop before the reading thread does."""

log = logs.logger(__name__)


def run(settings: Settings, process: Process) -> None:
    """Serve until asked to stop. Raises BrokerError, RegistryError, SettingsError."""
    codec = connect(settings, process.stopping)
    provision.wait_until_there(settings, process.stopping)
    if process.stopping.is_set():
        return
    market = Market()
    feed = Feed(settings, codec)
    try:
        for update in feed.load(process.stopping):
            market.bars_since = feed.bars_since
            market.take(update)
        if process.stopping.is_set():
            return
        log.info("state restored", symbols=len(market.specs), series=len(market.closed))
        gc.collect()
        gc.freeze()  # looking through the modules and the state again and again would hold up every client for 100 ms
        asyncio.run(_serve(settings, process, codec, feed, Hub(market, feed.places)))
    finally:
        feed.close()


async def _serve(settings: Settings, process: Process, codec: Codec, feed: Feed, hub: Hub) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        loop.call_soon_threadsafe(stopped.set)

    process.on_stop(stop)
    follower = Follower(feed, hub, loop)
    history, log_reader = History(settings, codec, hub.market), LogReader(settings, codec)
    gateway = Gateway(settings, hub, history, log_reader, codec=codec, alive=lambda: follower.is_alive)
    listener = Listener(settings.gateway, gateway.app)
    try:
        process.ready(url=await listener.start())
        following = asyncio.ensure_future(follower.run())
        await asyncio.wait({following, asyncio.ensure_future(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
        follower.stopping.set()
        await following
    finally:
        follower.stopping.set()
        await listener.close()
        history.close()
        log_reader.close()


class Follower:
    """The thread that reads Kafka, and its way into the loop."""

    def __init__(self, feed: Feed, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self.stopping = threading.Event()
        self.is_alive = True
        self._feed = feed
        self._hub = hub
        self._loop = loop
        self._room = threading.Semaphore(_UPDATES_AHEAD)

    async def run(self) -> None:
        """Follow until `stopping` is set. Raises BrokerError."""
        try:
            await asyncio.to_thread(self._feed.follow, self.stopping, self._deliver)
        finally:
            self.is_alive = False

    def _deliver(self, update: Update) -> None:
        while not self._room.acquire(timeout=0.1):
            if self.stopping.is_set():
                return
        self._loop.call_soon_threadsafe(self._apply, update)

    def _apply(self, update: Update) -> None:
        self._room.release()
        self._hub.apply(update)
