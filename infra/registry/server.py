"""Confluent's REST API, as its stock clients use it, over a catalog and its log.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import web

from infra import logs
from infra.registry import faults
from infra.registry.catalog import Catalog, Entry, Version
from infra.registry.faults import RefusedError
from infra.registry.journal import Journal
from infra.settings import RegistrySettings
from schemas.errors import BrokerError, SettingsError

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
MAX_REQUEST_BYTES: Final = 1 << 20
_ACCEPTED: Final = frozenset(
    {CONTENT_TYPE, "application/vnd.schemaregistry+json", "application/json", "application/octet-stream"}
)
_NOT_KEPT: Final = ("references", "metadata", "ruleSet")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")

log = logs.logger(__name__)


class EmbeddedRegistry:
    """The registry's HTTP server. Reads are answered from the catalog; a change is in the log before its answer."""

    def __init__(self, settings: RegistrySettings, catalog: Catalog, journal: Journal) -> None:
        self._settings = settings
        self._catalog = catalog
        self._journal = journal
        self._changes = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what made it impossible to go on: a log that could not be written."""

    async def start(self) -> str:
        """Listen; the address. Raises SettingsError when it cannot."""
        app = web.Application(middlewares=[self._answer_faults], client_max_size=MAX_REQUEST_BYTES)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        host, port = self._settings.host, self._settings.port
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_REGISTRY__PORT={port}: cannot listen on {host} ({error.strerror}); "
                "choose another port, or 0 for any free one"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Finish what is being answered and stop listening."""
        if self._runner:
            await self._runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        subject, version = "/subjects/{subject}", "/subjects/{subject}/versions/{version}"
        check = "/compatibility/subjects/{subject}/versions"
        return [
            web.get("/", _nothing),
            web.get("/contexts", _contexts),
            web.get("/subjects", self._subjects),
            web.post(subject, self._lookup),
            web.delete(subject, self._delete_subject),
            web.get(f"{subject}/versions", self._versions),
            web.post(f"{subject}/versions", self._register),
            web.get(version, self._version),
            web.delete(version, self._delete_version),
            web.get(f"{version}/schema", self._version_schema),
            web.get(f"{version}/referencedby", self._referenced_by),
            web.get("/schemas", self._schemas),
            web.get("/schemas/types", _types),
            web.get("/schemas/ids/{id}", self._schema),
            web.get("/schemas/ids/{id}/schema", self._schema_alone),
            web.get("/schemas/ids/{id}/subjects", self._schema_subjects),
            web.get("/schemas/ids/{id}/versions", self._schema_versions),
            web.post(check, self._check),
            web.post(f"{check}/{{version}}", self._check),
            *(
                web.route(method, f"/{name}{of}", handler)
                for of in ("", "/{subject}")
                for method, name, handler in (
                    ("GET", "config", self._get_level),
                    ("PUT", "config", self._put_level),
                    ("DELETE", "config", self._delete_level),
                    ("GET", "mode", self._get_mode),
                    ("PUT", "mode", self._put_mode),
                    ("DELETE", "mode", self._delete_mode),
                )
            ),
        ]

    @web.middleware
    async def _answer_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._authorize(request)
            return await handler(request)
        except RefusedError as refusal:
            return _answer({"error_code": refusal.code, "message": refusal.message}, refusal.status)
        except web.HTTPException as error:
            response = _answer(
                {"error_code": error.status, "message": f"HTTP {error.status} {error.reason}"}, error.status
            )
            if error.status == web.HTTPUnauthorized.status_code:
                response.headers["WWW-Authenticate"] = 'Basic realm="schema registry"'
            return response
        except Exception:
            log.exception("request failed", method=request.method, path=request.path)
            return _answer({"error_code": 50001, "message": "Internal server error"}, 500)

    def _authorize(self, request: web.Request) -> None:
        """Where credentials are set, clients must have them."""
        if self._settings.username is None:
            return
        password = self._settings.password.get_secret_value() if self._settings.password else ""
        wanted = b"Basic " + base64.b64encode(f"{self._settings.username}:{password}".encode())
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted):
            raise web.HTTPUnauthorized

    async def _change(self, decide: Callable[[], tuple[T, list[Entry]]]) -> T:
        """Decide, log, apply: one change after the other, each on what the one before has left."""
        async with self._changes:
            answer, entries = decide()
            if not entries:
                return answer
            try:
                await asyncio.to_thread(self._journal.append, entries)
            except BrokerError as error:
                if not self.failed.done():
                    self.failed.set_exception(error)
                raise faults.store_failed(str(error)) from error
            for key, value in entries:
                self._catalog.apply(key, value)
            return answer

    # subjects and versions

    async def _subjects(self, request: web.Request) -> web.Response:
        prefix, deleted_only = request.query.get("subjectPrefix", ""), _flag(request, "deletedOnly")
        return _answer(
            self._catalog.subjects(prefix=prefix, deleted=_flag(request, "deleted"), deleted_only=deleted_only)
        )

    async def _versions(self, request: web.Request) -> web.Response:
        found = self._catalog.versions(_subject(request), deleted=_flag(request, "deleted"))
        return _answer([version.version for version in found])

    async def _version(self, request: web.Request) -> web.Response:
        return _answer(_public(self._one_version(request)))

    async def _version_schema(self, request: web.Request) -> web.Response:
        return _answer(json.loads(self._one_version(request).schema))

    async def _referenced_by(self, request: web.Request) -> web.Response:
        self._one_version(request)
        return _answer([])  # schemas with references are refused

    def _one_version(self, request: web.Request) -> Version:
        number = request.match_info["version"]
        return self._catalog.version(_subject(request), number, deleted=_flag(request, "deleted"))

    async def _lookup(self, request: web.Request) -> web.Response:
        schema = await _schema_of(request)
        return _answer(_public(self._catalog.lookup(_subject(request), schema, deleted=_flag(request, "deleted"))))

    async def _register(self, request: web.Request) -> web.Response:
        subject, schema = _subject(request), await _schema_of(request)
        version = await self._change(lambda: self._catalog.register(subject, schema))
        return _answer({"id": version.id})

    async def _delete_subject(self, request: web.Request) -> web.Response:
        subject, permanent = _subject(request), _flag(request, "permanent")
        return _answer(await self._change(lambda: self._catalog.delete_subject(subject, permanent=permanent)))

    async def _delete_version(self, request: web.Request) -> web.Response:
        subject, number, permanent = _subject(request), request.match_info["version"], _flag(request, "permanent")
        return _answer(await self._change(lambda: self._catalog.delete_version(subject, number, permanent=permanent)))

    # schemas by id

    async def _schemas(self, request: web.Request) -> web.Response:
        prefix, latest_only = request.query.get("subjectPrefix", ""), _flag(request, "latestOnly")
        found = [
            v for v in self._catalog.all_versions(deleted=_flag(request, "deleted")) if v.subject.startswith(prefix)
        ]
        if latest_only:
            found = list({version.subject: version for version in found}.values())
        return _answer([_public(version) for version in found])

    async def _schema(self, request: web.Request) -> web.Response:
        answer: dict[str, Any] = {"schema": self._catalog.schema(_id(request))}
        if _flag(request, "fetchMaxId"):
            answer["maxId"] = self._catalog.highest_id
        return _answer(answer)

    async def _schema_alone(self, request: web.Request) -> web.Response:
        return _answer(json.loads(self._catalog.schema(_id(request))))

    async def _schema_subjects(self, request: web.Request) -> web.Response:
        found = self._catalog.usages(_id(request), deleted=_flag(request, "deleted"))
        return _answer(sorted({version.subject for version in found}))

    async def _schema_versions(self, request: web.Request) -> web.Response:
        found = self._catalog.usages(_id(request), deleted=_flag(request, "deleted"))
        return _answer([{"subject": version.subject, "version": version.version} for version in found])

    # compatibility and settings

    async def _check(self, request: web.Request) -> web.Response:
        schema, number = await _schema_of(request), request.match_info.get("version")
        why = self._catalog.incompatibilities(_subject(request), schema, number)
        answer: dict[str, Any] = {"is_compatible": not why}
        if _flag(request, "verbose"):
            answer["messages"] = why
        return _answer(answer)

    async def _get_level(self, request: web.Request) -> web.Response:
        level = self._catalog.level(_subject_or_none(request), inherit=_flag(request, "defaultToGlobal"))
        return _answer({"compatibilityLevel": level})

    async def _put_level(self, request: web.Request) -> web.Response:
        subject, wanted = _subject_or_none(request), (await _body(request)).get("compatibility")
        return _answer({"compatibility": await self._change(lambda: self._catalog.set_level(subject, wanted))})

    async def _delete_level(self, request: web.Request) -> web.Response:
        subject = _subject_or_none(request)
        return _answer({"compatibilityLevel": await self._change(lambda: self._catalog.delete_level(subject))})

    async def _get_mode(self, request: web.Request) -> web.Response:
        mode = self._catalog.mode(_subject_or_none(request), inherit=_flag(request, "defaultToGlobal"))
        return _answer({"mode": mode})

    async def _put_mode(self, request: web.Request) -> web.Response:
        subject, wanted = _subject_or_none(request), (await _body(request)).get("mode")
        return _answer({"mode": await self._change(lambda: self._catalog.set_mode(subject, wanted))})

    async def _delete_mode(self, request: web.Request) -> web.Response:
        subject = _subject_or_none(request)
        return _answer({"mode": await self._change(lambda: self._catalog.delete_mode(subject))})


