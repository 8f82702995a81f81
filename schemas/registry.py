"""The schema registry's client: any that speaks Confluent's REST API."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.definitions import NAMES, Schema, subject, text
from schemas.errors import IncompatibleSchemaError, RegistryAwayError, RegistryError, UnknownSchemaError

COMPATIBILITY: Final = "FULL_TRANSITIVE"
"""How our subjects may evolve: every version reads every other."""

_SUBJECT_NOT_FOUND: Final = 40401
_SCHEMA_NOT_FOUND: Final = 40403
_CONFLICT: Final = 409
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

T = TypeVar("T")


class Registry:
    """Registers our schemas and looks up any writer's; safe to share between threads.

    Every method raises RegistryAwayError when the registry does not answer and RegistryError when it refuses.
    """

    def __init__(self, url: str, username: str | None = None, password: str | None = None) -> None:
        self.url, in_url = without_credentials(url)
        user_info = f"{username}:{password or ''}" if username else in_url
        config: dict[str, object] = {"url": self.url, "timeout": 10.0, "max.retries": 2, "retries.wait.ms": 100}
        if user_info:
            config["basic.auth.user.info"] = user_info
        try:
            self._client = SchemaRegistryClient(config)
        except ValueError as error:
            raise RegistryError(f"{self.url} cannot be a schema registry's address: {error}") from error
        self.close = weakref.finalize(self, self._client.close)
        """Closes the connections; happens by itself when the registry is no longer used."""
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, Schema] = {}

    def __repr__(self) -> str:
        return f"Registry({self.url!r})"

    def register_all(self) -> None:
        """Register every record under its full name (``arbitrex.Tick``); what is there already stays as it is.

        Raises IncompatibleSchemaError when a registered version and ours could not read each other.
        """
        for name in NAMES:
            self._ids[name] = self._register(subject(name), name)

    def register_value(self, topic: str, name: str) -> int:
        """Register record ``name`` as the value of ``topic``, where Connect and ksqlDB look; its id."""
        return self._register(f"{topic}-value", name)

    def id_of(self, name: str) -> int:
        """The id of record ``name``'s current schema. Raises UnknownSchemaError unless it is registered."""
        known = self._ids.get(name)
        if known is None:
            found = self._find(subject(name), name)
            if found is None:
                raise UnknownSchemaError(f"the registry at {self.url} does not have our schema of {subject(name)}")
            known = self._ids[name] = found
        return known

    def schema_of(self, schema_id: int) -> Schema:
        """The schema of an id; empty when it is not an Avro record. Raises UnknownSchemaError when there is none."""
        known = self._schemas.get(schema_id)
        if known is None:
            try:
                found = self._ask(lambda: self._client.get_schema(schema_id))
            except _RefusedError as refusal:
                if refusal.code == _SCHEMA_NOT_FOUND:
                    raise UnknownSchemaError(f"no schema has the id {schema_id}") from refusal
                raise
            known = self._schemas[schema_id] = _avro_record(found)
        return known

    def _register(self, under: str, name: str) -> int:
        """Look before registering: a reader's credentials suffice where the schemas are there."""
        found = self._find(under, name)
        if found is not None:
            return found
        try:
            fresh = not self._ask(lambda: self._client.get_versions(under))
        except _RefusedError as refusal:
            if refusal.code != _SUBJECT_NOT_FOUND:
                raise
            fresh = True
        schema = RegistrySchema(text(name), "AVRO")
        try:
            registered = self._ask(lambda: self._client.register_schema(under, schema))
        except _RefusedError as refusal:
            if refusal.status == _CONFLICT:
                raise IncompatibleSchemaError(
                    f"the registry at {self.url} holds versions of {under} that are incompatible with ours: {refusal}"
                ) from refusal
            raise
        if fresh:
            self._guard(under)
        return registered

    def _guard(self, under: str) -> None:
        try:
            self._ask(lambda: self._client.set_compatibility(under, COMPATIBILITY))
        except _RefusedError as refusal:
            if refusal.status != _CONFLICT:  # another component, starting beside this one, has just set it
                raise

    def _find(self, under: str, name: str) -> int | None:
        schema = RegistrySchema(text(name), "AVRO")
        try:
            return self._ask(lambda: self._client.lookup_schema(under, schema)).schema_id
        except _RefusedError as refusal:
            if refusal.code in {_SUBJECT_NOT_FOUND, _SCHEMA_NOT_FOUND}:
                return None
            raise

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except SchemaRegistryError as error:
            said = f"the registry at {self.url} says: {error.error_message} (HTTP {error.http_status_code})"
            if error.http_status_code in _PASSING:
                raise RegistryAwayError(said) from error
            raise _RefusedError(said, error) from error
        except Exception as error:  # the client lets its HTTP library's errors through, under no public name
            why = str(error) or type(error).__name__
            raise RegistryAwayError(f"no schema registry answers at {self.url}: {why}") from error


class _RefusedError(RegistryError):
    """What the registry refused, with its numbers."""

    def __init__(self, message: str, cause: SchemaRegistryError) -> None:
        super().__init__(message)
        self.status: int = cause.http_status_code
        self.code: int = cause.error_code


def _avro_record(found: RegistrySchema) -> Schema:
    if found.schema_type not in {None, "AVRO"}:
        return {}
    schema = json.loads(found.schema_str or "{}")
    return schema if isinstance(schema, dict) else {}


def without_credentials(url: str) -> tuple[str, str]:
    """The address fit to be shown, and ``user:password`` if it held one."""
    parts = urlsplit(url.strip())
    user_info, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)).rstrip("/"), unquote(user_info)
