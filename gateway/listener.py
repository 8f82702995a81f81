"""The address that the gateway listens on: TLS, and an end for connections that do not come to the point."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from aiohttp import web

from infra import ports
from infra.settings import GatewaySettings
from schemas.errors import SettingsError

_SHUTDOWN_SECONDS: Final = 5.0
_FIRST_REQUEST_SECONDS: Final = 10.0
"""How long a connection may take to ask for something, byte by byte perhaps."""


class Listener:
    """One address; ``app`` is served there."""

    def __init__(self, settings: GatewaySettings, app: web.Application) -> None:
        self._settings = settings
        self._waiting: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        """Connections that have not asked for anything yet."""
        app.on_response_prepare.append(self._note)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; the URL. Raises SettingsError when that is not possible."""
        host, port, tls = self._settings.host, self._settings.port, _tls(self._settings)
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connected, host, port, ssl=tls)
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_GATEWAY__PORT={port}: cannot listen on {host} ({error.strerror}); "
                "choose another port, or 0 for any free one"
            ) from error
        bound = self._server.sockets[0].getsockname()[1]
        return ports.url(host, bound, tls=tls is not None)

    async def close(self) -> None:
        """Take no more connections, and end those there are."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _connected(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - it is set up before it listens
        protocol = server()
        loop = asyncio.get_running_loop()
        self._waiting[protocol] = loop.call_later(_FIRST_REQUEST_SECONDS, self._cut_off, protocol)
        return protocol

    def _cut_off(self, protocol: web.RequestHandler) -> None:
        del self._waiting[protocol]
        if isinstance(protocol.transport, asyncio.Transport):
            protocol.transport.abort()

    async def _note(self, request: web.Request, _: web.StreamResponse) -> None:
        timer = self._waiting.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"ARBITREX_GATEWAY__TLS_CERTIFICATE={certificate}: cannot be used with its key ({error}); give both as PEM"
        ) from error
    return context
