"""A client of the gateway for Python: it comes back by itself and goes on exactly where it was.

    async with Client("http://127.0.0.1:8080") as client:
        await client.subscribe("ticks", "EURUSD", "XAU*")
        async for message in client:
            print(message.channel, message.type, message.rows)

`seek` takes it into the past; there as well it goes on where it was. It needs aiohttp only, so the file may be copied.
docs/websocket.md says what the messages mean.
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
_SYNTAX, _INTERNAL = 400, 500
_RESTING: Final = frozenset({"ticks", "bars", "bars.live"})
"""Channels that rest while the connection is in the past."""


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


@dataclass(slots=True)
class _Replay:
    """Where we are in the past, so that another connection can go on there."""

    params: dict[str, Any]
    time: int
    before: _Replay | None = None
    """What was played, if this one is refused."""
    id: int = 0
    cursor: str | None = None
    """Where the messages that were given out end."""
    accepted: bool = False


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
        self._waiting: list[tuple[str, dict[str, Any], int | None]] = []
        self._replay: _Replay | None = None
        self._leaving: _Replay | None = None
        self._seeks = 0
        self._resumed = False
        """This connection was in the past from its beginning on: it has told the gateway of no subscription."""
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

    async def seek(
        self,
        time: int,
        *symbols: str,
        timeframes: Iterable[str] = (),
        to: int | None = None,
        speed: float | str = 1,
        paused: bool = False,
    ) -> None:
        """Go to a moment (UTC epoch milliseconds) and play symbols from there, with closed bars of some timeframes.

        Rows come in messages of type ``replay``, the state on the channel ``replay``. Without ``to`` the replay runs
        into the present, where what it played is followed. ``speed``: 0.1 to 10,000, or ``max``.
        """
        params: dict[str, Any] = {"time": time, "symbol": list(symbols), "speed": speed, "paused": paused}
        params |= {"timeframe": list(timeframes)} if timeframes else {}
        self._replay = _Replay(params if to is None else params | {"to": to}, time, self._replay)
        await self._go_back()

    async def speed(self, speed: float | str) -> None:
        """Play at another speed: 0.1 to 10,000, or ``max``."""
        await self._steer("speed", {"speed": speed}, speed=speed)

    async def pause(self) -> None:
        await self._steer("pause", {}, paused=True)

    async def resume(self) -> None:
        await self._steer("resume", {}, paused=False)

    async def step(self, ticks: int = 1, *, timeframe: str | None = None) -> None:
        """Go on by some ticks, or to the next close of a timeframe, and pause; nothing without a connection."""
        await self._steer("step", {"timeframe": timeframe} if timeframe else {"ticks": ticks}, paused=True)

    async def live(self) -> None:
        """Leave the past; subscriptions go on with a snapshot."""
        self._leaving = self._replay
        if self._socket is None:
            self._replay = None
        await self._say("live", {})

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
            message, replay = await self._understood(raw), self._replay
            if message is not None:
                yield message
            self._stands(raw, replay)
            if raw.get("channel") == "replay":
                await self._played(raw["data"][0])

    async def _understood(self, raw: dict[str, Any]) -> Message | None:
        channel, kind = raw.get("channel", ""), raw.get("type", "")
        if raw.get("success") is False:
            return await self._refused(raw)
        if raw.get("method"):
            await self._acknowledged(raw["method"], raw.get("req_id"))
            return None
        if kind == "replay":  # nothing of a replay that is being replaced
            return Message(channel, kind, raw["data"], raw) if self._replay and self._replay.accepted else None
        if channel == "status" and kind == "snapshot":
            self._heartbeat = raw["heartbeat_interval"] / 1_000
        if kind == "resumed":
            await self._caught_up(channel)
        return Message(channel, kind, raw["data"], raw)

    async def _refused(self, raw: dict[str, Any]) -> Message:
        channel = raw.get("channel") or next(iter(self._catching_up), "")
        if raw.get("method") == "seek":
            replay = self._replay
            if raw["code"] != _INTERNAL and replay and raw.get("req_id") == replay.id:
                if raw["code"] == _SYNTAX and replay.cursor is not None:
                    replay.cursor = None
                    replay.params["time"] = replay.time
                    await self._go_back()
                    return Message("replay", "history_lost", [{"reason": "refused", "error": raw["error"]}], raw)
                self._replay = replay.before
                await (self._go_back() if self._replay else self._back())
        elif raw["code"] in {_SYNTAX, _INTERNAL} and channel in self._catching_up:
            self.cursors.pop(channel, None)
            for stream, terms in self._wanted.items():
                if stream.channel == channel and "interval" not in terms:  # those with one were not refused
                    self._waiting.append(("subscribe", _params(channel, [stream]) | terms, None))
            await self._caught_up(channel)
            return Message(channel, "history_lost", [{"reason": "refused", "error": raw["error"]}], raw)
        return Message(channel, "error", [], raw)

    async def _go_back(self) -> None:
        """Ask for the replay: from where we are in it, if it is not the first time."""
        if self._replay:
            self._seeks += 1
            self._replay.id, self._replay.accepted = self._seeks, False
            there = {"cursor": self._replay.cursor} if self._replay.cursor else {}
            await self._say("seek", self._replay.params | there, self._seeks)

    async def _acknowledged(self, method: str, req_id: object) -> None:
        replay = self._replay
        if method == "seek" and replay and replay.id == req_id:
            replay.accepted, replay.before = True, None
        elif method == "live" and replay is self._leaving:
            self._replay = None
            await self._back()

    async def _played(self, state: dict[str, Any]) -> None:
        """Once the state of a replay was given out, another connection would go on there."""
        replay = self._replay
        while replay and not replay.accepted:  # it is being replaced
            replay = replay.before
        if replay is None:
            return
        replay.time = state["time"]
        replay.params |= {"speed": state["speed"], "paused": state["state"] == "paused"}
        if state["state"] == "ended":
            replay.time = replay.params["to"]
        if state["state"] == "live":
            self.cursors |= state["cursors"]
            symbols, timeframes = replay.params["symbol"], replay.params.get("timeframe", ())
            played = [*_streams("ticks", symbols, ()), *_streams("bars", symbols, timeframes)]
            self._wanted |= {stream: {"snapshot": False} for stream in played}
            if replay is self._replay:
                self._replay = None
                await self._back(played)

    async def _back(self, known: Iterable[_Stream] = ()) -> None:
        """In the present again: the gateway is told what it does not know yet."""
        if self._resumed:
            self._resumed = False
            missing = {stream: terms for stream, terms in self._wanted.items() if stream.channel in _RESTING}
            for stream in known:
                missing.pop(stream, None)
            self._waiting += [
                ("subscribe", _params(each.channel, [each]) | terms, None) for each, terms in missing.items()
            ]
        await self._flush()

    def _stands(self, raw: dict[str, Any], replay: _Replay | None) -> None:
        """Once a message was given out, what comes next is where it ends; ``replay``: what there was before."""
        channel = raw.get("channel")
        cursor = raw.get("cursor")
        if channel == "replay" or raw.get("type") == "replay":
            if replay and replay.accepted and cursor:
                replay.cursor = cursor
        elif isinstance(cursor, str) and raw.get("type") not in {"skipped", "history_lost"}:
            self.cursors[str(channel)] = cursor
        elif channel == "heartbeat":
            followed = {stream.channel for stream in self._wanted} - self._catching_up
            followed -= _RESTING if self._replay else set()
            self.cursors |= {name: at for name, at in raw["data"][0]["cursors"].items() if name in followed}

    async def _follow_again(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._catching_up.clear()
        self._waiting.clear()
        wanted = dict.fromkeys(stream.channel for stream in self._wanted)
        self._resumed = self._replay is not None
        if self._replay:
            self._replay.before = None
            await self._go_back()
            wanted = {channel: None for channel in wanted if channel not in _RESTING}
        for channel in wanted:
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
        await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for method, params, req_id in waiting:
            await self._say(method, params, req_id)

    async def _steer(self, method: str, params: dict[str, Any], **changed: Any) -> None:
        if self._replay:
            self._replay.params |= changed
        await self._say(method, params)

    async def _say(self, method: str, params: dict[str, Any], req_id: int | None = None) -> None:
        channel = params.get("channel")
        if channel is None:
            waits = bool(self._catching_up & _RESTING)
        else:
            waits = channel in self._catching_up or (self._replay is not None and channel in _RESTING)
        if waits:
            self._waiting.append((method, params, req_id))
        elif self._socket is not None and not self._socket.closed:
            await _send(self._socket, method, params, req_id)


async def _send(
    socket: aiohttp.ClientWebSocketResponse, method: str, params: dict[str, Any], req_id: int | None = None
) -> None:
    try:
        await socket.send_str(json.dumps({"method": method, "params": params, "req_id": req_id}))
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
