"""The producer: one terminal's ticks into ``ticks.raw``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from infra import logs, provision
from infra.market.zones import ServerZone
from infra.process import Process
from infra.registry.client import connect as connect_registry
from infra.settings import Settings
from infra.shards import shard as shard_settings
from infra.symbols import Symbols
from producers import sources
from producers.clocks import ClockSetBackError, ServerClockError, offset
from producers.failures import TerminalAwayError, TryAgainError, failure
from producers.naming import canonical, refuse_foreign
from producers.newcomers import Newcomers
from producers.poll import Poller
from producers.publisher import Publisher
from producers.restore import recall, restore
from producers.shard import (
    Shard,
    begin,
    choose,
    connect,
    count_recovery,
    disconnected,
    dropped,
    enter,
    reselect,
    specify,
    tell,
)
from producers.spooling import open_publisher
from producers.terminal import SymbolInfo
from producers.watched import Watched
from producers.zones import by_offset, detect
from schemas.codec import Codec
from schemas.records import EventKind

_STOP_SECONDS: Final = 3.0

log = logs.logger(__name__)


def run(settings: Settings, process: Process, name: str) -> None:
    """Poll the terminal of one shard until asked to stop. Raises ArbitrexError when it cannot go on."""
    settings = shard_settings(settings, name)
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
    watched = Watched()
    process.beat(watched.answers)
    publisher = open_publisher(settings, codec, process.stopping)
    if publisher is None:
        return
    try:
        _collect(settings, process, codec, publisher, watched)
    finally:
        publisher.close()


def _collect(settings: Settings, process: Process, codec: Codec, publisher: Publisher, watched: Watched) -> None:
    producer = settings.producer
    standing = restore(settings, codec, producer.feed)
    recalled = partial(recall, settings, codec, producer.feed, producer.shard)
    source = sources.open_source(settings, lambda: recalled(standing).cursors)
    zone = sources.zone(settings)
    shard = Shard(
        watched.over(source.terminal),
        zone or ServerZone.parse("UTC"),
        source.clock,
        publisher,
        producer,
        Symbols.read(settings.symbols_file),
        process.stopping,
    )
    try:
        entered = enter(shard, lambda: (choose(shard, standing.had_by(producer.shard)), zone or find_zone(shard)))
        if entered is None:
            return
        chosen, found_zone = entered
        shard = replace(shard, zone=found_zone)
        infos = canonical(shard.symbols, producer.feed, chosen.infos)
        refuse_foreign(settings, codec, infos, producer.feed)
        for symbol in sorted(chosen.absent):
            dropped(shard, symbol)
        past = recalled(standing.of(infos))
        cursors = begin(shard, source.begin_ms, infos, past.cursors)
        names = {symbol: info.name for symbol, info in infos.items()}
        poller = Poller(shard, cursors, names, recent=past.recent, watermark=past.watermark, absent=chosen.absent)
        process.ready(source=producer.source, feed=producer.feed, symbols=len(infos), zone=shard.zone.name)
        newcomers = Newcomers(standing, recalled, partial(refuse_foreign, settings, codec, feed=producer.feed))
        Rounds(shard, poller, infos, auto=zone is None, newcomers=newcomers).run()
    finally:
        shard.terminal.shutdown()


class Rounds:
    """One poll after the other, and what is done about what goes wrong."""

    def __init__(
        self, shard: Shard, poller: Poller, infos: Mapping[str, SymbolInfo], *, auto: bool, newcomers: Newcomers
    ) -> None:
        self._shard, self._poller, self._infos, self._auto = shard, poller, dict(infos), auto
        self._newcomers = newcomers
        self._told_offset = False

    def run(self) -> None:
        """Poll until asked to stop. Raises what `Poller.cycle` raises and nothing here can help."""
        stopping, pause = self._shard.stopping, self._shard.settings.poll_ms / 1_000
        while not stopping.is_set():
            try:
                self._poller.cycle()
                self._check_clock()
                self._infos |= self._newcomers.look(self._shard, self._poller, self._infos)
            except TerminalAwayError as error:
                self._reconnect(error)
            except ServerClockError as error:
                self._rezone(error)
            stopping.wait(pause)
            self._poller.save()
        self._poller.save(wait=_STOP_SECONDS, force=True)

    def _reconnect(self, error: TerminalAwayError) -> None:
        log.warning("terminal away", reason=str(error))
        disconnected(self._shard, error)
        if connect(self._shard):
            try:
                reselect(self._shard, self._infos)
            except (TerminalAwayError, TryAgainError) as again:
                log.warning("terminal away again", reason=str(again))  # the next poll finds it so
            else:
                count_recovery(self._shard, "reconnect")
            self._poller.connected()

    def _check_clock(self) -> None:
        """Say once when the server's clock and this machine's do not agree."""
        wrong = offset(self._poller.least_age) if self._poller.least_age is not None else None
        if wrong is not None and not self._told_offset:
            tell(self._shard, EventKind.CLOCK, wrong)
            log.warning("clocks do not agree", reason=wrong)
        self._told_offset = wrong is not None

    def _rezone(self, error: ServerClockError) -> None:
        """Go on in the zone to which the server's clock was moved, where the settings leave it to us.

        Set back, it shows times twice that the terminal cannot tell apart: then the shard stops.
        """
        shard, moved = self._shard, None
        now = shard.clock.now_ms()
        if self._auto and not isinstance(error, ClockSetBackError):
            moved = by_offset(self._poller.newest_shown - now, now, other_than=shard.zone)
        if moved is None:
            tell(shard, EventKind.CLOCK, str(error))
            raise error
        text = f"the server's clock was moved from {shard.zone.name} to {moved.name}"
        log.warning("zone changed", reason=text)
        tell(shard, EventKind.CLOCK, text)
        count_recovery(shard, "zone")
        self._poller.finish()
        self._shard = replace(shard, zone=moved)
        specify(self._shard, self._infos, now)
        self._poller = self._poller.in_zone(self._shard)


def find_zone(shard: Shard) -> ServerZone:
    """The zone that the broker's bars tell. Raises SettingsError when they tell none, or what `detect` raises."""
    offered = shard.terminal.symbols_get()
    if offered is None:
        raise failure("symbols_get", shard.terminal.last_error())
    zone = detect(shard.terminal, [info.name for info in offered], shard.clock.now_ms())
    tell(shard, EventKind.CLOCK, f"the server's clock runs in {zone.name}")
    return zone
