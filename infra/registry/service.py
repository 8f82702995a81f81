"""The embedded registry as a component."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from infra.registry.catalog import Catalog
from infra.registry.journal import Journal
from infra.registry.server import EmbeddedRegistry
from infra.waiting import patiently
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from infra.process import Process
    from infra.settings import Settings


def run(settings: Settings, process: Process) -> None:
    """Serve until asked to stop. Raises BrokerError when Kafka is away, FencedError when another took over."""
    journal = Journal(settings.kafka)
    catalog = Catalog()
    for key, value in patiently(journal.open, BrokerError, "Kafka", process.stopping):
        catalog.apply(key, value)
    try:
        asyncio.run(_serve(settings, process, catalog, journal))
    finally:
        journal.close()


async def _serve(settings: Settings, process: Process, catalog: Catalog, journal: Journal) -> None:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not asked.done():
            asked.set_result(None)

    def stop_from_any_thread() -> None:
        with suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop)

    process.on_stop(stop_from_any_thread)
    server = EmbeddedRegistry(settings.registry, catalog, journal)
    url = await server.start()
    try:
        process.ready(url=url)
        await asyncio.wait([asked, server.failed], return_when=asyncio.FIRST_COMPLETED)
        if server.failed.done():
            server.failed.result()
    finally:
        await server.stop()
