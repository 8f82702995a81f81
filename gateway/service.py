"""The gateway's process: a thread that follows Kafka, and the event loop that serves clients."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Final

from aiohttp import web

from gateway.app import Gateway
from gateway.catchup import LogReader
from gateway.feed import Feed
from gateway.history import History
from gateway.hub import Hub
from gateway.market import Market, Update
from infra import logs, provision
from infra.process import Process
from infra.registry.client import connect
from infra.settings import Settings
from schemas.codec import Codec
from schemas.errors import SettingsError

_SHUTDOWN_SECONDS: Final = 5.0
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
    tls = _tls(settings)
    runner = web.AppRunner(
        Gateway(settings, hub, history, log_reader, codec=codec, alive=lambda: follower.is_alive).app,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        host, port = settings.gateway.host, settings.gateway.port
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_GATEWAY__PORT={port}: cannot listen on {host} ({error.strerror}); "
                "choose another port, or 0 for any free one"
            ) from error
        bound = runner.addresses[0][1]
        process.ready(url=f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{bound}")
        following = asyncio.ensure_future(follower.run())
        await asyncio.wait({following, asyncio.ensure_future(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
        follower.stopping.set()
        await following
    finally:
        follower.stopping.set()
        await runner.cleanup()
        history.close()
        log_reader.close()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    certificate, key = settings.gateway.tls_certificate, settings.gateway.tls_key
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"ARBITREX_GATEWAY__TLS_CERTIFICATE={certificate}: cannot be used with its key ({error}); give both as PEM"
        ) from error
    return context


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
