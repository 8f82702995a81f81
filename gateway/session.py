"""One WebSocket connection: commands in, answers and the market out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType

from gateway import answers, parsing
from gateway.access import Access, Grant
from gateway.catchup import LogReader
from gateway.cursor import Cursor
from gateway.frames import Frame
from gateway.hub import Hub
from gateway.limits import RateLimit
from gateway.market import Row
from gateway.outbox import Outbox, Slow
from gateway.patterns import is_pattern
from gateway.player import Voice
from gateway.problems import BusyError
from gateway.protocol import (
    RESTING,
    Authenticate,
    Code,
    ListSubscriptions,
    Message,
    Ping,
    Refusal,
    Seek,
    Steer,
    Step,
    Stream,
    Subscribe,
)
from gateway.replay import Replays
from gateway.socket import GOODBYE_SECONDS, Socket
from gateway.timemachine import TimeMachine
from gateway.wire import JSON, Wire
from infra import logs, metrics
from infra.settings import GatewaySettings
from schemas.errors import ArbitrexError

log = logs.logger(__name__)

OWN_CLOSE_CODES: Final = 4_000
"""A close code of ours is this plus the error's number."""
_ANSWER: Final = "answer"
"""In place of the channel, for metrics."""
_PATIENCE_SECONDS: Final = 10
"""Refused messages, in seconds' worth of the limit, that end a connection."""
_LONGEST_REASON: Final = 123
"""Bytes of a close frame that are left for the reason. Source: RFC 6455, 5.5."""
_AUTHENTICATION_SECONDS: Final = 10.0
_MOST_SNAPSHOT_ROWS: Final = 50_000
"""What one command may be answered with."""
_SLOWEST_PAGE_SECONDS: Final = 30.0
"""How long a client that catches up may take over one message."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asked for when it connected."""

    wire: Wire = JSON
    slow: Slow = Slow.CLOSE


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections share. ``now`` gives UTC epoch milliseconds."""

    hub: Hub
    limits: GatewaySettings
    timeframes: Sequence[str]
    access: Access
    log_reader: LogReader
    replays: Replays
    now: Callable[[], int]


class Session:
    """The life of one connection. ``grant``: what its token allows; None until it has shown one."""

    def __init__(self, socket: Socket, around: Surroundings, wishes: Wishes, grant: Grant | None) -> None:
        self.grant = grant
        self._socket = socket
        self._around = around
        self._hub, self._limits = around.hub, around.limits
        self._wire = wishes.wire
        bounds = self._limits.queue_messages, self._limits.queue_bytes
        self._outbox = Outbox(socket, wishes.wire, wishes.slow, bounds=bounds, newest=self._newest, full=self._too_slow)
        self.offer: Callable[[Frame], None] = self._outbox.offer
        """Queue a frame; a client that is too slow is dealt with as it wished."""
        self._budget = RateLimit(self._limits.max_messages_per_second)
        voice = Voice(self._outbox.answer, self._refuse, self._list, self._outbox.drained)
        self._machine = TimeMachine(self, self._hub, around.replays, voice)
        self._catching_up: dict[str, asyncio.Task[None]] = {}
        self._farewell: tuple[int, bytes] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    async def run(self) -> None:
        """Serve until either side closes."""
        self._hub.join(self)
        self._say(self._hub.status(round(self._limits.heartbeat_seconds * 1_000)))
        if len(self._hub.clients) > self._limits.max_connections:
            self.close(Code.CONNECTION_LIMIT, f"at most {self._limits.max_connections} connections")
        elif self.grant is None:
            self._timers.append(asyncio.get_running_loop().call_later(_AUTHENTICATION_SECONDS, self._still_unknown))
        tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._write())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks |= set(self._catching_up.values())
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._machine.close()
            self._hub.leave(self)
            for timer in self._timers:
                timer.cancel()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ClientConnectionResetError):
                raise result

    def close(self, code: Code | WSCloseCode, reason: str) -> None:
        """Close once the queue is written. An error of ours is told first and becomes a close code of ours."""
        if self._farewell is not None:
            return
        if isinstance(code, Code):
            self._refuse(Refusal(code, reason))
        number = code + OWN_CLOSE_CODES if isinstance(code, Code) else int(code)
        self._farewell = number, reason.encode()[:_LONGEST_REASON]
        self._timers.append(asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._socket.cut_off))
        self._outbox.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        async for message in self._socket:
            await self._outbox.drained.wait()  # answers are not bounded by the queue but by this
            if not self._budget.take(loop.time()):
                text = f"at most {self._budget.rate} messages a second"
                if self._budget.refused > _PATIENCE_SECONDS * self._budget.rate:
                    self.close(Code.TOO_MANY_MESSAGES, text)
                else:
                    self._refuse(Refusal(Code.TOO_MANY_MESSAGES, text))
            elif message.type is self._wire.frame_type:
                self._handle(message.data)
            else:
                what = "text" if self._wire.frame_type is WSMsgType.TEXT else "binary"
                self._refuse(Refusal(Code.SYNTAX, f"this connection speaks {self._wire.name}, in {what} frames"))

    async def _write(self) -> None:
        await self._outbox.run()
        assert self._farewell is not None  # noqa: S101 - what closes the outbox says why
        code, reason = self._farewell
        await self._socket.close(code=code, message=reason)

    def _handle(self, data: bytes | str) -> None:
        time_in = self._around.now()
        command = parsing.parse(data, self._around.timeframes, self._wire.load)
        match command:
            case Refusal():
                self._refuse(command)
            case Ping():
                self._say(answers.pong(command, time_in, self._around.now()))
            case Authenticate():
                self._authenticate(command, time_in)
            case _ if self.grant is None:
                text = "authenticate first, with the token that arbitrex token create printed"
                method = "subscriptions" if isinstance(command, ListSubscriptions) else command.method
                self._refuse(Refusal(Code.NOT_AUTHENTICATED, text, method, command.req_id))
            case ListSubscriptions():
                self._list(command.req_id, time_in)
            case Subscribe():
                self._change(command, self.grant, time_in)
            case Seek():
                self._seek(command, self.grant, time_in)
            case Steer():
                self._steer(command, time_in)

    def _authenticate(self, command: Authenticate, time_in: int) -> None:
        grant = self._around.access.grant(command.token)
        if grant is None:
            metrics.CLIENT_ERRORS.labels(Code.AUTHENTICATION_FAILED.value).inc()
            self.close(Code.AUTHENTICATION_FAILED, "the token is unknown, revoked or expired")
            return
        self.grant = grant
        self._budget = RateLimit(min(grant.rate or self._budget.rate, self._budget.rate))
        self._say(answers.authenticated(command, grant.scopes(), time_in, self._around.now()))

    def _change(self, command: Subscribe, grant: Grant, time_in: int) -> None:
        if command.channel in self._catching_up:
            text = f"{command.channel} is catching up; wait for its message of type resumed"
            self._refuse(command.refusal(Code.CATCHING_UP, text))
        elif command.adding and command.channel in RESTING and self._machine.seek is not None:
            text = f"{command.channel} rests while the connection is in the past; live brings it back"
            self._refuse(command.refusal(Code.IN_THE_PAST, text))
        elif command.cursor is not None:
            self._resume(command, command.cursor, grant, time_in)
        elif command.adding:
            taken = self._taken(command, grant, time_in)
            self._hub.subscribe(self, command.channel, taken, command.interval)  # nothing has come in between
        else:
            given_up = set(self._hub.unsubscribe(self, command.channel, command.streams))
            given_up.update(self._machine.give_up(command.streams))
            for stream in command.streams:
                if stream in given_up:
                    self._say(answers.accepted(command, stream, time_in, self._around.now()))
                else:
                    text = f"not subscribed to {stream.symbol}"
                    self._refuse(command.refusal(Code.NOT_SUBSCRIBED, text), stream)
        self._list(command.req_id, time_in)

    def _taken(self, command: Subscribe, grant: Grant, time_in: int) -> list[Stream]:
        """Answer each of the streams, with its snapshot; those that may be taken on."""
        taken, rows = [], 0
        for stream, refusal in self._decided(command, grant):
            snapshot = self._hub.snapshot(stream, command.snapshot) if command.snapshot and not refusal else None
            rows += len(snapshot["data"]) if snapshot else 0
            if refusal is None and rows > _MOST_SNAPSHOT_ROWS:
                text = f"the snapshots would hold more than {_MOST_SNAPSHOT_ROWS} rows; ask for fewer, or snapshot: 1"
                refusal = command.refusal(Code.TOO_LARGE, text)  # noqa: PLW2901 - one more reason
            if refusal is not None:
                self._refuse(refusal, stream)
                continue
            taken.append(stream)
            self._say(answers.accepted(command, stream, time_in, self._around.now()))
            if snapshot:
                self._say(snapshot)
        return taken

    def _resume(self, command: Subscribe, cursor: Cursor, grant: Grant, time_in: int) -> None:
        """Go on from a cursor; it stands for all subscriptions of a channel, so there may be none yet."""
        if any(stream.channel == command.channel for stream in self._hub.subscriptions(self)):
            text = f"a cursor comes with the first subscription of {command.channel}, in one message for all of them"
            self._refuse(command.refusal(Code.SYNTAX, text))
            return
        if taken := self._taken(command, grant, time_in):
            self._catching_up[command.channel] = asyncio.create_task(self._catch_up(command, cursor, taken))

    async def _catch_up(self, command: Subscribe, position: Cursor, streams: list[Stream]) -> None:
        channel, loop = command.channel, asyncio.get_running_loop()
        try:
            await self._hub.reached(position)
            while (missed := self._hub.since(position, streams)) is None:
                target = self._hub.cursors[channel]
                async for message in self._around.log_reader.read(position, target, streams):
                    self._outbox.answer(message)
                    async with asyncio.timeout_at(loop.time() + _SLOWEST_PAGE_SECONDS):
                        await self._outbox.drained.wait()
                position = target
        except TimeoutError:
            self._too_slow()
            return
        except ArbitrexError as error:
            self._refuse(command.refusal(Code.INTERNAL, f"cannot go on from there now: {error}"))
            return
        except Exception:
            log.exception("a client could not catch up")
            self._refuse(command.refusal(Code.INTERNAL, "cannot go on from there: an error of the gateway"))
            return
        finally:
            self._catching_up.pop(channel, None)
        for frame in missed:  # no pause from here on: what comes next comes live
            self._outbox.insist(frame)
        self._hub.subscribe(self, channel, streams)
        self._say(answers.data(channel, "resumed", [], cursor=self._hub.cursor(channel)))
        self._list(command.req_id, self._around.now())

    def _seek(self, command: Seek, grant: Grant, time_in: int) -> None:
        for stream, refusal in self._decided(command, grant):
            if refusal is not None:
                self._refuse(refusal, stream)
                return
        if catching_up := RESTING & self._catching_up.keys():
            text = f"{min(catching_up)} is catching up; wait for its message of type resumed"
            self._refuse(command.refusal(Code.CATCHING_UP, text))
            return
        try:
            self._machine.go(command)
        except BusyError as error:
            self._refuse(command.refusal(Code.REPLAY_LIMIT, str(error)))
        else:
            self._say(answers.sought(command, time_in, self._around.now()))

    def _steer(self, command: Steer, time_in: int) -> None:
        seek = self._machine.seek
        if seek is None:
            self._refuse(
                command.refusal(Code.NOT_IN_THE_PAST, "the connection is not in the past; seek takes it there")
            )
        elif isinstance(command, Step) and command.timeframe and command.timeframe not in seek.timeframes:
            text = f"seek named no timeframe {command.timeframe}"
            self._refuse(command.refusal(Code.INVALID_TIMEFRAME, text))
        else:
            self._say(answers.steered(command, time_in, self._around.now()))
            self._machine.steer(command)

    def _decided(self, command: Subscribe | Seek, grant: Grant) -> list[tuple[Stream, Refusal | None]]:
        """Which of the streams may not be taken on, and why."""
        held = self._hub.clients[self] | self._machine.resting
        free = self._limits.max_subscriptions - len(held)
        decided = []
        for stream in command.streams:
            refusal = None
            if not grant.allows(stream):
                refusal = command.refusal(Code.NOT_ALLOWED, grant.refusal(stream))
            elif not is_pattern(stream.symbol) and stream.symbol not in self._hub.market:
                refusal = command.refusal(Code.UNKNOWN_SYMBOL, f"unknown symbol {stream.symbol}")
            elif stream not in held and free < 1:
                text = f"at most {self._limits.max_subscriptions} subscriptions"
                refusal = command.refusal(Code.SYMBOL_LIMIT, text)
            else:
                free -= stream not in held
            decided.append((stream, refusal))
        return decided

    def _newest(self, channel: str) -> list[Row]:
        return self._hub.newest(self, channel)

    def _too_slow(self) -> None:
        limits = self._limits
        self._outbox.empty()
        text = f"slow client: {limits.queue_messages} messages or {limits.queue_bytes} bytes were waiting"
        self.close(Code.SLOW_CLIENT, text)

    def _still_unknown(self) -> None:
        if self.grant is None:
            self.close(Code.AUTHENTICATION_TIMEOUT, f"no token within {_AUTHENTICATION_SECONDS:.0f} seconds")

    def _list(self, req_id: int | str | None = None, time_in: int | None = None) -> None:
        now = self._around.now()
        streams = [*self._hub.subscriptions(self), *self._machine.resting]
        self._say(answers.listed(streams, req_id, now if time_in is None else time_in, now))

    def _refuse(self, refusal: Refusal, stream: Stream | None = None) -> None:
        metrics.CLIENT_ERRORS.labels(refusal.code.value).inc()
        now = self._around.now()
        self._say(answers.refused(refusal, now, now, stream))

    def _say(self, message: Message) -> None:
        metrics.CLIENT_MESSAGES.labels(_ANSWER).inc()
        self._outbox.answer(message)
