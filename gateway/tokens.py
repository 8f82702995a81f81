"""The file of tokens. It holds a hash of each, never the token itself.

A token is 256 random bits, so its SHA-256 cannot be turned back by trying, and needs no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from schemas.errors import SettingsError, UsageError

PREFIX: Final = "arbitrex"
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_TRIES: Final = 40
_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Who may see what. Times are UTC epoch milliseconds."""

    id: str
    name: str
    hash: str
    symbols: tuple[str, ...]
    """Names and patterns."""
    channels: tuple[str, ...]
    rate: int | None
    """Messages or requests a second; None: the gateway's own limit."""
    created: int
    expires: int | None

    def fits(self, secret: str) -> bool:
        return hmac.compare_digest(self.hash, _hash(secret))


class TokenFile:
    """Reads and writes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Token]:
        """All tokens by id. Raises SettingsError when the file is damaged."""
        try:
            found = json.loads(self.path.read_text("utf-8"))
            return {each["id"]: _token(each) for each in found}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{self.path}: is no file of tokens ({error}); restore it, or remove it and make new ones"
            ) from error

    def stamp(self) -> tuple[int, int] | None:
        """Changes when the file does."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def create(
        self,
        name: str,
        *,
        symbols: Sequence[str],
        channels: Sequence[str],
        rate: int | None,
        expires: int | None,
        now: int,
    ) -> tuple[str, Token]:
        """A new token: what its holder shows, which is nowhere else, and what is kept of it."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(
            id=secrets.token_hex(_ID_BYTES), name=name, hash=_hash(secret), symbols=tuple(symbols),
            channels=tuple(channels), rate=rate, created=now, expires=expires,
        )  # fmt: skip
        self._write(self.read() | {token.id: token})
        return f"{PREFIX}_{token.id}_{secret}", token

    def revoke(self, wanted: str) -> Token:
        """Take a token out, by its id or by a name that is one token's. Raises UsageError."""
        tokens = self.read()
        found = [token for token in tokens.values() if wanted in {token.id, token.name}]
        if len(found) != 1:
            what = f"{len(found)} tokens are named {wanted}; give an id" if found else f"there is no token {wanted}"
            raise UsageError(f"{what}: arbitrex token list shows all")
        del tokens[found[0].id]
        self._write(tokens)
        return found[0]

    def _write(self, tokens: dict[str, Token]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        text = json.dumps([asdict(token) for token in tokens.values()], indent=1)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        for left in reversed(range(_TRIES)):  # Windows refuses while the gateway reads it
            try:
                beside.replace(self.path)
            except PermissionError:
                if not left:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return


def split(shown: str) -> tuple[str, str] | None:
    """Id and secret of a token as its holder shows it."""
    prefix, _, rest = shown.partition("_")
    number, _, secret = rest.partition("_")
    return (number, secret) if prefix == PREFIX and number and secret else None


def _token(found: dict[str, Any]) -> Token:
    return Token(**found | {"symbols": tuple(found["symbols"]), "channels": tuple(found["channels"])})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
