"""The producer: one terminal's ticks into ``ticks.raw``."""

from __future__ import annotations

from typing import Final

from infra import logs, provision
from infra.process import Process
from infra.registry.client import connect as connect_registry
from infra.settings import Settings
from infra.symbols import Symbols
from producers import sources
from producers.failures import TerminalAwayError
from producers.naming import canonical, refuse_foreign
from producers.poll import Poller
from producers.publisher import Publisher
from producers.restore import restore
from producers.shard import Shard, begin, choose, connect, disconnected

_STOP_SECONDS: Final = 3.0

log = logs.logger(__name__)


def run(settings: Settings, process: Process) -> None:
    """Poll until asked to stop. Raises ArbitrexError when it cannot go on."""
    producer = settings.producer
    if producer.source == "none":
        process.ready(source="none")
        process.stopping.wait()
        return
    sources.check(settings)
    provision.wait_until_there(settings, process.stopping)
    if process.stopping.is_set():
        return
    if producer.source == "simulated" and settings.simulator.start is not None:
        provision.apply(settings, historical=True)  # or retention would take the past as fast as it is published
    codec = connect_registry(settings, process.stopping)
    standing = restore(settings, codec, feed=producer.feed, shard=producer.shard)
    source = sources.open_source(settings, standing.cursors)
    publisher = Publisher(settings, codec, process.stopping, feed=producer.feed, shard=producer.shard)
    shard = Shard(
        source.terminal,
        sources.zone(settings),
        source.clock,
        publisher,
        producer,
        Symbols.read(settings.symbols_file),
        process.stopping,
    )
    try:
        if not connect(shard):
            return
        infos = canonical(shard.symbols, producer.feed, choose(shard))
        refuse_foreign(settings, codec, infos, producer.feed)
        cursors = begin(shard, source.begin_ms, infos, standing.cursors)
        names = {symbol: info.name for symbol, info in infos.items()}
        poller = Poller(shard, cursors, names, watermark=standing.watermark)
        process.ready(source=producer.source, feed=producer.feed, symbols=len(infos))
        _poll(poller, shard)
        poller.save(wait=_STOP_SECONDS, force=True)
    finally:
        shard.terminal.shutdown()
        publisher.close()


def _poll(poller: Poller, shard: Shard) -> None:
    while not shard.stopping.is_set():
        try:
            poller.cycle()
        except TerminalAwayError as error:
            log.warning("terminal away", reason=str(error))
            disconnected(shard, error)
            if not connect(shard):
                return
            poller.connected()
        shard.stopping.wait(shard.settings.poll_ms / 1_000)
        poller.save()