async def _nothing(_: web.Request) -> web.Response:
    return _answer({})


async def _contexts(_: web.Request) -> web.Response:
    return _answer(["."])


async def _types(_: web.Request) -> web.Response:
    return _answer(["AVRO"])


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type=CONTENT_TYPE)


def _public(version: Version) -> Mapping[str, Any]:
    return {"subject": version.subject, "version": version.version, "id": version.id, "schema": version.schema}


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


def _subject(request: web.Request) -> str:
    return request.match_info["subject"]


def _subject_or_none(request: web.Request) -> str | None:
    return request.match_info.get("subject")


def _id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit()):
        raise web.HTTPNotFound
    return int(text)


async def _body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object. Only the types a browser does not send unasked, so no web page can write here."""
    if request.content_type not in _ACCEPTED:
        raise web.HTTPUnsupportedMediaType
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise RefusedError(400, f"Unable to parse JSON: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "Unable to parse JSON: an object is expected")
    return body


async def _schema_of(request: web.Request) -> str:
    body = await _body(request)
    kind, schema = body.get("schemaType"), body.get("schema")
    if kind not in {None, "AVRO"}:
        raise faults.invalid_schema(f"this registry keeps schemas of type AVRO, not {kind!r}")
    for name in _NOT_KEPT:
        if body.get(name):
            raise faults.invalid_schema(f"this registry does not keep {name}; give the schema with everything inlined")
    if not isinstance(schema, str) or not schema:
        raise faults.invalid_schema("empty")
    return schema
