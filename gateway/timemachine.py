"""The time machine of a connection: it takes it into the past, steers the replay, and brings it back."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from gateway.hub import Client, Hub
from gateway.player import Player, Voice
from gateway.protocol import RESTING, TO_LIVE, Code, Seek, Steer, Stream
from gateway.replay import Replays
from infra import logs

log = logs.logger(__name__)


class TimeMachine:
    """At most one replay. Subscriptions of what has a past rest while there is one."""

    def __init__(self, client: Client, hub: Hub, replays: Replays, voice: Voice) -> None:
        self.resting: dict[Stream, int] = {}
        """Subscriptions that go on when the connection comes back, with their intervals."""
        self._client, self._hub, self._replays, self._voice = client, hub, replays, voice
        self._player: Player | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def seek(self) -> Seek | None:
        """What is played; None: the connection is not in the past."""
        return self._player.seek if self._player else None

    def go(self, seek: Seek) -> None:
        """Into the past; a replay that there is ends. Raises BusyError when there are too many."""
        player = Player(seek, self._replays, self._hub, self._voice)
        if self._player is not None:
            self._replays.slots.free(self._player)
        self._replays.slots.take(player)
        self._stop()
        self._player = player
        self._rest()
        task = asyncio.create_task(self._run(player))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def steer(self, command: Steer) -> None:
        """Do what the client says of its replay: leave the past at once, or something in it."""
        if command.method == TO_LIVE:
            self._stop()
            self._wake()
        elif self._player is not None:
            self._player.steer(command)

    def give_up(self, streams: Iterable[Stream]) -> list[Stream]:
        """Those of the streams that rested."""
        return [stream for stream in streams if self.resting.pop(stream, None) is not None]

    async def close(self) -> None:
        """End what there is."""
        tasks = list(self._tasks)
        self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, player: Player) -> None:
        try:
            if await player.run():
                self._arrive(player)  # no pause before it: what comes next comes live
        except Exception:
            log.exception("a replay failed")
            text = "the replay cannot go on: an error of the gateway"
            self._voice.refuse(player.seek.refusal(Code.INTERNAL, text))
            player.end()
        finally:
            self._replays.slots.free(player)

    def _arrive(self, player: Player) -> None:
        streams = player.seek.streams
        by_channel = _by_channel(streams)
        player.tell("live", cursors={channel: self._hub.cursor(channel) for channel in by_channel})
        self._player = None
        for channel, mine in by_channel.items():
            self._hub.subscribe(self._client, channel, mine)
        self._wake(but=streams)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._player is not None:
            self._replays.slots.free(self._player)
            self._player = None

    def _rest(self) -> None:
        held = self._hub.clients[self._client]
        self.resting |= {stream: interval for stream, interval in held.items() if stream.channel in RESTING}
        for channel, streams in _by_channel(self.resting).items():
            self._hub.unsubscribe(self._client, channel, streams)

    def _wake(self, but: Collection[Stream] = ()) -> None:
        """Subscriptions go on; each channel's begin with the state as it is now."""
        resting, self.resting = self.resting, {}
        for channel, streams in _by_channel(stream for stream in resting if stream not in but).items():
            self._voice.answer(self._hub.snapshots(channel, streams))
            for interval in {resting[stream] for stream in streams}:
                alike = [stream for stream in streams if resting[stream] == interval]
                self._hub.subscribe(self._client, channel, alike, interval)
        self._voice.list_all()


def _by_channel(streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    found: dict[str, list[Stream]] = {}
    for stream in streams:
        found.setdefault(stream.channel, []).append(stream)
    return found
