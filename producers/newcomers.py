"""Symbols that the broker offers only after the shard has started: noticed, said, and collected from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from infra import logs
from producers.failures import TryAgainError
from producers.naming import canonical
from producers.poll import Poller
from producers.restore import Past, Standing
from producers.shard import Shard, begin, newly_offered, tell
from producers.terminal import SymbolInfo
from schemas.errors import SettingsError, UsageError
from schemas.records import EventKind

EVERY_MS: Final = 60_000

log = logs.logger(__name__)


class Newcomers:
    """Of one shard."""

    def __init__(
        self,
        standing: Standing,
        recall: Callable[[Standing], Past],
        refuse_foreign: Callable[[Iterable[str]], None],
    ) -> None:
        """``standing``: of the feed, at the start.

        ``recall``: what was published of series that are kept; ``refuse_foreign``: raises UsageError for other
        feeds' symbols.
        """
        self._standing, self._recall, self._refuse_foreign = standing, recall, refuse_foreign
        self._looked: int | None = None
        self._refused: set[str] = set()
        """Broker's names that cannot be taken in."""

    def look(self, shard: Shard, poller: Poller, infos: Mapping[str, SymbolInfo]) -> Mapping[str, SymbolInfo]:
        """Once a minute: have ``poller`` poll what is new beside ``infos``; that, by canonical name.

        Not while Kafka is away, since a series begins there. A new one begins behind the shard's watermark; one that
        was collected before goes on. Raises what `newly_offered` raises, but for what may be better the next time.
        """
        now = shard.clock.now_ms()
        if self._looked is None:
            self._looked = now
        if abs(now - self._looked) < EVERY_MS or not shard.publisher.flush(0):
            return {}
        self._looked = now
        try:
            offered = newly_offered(shard, {info.name for info in infos.values()} | self._refused)
        except TryAgainError:
            return {}
        fresh = self._admitted(shard, infos, offered)
        if fresh:
            self._begin(shard, poller, fresh)
        return fresh

    def _admitted(
        self, shard: Shard, infos: Mapping[str, SymbolInfo], offered: Mapping[str, SymbolInfo]
    ) -> dict[str, SymbolInfo]:
        found: dict[str, SymbolInfo] = {}
        for name, info in offered.items():
            beside = {each.name: each for each in [*infos.values(), *found.values(), info]}
            try:
                symbols = canonical(shard.symbols, shard.publisher.feed, beside)
                symbol = next(symbol for symbol, each in symbols.items() if each.name == name)
                self._refuse_foreign([symbol])
            except (SettingsError, UsageError) as error:
                self._refused.add(name)
                tell(shard, EventKind.DISCONNECTED, f"it is offered now, but left out: {error}", name)
                log.warning("a symbol that is offered now is left out", reason=str(error))
            else:
                found[symbol] = info
        return found

    def _begin(self, shard: Shard, poller: Poller, fresh: Mapping[str, SymbolInfo]) -> None:
        for symbol, info in fresh.items():
            tell(shard, EventKind.CONNECTED, "the broker offers it now", symbol)
            log.info("the broker offers a new symbol", symbol=symbol, broker_name=info.name)
        since = max(poller.watermark + 1, shard.clock.now_ms() - EVERY_MS)
        past = self._recall(self._standing.of(fresh))
        cursors = begin(shard, since, fresh, past.cursors)
        poller.add(cursors, {symbol: info.name for symbol, info in fresh.items()}, past.recent)
