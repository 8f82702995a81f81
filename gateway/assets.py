"""The chart page's files, in memory: content types, validators, compression, and a policy that allows only itself."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}
_LOGO_STYLE: Final = (
    "a#tv-attr-logo{--fill:#131722;--stroke:#fff;position:absolute;left:10px;bottom:10px;height:19px;width:35px;"
    "margin:0;padding:0;border:0;z-index:3;}a#tv-attr-logo[data-dark]{--fill:#D1D4DC;--stroke:#131722;}"
)
"""The one style element that Lightweight Charts inserts (for its attribution logo)."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to be sent."""

    content_type: str
    etag: str
    plain: bytes
    packed: bytes


class Assets:
    """All files of the page by path; the page itself is ``/``."""

    def __init__(self) -> None:
        self._assets = dict(_read(files("gateway") / "page", ""))
        logo = base64.b64encode(hashlib.sha256(_LOGO_STYLE.encode()).digest()).decode()
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; "
                f"style-src 'self' 'sha256-{logo}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept-Encoding",
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self._serve), *(web.get(f"/page/{path}", self._serve) for path in self._assets)]

    async def _serve(self, request: web.Request) -> web.Response:
        asset = self._assets[request.path.removeprefix("/page").removeprefix("/") or "index.html"]
        if any(etag.value == asset.etag for etag in request.if_none_match or ()):
            return web.Response(status=304, headers=self._headers | {"ETag": f'"{asset.etag}"'})
        headers = self._headers | {"ETag": f'"{asset.etag}"', "Content-Type": asset.content_type}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=asset.packed, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=asset.plain, headers=headers)


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
            continue
        body = entry.read_bytes()
        suffix = f".{entry.name.rpartition('.')[2]}"
        etag = hashlib.sha256(body).hexdigest()[:32]
        kind = _TYPES.get(suffix, _TYPES[""])
        found.append((prefix + entry.name, Asset(kind, etag, body, gzip.compress(body, mtime=0))))
    return found
