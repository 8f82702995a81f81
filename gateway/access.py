"""Who may see what: tokens and what they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.patterns import ALL, matches
from gateway.protocol import CHANNELS, Message, Stream
from gateway.tokens import Token, TokenFile, split

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client may see. Without a token it may see everything."""

    token: Token | None = None

    @property
    def rate(self) -> int | None:
        return self.token.rate if self.token else None

    def sees(self, channel: str, symbol: str) -> bool:
        """Whether a channel of a symbol, or of all that a pattern holds, may be seen."""
        token = self.token
        return token is None or (channel in token.channels and any(matches(each, symbol) for each in token.symbols))

    def allows(self, stream: Stream) -> bool:
        return self.sees(stream.channel, stream.symbol)

    def refusal(self, stream: Stream) -> str:
        """Why a stream is not allowed."""
        scopes = self.scopes()
        return (
            f"this token does not allow {stream.channel} of {stream.symbol}: "
            f"its channels are {', '.join(scopes['channels'])}, its symbols {', '.join(scopes['symbols'])}"
        )

    def scopes(self) -> Message:
        token = self.token
        return {
            "symbols": list(token.symbols) if token else [ALL],
            "channels": list(token.channels if token else CHANNELS),
            "rate": self.rate,
            "expires": token.expires if token else None,
        }


EVERYTHING: Final = Grant()


class Access:
    """Knows the tokens as they are now. ``now`` gives UTC epoch milliseconds."""

    def __init__(self, file: TokenFile, *, public: bool, may_be_open: bool, now: Callable[[], int]) -> None:
        self._file = file
        self._public = public
        """Somebody else than this machine can reach us."""
        self._may_be_open = may_be_open
        self._now = now
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, Token] = {}

    @property
    def is_open(self) -> bool:
        """Whether anybody may see everything: on this machine until there is a token, elsewhere only if told so."""
        return self._may_be_open or not (self._public or self._known())

    def grant(self, shown: str | None) -> Grant | None:
        """What a token allows; None when it allows nothing. Raises SettingsError."""
        parts = split(shown) if shown else None
        if parts is None:
            return EVERYTHING if self.is_open and not shown else None
        number, secret = parts
        token = self._known().get(number)
        return Grant(token) if token is not None and token.fits(secret) and self._is_current(token) else None

    def holds(self, grant: Grant) -> bool:
        """Whether what was granted is still allowed."""
        if grant.token is None:
            return self.is_open
        return self._known().get(grant.token.id) == grant.token and self._is_current(grant.token)

    def _is_current(self, token: Token) -> bool:
        return token.expires is None or self._now() < token.expires

    def _known(self) -> dict[str, Token]:
        stamp = self._file.stamp()
        if stamp != self._stamp:
            self._tokens = self._file.read()
            self._stamp = stamp
        return self._tokens
