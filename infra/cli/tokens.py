"""``arbitrex token``: who may see what of the gateway."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.stack import Json
from infra.cli.times import ahead
from infra.iso import iso
from schemas.errors import UsageError

if TYPE_CHECKING:
    from gateway.tokens import Token, TokenFile

app = typer.Typer(
    no_args_is_help=True,
    help="Tokens of the gateway: make, list and revoke them. It needs no restart.",
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: a person, a bot, a desk.")],
    *,
    symbol: Annotated[
        list[str] | None, typer.Option(help="A symbol or a pattern such as 'EUR*'; all unless said. May be repeated.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="ticks, bars, bars.live or events; all unless said. May be repeated.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, max=10_000, help="Messages, or requests, a second.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="30d, 12h from now, or ISO 8601 (UTC unless it has a zone).")
    ] = None,
) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept.

        arbitrex token create desk-1
        arbitrex token create bot --symbol 'EUR*' --symbol XAUUSD --channel ticks --rate 20 --expires 30d

    Clients show it in the header "Authorization: Bearer …", or on the socket in their first message. As soon as
    there is one token, the gateway asks everybody for theirs.
    """
    from gateway.patterns import ALL, MOST_STARS, is_usable
    from gateway.protocol import CHANNELS

    for wanted in channel or ():
        if wanted not in CHANNELS:
            raise UsageError(f"--channel {wanted}: there is {', '.join(CHANNELS)}")
    for wanted in symbol or ():
        if not wanted or not is_usable(wanted):
            raise UsageError(f"--symbol {wanted}: a name, or a pattern with at most {MOST_STARS} {ALL}")
    if not name.isprintable() or not name.strip():
        raise UsageError("NAME: give a name that can be read")
    now = time.time_ns() // 1_000_000
    shown, token = _file().create(
        name, symbols=symbol or [ALL], channels=channel or list(CHANNELS), rate=rate,
        expires=None if expires is None else ahead(expires, now), now=now,
    )  # fmt: skip
    typer.echo(shown)
    typer.echo(_line(token), err=True)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List the tokens: id, name and what each allows.

    arbitrex token list
    """
    tokens = _file().read().values()
    if as_json:
        typer.echo(json.dumps([_public(token) for token in tokens]))
        return
    for token in tokens:
        typer.echo(_line(token))
    if not tokens:
        typer.echo("there is no token: the gateway serves this machine, and nobody else", err=True)


@app.command()
def revoke(token: Annotated[str, typer.Argument(help="An id, or a name that only one has.")]) -> None:
    """Revoke a token. Connections that were opened with it are closed within one heartbeat.

    arbitrex token revoke bot
    """
    typer.echo(f"revoked {_line(_file().revoke(token))}")


def _file() -> TokenFile:
    from gateway.tokens import TokenFile
    from infra.settings import load

    return TokenFile(load().tokens_file)


def _public(token: Token) -> dict[str, object]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(token).items() if name != "hash"}


def _line(token: Token) -> str:
    until = f"until {iso(token.expires)}" if token.expires is not None else "without end"
    rate = f", {token.rate} a second" if token.rate else ""
    return f"{token.id}  {token.name}: {', '.join(token.channels)} of {', '.join(token.symbols)}{rate}, {until}"
