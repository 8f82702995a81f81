"""A client of the gateway for Python: it comes back by itself and goes on exactly where it was.

    async with Client("http://127.0.0.1:8080") as client:
        await client.subscribe("ticks", "EURUSD", "XAU*")
        async for message in client:
            print(message.channel, message.type, message.rows)

It needs aiohttp only, so the file may be copied. docs/websocket.md says what the messages mean.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

RESUMABLE: Final = frozenset({"ticks", "bars", "events"})
_WITH_TIMEFRAME: Final = frozenset({"bars", "bars.live"})
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 15.0
_MISSED_HEARTBEATS: Final = 3
_USUAL_HEARTBEAT: Final = 5.0
_FATAL_STATUS: Final = frozenset({400, 401, 403, 404})
_FATAL_CLOSE: Final = frozenset({4401, 4402, 4404})
_LARGEST_MESSAGE: Final = 64 * 1024 * 1024
_SYNTAX, _NOT_RESUMED = 400, 500


class GatewayError(Exception):
    """The gateway refuses us, and asking again would not help."""


@dataclass(frozen=True, slots=True)
class Message:
    """What the gateway told, or ``connection`` with ``connected`` or ``lost``."""

    channel: str
    type: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict)
    """All of it."""


@dataclass(frozen=True, slots=True)
class _Stream:
    channel: str
    symbol: str
    timeframe: str = "*"


class Client:
    """One connection that outlives its sockets. ``cursors``: where an earlier client stood, to go on from."""

    def __init__(
        self, url: str, *, token: str | None = None, slow: str = "close", cursors: Mapping[str, str] = {}
    ) -> None:
        self.cursors = dict(cursors)
        """By channel, where the messages that were given out end; keep it to go on from there in another process."""
        self._address = f"{url.rstrip('/')}/v1/ws?slow={slow}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._wanted: dict[_Stream, dict[str, Any]] = {}
        self._catching_up: set[str] = set()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._heartbeat = _USUAL_HEARTBEAT
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        await self._http.close()

    async def subscribe(
        self,
        channel: str,
        *symbols: str,
        timeframes: Iterable[str] = ("*",),
        interval: int = 0,
        snapshot: bool | int = True,
    ) -> None:
        """Follow symbols or patterns, now and after every reconnection. Refusals come as messages of type ``error``."""
        terms: dict[str, Any] = {"snapshot": snapshot} | ({"interval": interval} if interval else {})
        streams = _streams(channel, symbols, timeframes)
        self._wanted |= dict.fromkeys(streams, terms)
        await self._say("subscribe", _params(channel, streams) | terms)

    async def unsubscribe(self, channel: str, *symbols: str, timeframes: Iterable[str] = ("*",)) -> None:
        """Give up what was subscribed to in the same words."""
        streams = _streams(channel, symbols, timeframes)
        for stream in streams:
            self._wanted.pop(stream, None)
        await self._say("unsubscribe", _params(channel, streams))

    async def __aiter__(self) -> AsyncIterator[Message]:
        """All messages, until the client is closed. Raises GatewayError."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._http.ws_connect(self._address, max_msg_size=_LARGEST_MESSAGE) as socket:
                    pause = _FIRST_PAUSE
                    self._socket = socket
                    await self._follow_again(socket)
                    yield Message("connection", "connected")
                    async for message in self._heard(socket):
                        yield message
            except aiohttp.WSServerHandshakeError as error:
                if error.status in _FATAL_STATUS:
                    raise GatewayError(f"the gateway answers {error.status}: {error.message}") from error
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            self._socket = None
            if self._closed:
                return
            yield Message("connection", "lost")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _heard(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[Message]:
        while True:
            received = await socket.receive(timeout=_MISSED_HEARTBEATS * self._heartbeat)
            if received.type is aiohttp.WSMsgType.CLOSE and received.data in _FATAL_CLOSE:
                raise GatewayError(f"the gateway closed the connection: {received.extra}")
            if received.type is not aiohttp.WSMsgType.TEXT:
                return
            raw = json.loads(received.data)
            message = await self._understood(raw)
            if message is not None:
                yield message
            self._stands(raw)

    async def _understood(self, raw: dict[str, Any]) -> Message | None:
        channel, kind = raw.get("channel", ""), raw.get("type", "")
        if raw.get("success") is False:
            return await self._refused(raw)
        if raw.get("method"):
            return None
        if channel == "status" and kind == "snapshot":
            self._heartbeat = raw["heartbeat_interval"] / 1_000
        if kind == "resumed":
            await self._caught_up(channel)
        return Message(channel, kind, raw["data"], raw)

    async def _refused(self, raw: dict[str, Any]) -> Message:
        channel = raw.get("channel") or next(iter(self._catching_up), "")
        if raw["code"] in {_SYNTAX, _NOT_RESUMED} and channel in self._catching_up:
            self.cursors.pop(channel, None)
            await self._caught_up(channel)
            streams = [stream for stream in self._wanted if stream.channel == channel]
            await self._say("subscribe", _params(channel, streams))
            return Message(channel, "history_lost", [{"reason": "refused", "error": raw["error"]}], raw)
        return Message(channel, "error", [], raw)

    def _stands(self, raw: dict[str, Any]) -> None:
        """Once a message was given out, what comes next is where it ends."""
        channel = raw.get("channel")
        if isinstance(cursor := raw.get("cursor"), str) and raw.get("type") not in {"skipped", "history_lost"}:
            self.cursors[str(channel)] = cursor
        elif channel == "heartbeat":
            followed = {stream.channel for stream in self._wanted} - self._catching_up
            self.cursors |= {name: at for name, at in raw["data"][0]["cursors"].items() if name in followed}

    async def _follow_again(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._catching_up.clear()
        self._waiting.clear()
        for channel in dict.fromkeys(stream.channel for stream in self._wanted):
            mine = {stream: terms for stream, terms in self._wanted.items() if stream.channel == channel}
            whole = [stream for stream, terms in mine.items() if "interval" not in terms]
            cursor = self.cursors.get(channel)
            if cursor and whole and channel in RESUMABLE:
                self._catching_up.add(channel)
                await _send(socket, "subscribe", _params(channel, whole) | {"cursor": cursor})
                mine = {stream: terms for stream, terms in mine.items() if "interval" in terms}
            for stream, terms in mine.items():
                await self._say("subscribe", _params(channel, [stream]) | terms)

    async def _caught_up(self, channel: str) -> None:
        self._catching_up.discard(channel)
        waiting, self._waiting = self._waiting, []
        for method, params in waiting:
            await self._say(method, params)

    async def _say(self, method: str, params: dict[str, Any]) -> None:
        if params["channel"] in self._catching_up:
            self._waiting.append((method, params))
        elif self._socket is not None and not self._socket.closed:
            await _send(self._socket, method, params)


async def _send(socket: aiohttp.ClientWebSocketResponse, method: str, params: dict[str, Any]) -> None:
    try:
        await socket.send_str(json.dumps({"method": method, "params": params}))
    except ConnectionError:
        return  # whoever listens notices, and comes back


def _streams(channel: str, symbols: Iterable[str], timeframes: Iterable[str]) -> list[_Stream]:
    return [
        _Stream(channel, symbol, timeframe)
        for symbol in symbols
        for timeframe in (timeframes if channel in _WITH_TIMEFRAME else ("*",))
    ]


def _params(channel: str, streams: Iterable[_Stream]) -> dict[str, Any]:
    if channel in _WITH_TIMEFRAME:
        return {"channel": channel, "series": [[stream.symbol, stream.timeframe] for stream in streams]}
    return {"channel": channel, "symbol": [stream.symbol for stream in streams]}
