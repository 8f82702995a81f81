"""``arbitrex watch``: live quotes in the terminal, over the gateway's socket."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.cli.stopping import stopping
from infra.iso import iso
from schemas.errors import ComponentError, UsageError

if TYPE_CHECKING:
    from threading import Event

    from rich.table import Table

    from gateway.client import Client, Message
    from infra.settings import Settings

_INTERVAL_MS: Final = 200
_NOT_AUTHENTICATED: Final = 401


@dataclass(slots=True)
class Quote:
    """What is shown of one symbol."""

    tick: dict[str, Any]
    way: str = ""
    """The colour of where the bid went."""


@dataclass(slots=True)
class Board:
    """All that is shown."""

    url: str
    quotes: dict[str, Quote] = field(default_factory=dict)
    state: str = "connecting"
    problem: str = ""
    newest: int | None = None
    """The newest tick of any symbol, as heartbeats tell."""
    answered: int = 0
    """How many of the subscriptions."""

    def take(self, message: Message) -> None:
        """What the gateway told. Raises GatewayError when it wants a token."""
        from gateway.client import GatewayError

        match message.channel, message.type:
            case _, "error":
                self.problem = message.raw["error"]
                self.answered += 1
                if message.raw["code"] == _NOT_AUTHENTICATED:
                    raise GatewayError(self.problem)
            case "connection", state:
                self.state = state
            case "heartbeat", _:
                self.newest = message.rows[0]["newest"]["ticks"]
            case "ticks", "update" | "snapshot" as kind:
                self.answered += kind == "snapshot"
                for row in message.rows:
                    self._quote(row)

    def _quote(self, row: dict[str, Any]) -> None:
        before = self.quotes.get(row["symbol"])
        way = before.way if before else ""
        if before is not None and row["bid"] != before.tick["bid"]:
            way = "green" if row["bid"] > before.tick["bid"] else "red"
        self.quotes[row["symbol"]] = Quote(row, way)

    def table(self, now_ms: int) -> Table:
        from rich.table import Table

        quiet = "" if self.newest is None else f", newest tick {max(0, now_ms - self.newest) / 1_000:.1f} s ago"
        table = Table(title=f"{self.url}: {self.state}{quiet}", caption=self.problem or None, title_justify="left")
        for name in ("symbol", "bid", "ask", "spread", "time (UTC)", "age"):
            table.add_column(name, justify="left" if name == "symbol" else "right", no_wrap=True)
        for symbol, quote in sorted(self.quotes.items()):
            tick = quote.tick
            digits = max(_decimals(tick["bid"]), _decimals(tick["ask"]))
            age = max(0, now_ms - tick["ts_event"]) / 1_000
            table.add_row(
                symbol, f"[{quote.way}]{tick['bid']:.{digits}f}[/]" if quote.way else f"{tick['bid']:.{digits}f}",
                f"{tick['ask']:.{digits}f}", f"{tick['ask'] - tick['bid']:.{digits}f}",
                iso(tick["ts_event"])[11:-1], f"{age:.1f} s",
            )  # fmt: skip
        return table


def watch(
    symbols: Annotated[
        list[str] | None, typer.Argument(help="Symbols or patterns such as 'EUR*'; all unless said.")
    ] = None,
    *,
    url: Annotated[str | None, typer.Option(help="The gateway; that of the running stack unless said.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the newest quotes and end.")] = False,
) -> None:
    """Show live quotes until Ctrl-C: bid, ask, spread and age of each symbol's newest tick.

    A lost connection comes back by itself. A gateway that asks for a token is shown ARBITREX_GATEWAY__TOKEN.

        arbitrex watch EURUSD XAUUSD
        arbitrex watch 'EUR*' --url https://gateway.example:8080
    """
    from gateway.client import Client, GatewayError
    from infra.settings import load

    settings = load()
    address, token = (url or _address(settings)).rstrip("/"), settings.gateway.token
    board = Board(address)
    client = Client(address, token=token.get_secret_value() if token else None, slow="conflate")
    with stopping() as stop:
        try:
            asyncio.run(_watch(client, board, symbols or ["*"], stop, once=once))
        except GatewayError as error:
            raise ComponentError(f"{address}: {error}; give a token in ARBITREX_GATEWAY__TOKEN") from error


async def _watch(client: Client, board: Board, symbols: list[str], stop: Event, *, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    async with client:
        await client.subscribe("ticks", *symbols, interval=_INTERVAL_MS)
        if once:
            await _listen(client, board, len(symbols), once=True)
            console.print(board.table(_now()))
            return
        listening = asyncio.create_task(_listen(client, board, len(symbols)))
        try:
            with Live(console=console, auto_refresh=False, screen=sys.stdout.isatty()) as live:
                while not (stop.is_set() or listening.done()):
                    live.update(board.table(_now()), refresh=True)
                    await asyncio.sleep(_INTERVAL_MS / 1_000)
            if listening.done():
                listening.result()
        finally:
            listening.cancel()


async def _listen(client: Client, board: Board, wanted: int, *, once: bool = False) -> None:
    async for message in client:
        board.take(message)
        if once and message.type == "lost":
            raise ComponentError(
                f"the gateway at {board.url} does not answer; start it with arbitrex up, or give --url"
            )
        if board.answered >= wanted:
            if board.problem and not board.quotes:
                raise UsageError(f"{board.problem}; arbitrex watch without symbols shows all there are")
            if once:
                return


def _address(settings: Settings) -> str:
    from infra import ports
    from infra.supervisor.runfile import read

    run, gateway = read(settings.home), settings.gateway
    if run is not None:
        return run.page
    return ports.url(gateway.host, gateway.port, tls=gateway.tls_certificate is not None)


def _decimals(price: float) -> int:
    return len(f"{price:.10f}".rstrip("0").partition(".")[2])


def _now() -> int:
    return time.time_ns() // 1_000_000
