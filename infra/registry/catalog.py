"""What the registry knows: a pure state, changed only by the entries of its log.

An operation that changes something returns its answer and the entries that say so; whoever calls it writes them to
the log and then applies them. A value of None takes an entry back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from infra.registry import faults
from schemas.compatibility import LEVELS, parse_strictly, problems
from schemas.errors import DecodeError, RegistryError

Entry = tuple[dict[str, Any], dict[str, Any] | None]

DEFAULT_LEVEL: Final = "BACKWARD"
DEFAULT_MODE: Final = "READWRITE"
MODES: Final = (DEFAULT_MODE, "READONLY")

_LARGEST_VERSION: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a subject."""

    subject: str
    version: int
    id: int
    schema: str
    deleted: bool = False
    """Softly: still there for who asks for it."""

    def entry(self) -> Entry:
        """The log's entry that says so."""
        return _version_key(self.subject, self.version), {
            "subject": self.subject,
            "version": self.version,
            "id": self.id,
            "schema": self.schema,
            "deleted": self.deleted,
        }


class Catalog:
    """All subjects, their versions, and their settings. Methods that look something up raise RefusedError."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[int, Version]] = {}
        self._levels: dict[str | None, str] = {}
        self._modes: dict[str | None, str] = {}
        self._highest_id = 0

    def apply(self, key: dict[str, Any], value: dict[str, Any] | None) -> None:
        """Take in one entry. Raises RegistryError for one that no registry of ours wrote."""
        kind, subject = key.get("keytype"), key.get("subject")
        if kind == "SCHEMA" and isinstance(subject, str):
            self._apply_version(subject, key["version"], value)
        elif kind in ("CONFIG", "MODE"):
            settings, name = (self._levels, "compatibilityLevel") if kind == "CONFIG" else (self._modes, "mode")
            if value is None:
                settings.pop(subject, None)
            else:
                settings[subject] = value[name]
        elif kind == "HIGHEST_ID" and value is not None:
            self._highest_id = max(self._highest_id, value["id"])
        else:
            raise RegistryError(f"the registry's topic holds a {kind} entry: another kind of registry writes to it")

    def _apply_version(self, subject: str, version: int, value: dict[str, Any] | None) -> None:
        if value is not None:
            found = Version(subject, version, value["id"], value["schema"], value["deleted"])
            self._subjects.setdefault(subject, {})[version] = found
            self._highest_id = max(self._highest_id, found.id)
        elif self._subjects.get(subject, {}).pop(version, None) and not self._subjects[subject]:
            del self._subjects[subject]

    # looking up

    def subjects(self, *, prefix: str = "", deleted: bool = False, deleted_only: bool = False) -> list[str]:
        """Names of subjects with a live version; with ``deleted`` also, ``deleted_only`` only, those without."""
        return sorted(
            subject
            for subject, versions in self._subjects.items()
            if subject.startswith(prefix) and (deleted or any(not v.deleted for v in versions.values()) != deleted_only)
        )

    def all_versions(self, *, deleted: bool = False) -> list[Version]:
        """Every version of every subject, in order."""
        return [
            self._subjects[subject][number]
            for subject in sorted(self._subjects)
            for number in sorted(self._subjects[subject])
            if deleted or not self._subjects[subject][number].deleted
        ]

    def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """The subject's versions, the oldest first."""
        known = self._subjects.get(subject, {})
        found = [known[number] for number in sorted(known) if deleted or not known[number].deleted]
        if not found:
            raise faults.no_subject(subject)
        return found

    def version(self, subject: str, number: str, *, deleted: bool = False) -> Version:
        """One version; ``number`` as a client writes it: 1…, ``latest``, or -1 for the same."""
        wanted = _version_number(number)
        found = self.versions(subject, deleted=deleted)
        for candidate in found if wanted else found[-1:]:
            if wanted in (None, candidate.version):
                return candidate
        raise faults.no_version(number)

    def lookup(self, subject: str, schema: str, *, deleted: bool = False) -> Version:
        """The subject's latest version that is ``schema``."""
        wanted = _identity(_checked(schema))
        for version in reversed(self.versions(subject, deleted=deleted)):
            if _identity(version.schema) == wanted:
                return version
        raise faults.no_schema()

    def schema(self, schema_id: int) -> str:
        """The schema of an id, wherever it is used, deleted or not."""
        for version in self.all_versions(deleted=True):
            if version.id == schema_id:
                return version.schema
        raise faults.no_schema()

    def usages(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """The versions that have this id."""
        self.schema(schema_id)
        return [version for version in self.all_versions(deleted=deleted) if version.id == schema_id]

    @property
    def highest_id(self) -> int:
        """The highest id ever given."""
        return self._highest_id

    def level(self, subject: str | None, *, inherit: bool = True) -> str:
        """The compatibility level of a subject, or the global one."""
        if subject is not None and subject not in self._levels and not inherit:
            raise faults.no_own_level(subject)
        return self._levels.get(subject) or self._levels.get(None, DEFAULT_LEVEL)

    def mode(self, subject: str | None, *, inherit: bool = True) -> str:
        """Whether schemas may be registered and deleted under a subject, or at all."""
        if subject is not None and subject not in self._modes and not inherit:
            raise faults.no_own_mode(subject)
        return self._modes.get(subject) or self._modes.get(None, DEFAULT_MODE)

    def incompatibilities(self, subject: str, schema: str, number: str | None = None) -> list[str]:
        """Why ``schema`` may not follow the subject's versions (or the one given) at its level."""
        checked = _checked(schema)
        try:
            earlier = self.versions(subject) if number is None else [self.version(subject, number)]
        except faults.RefusedError as refusal:
            if number is None and refusal.code == faults.no_subject(subject).code:
                return []
            raise
        return problems(self.level(subject), checked, [version.schema for version in earlier])

    # changing

    def register(self, subject: str, schema: str) -> tuple[Version, list[Entry]]:
        """``schema`` as a version of ``subject``: the one it has, or a new one."""
        checked = _checked(schema)
        try:
            return self.lookup(subject, checked), []
        except faults.RefusedError:  # it is new to this subject
            self._must_be_writable(subject)
        why = self.incompatibilities(subject, checked)
        if why:
            raise faults.incompatible(subject, why)
        wanted = _identity(checked)
        same = (version.id for version in self.all_versions(deleted=True) if _identity(version.schema) == wanted)
        number = max(self._subjects.get(subject, {}), default=0) + 1
        version = Version(subject, number, next(same, self._highest_id + 1), checked)
        return version, [version.entry()]

    def delete_subject(self, subject: str, *, permanent: bool = False) -> tuple[list[int], list[Entry]]:
        """Delete all versions: softly first, then for good."""
        self._must_be_writable(subject)
        every = self.versions(subject, deleted=True)
        live = [version for version in every if not version.deleted]
        if permanent and live:
            raise faults.subject_not_soft_deleted(subject)
        if not permanent and not live:
            raise faults.subject_soft_deleted(subject)
        if permanent:
            settings: list[Entry] = [(_setting_key(kind, subject), None) for kind in ("CONFIG", "MODE")]
            return [version.version for version in every], [*self._purge(every), *settings]
        return [version.version for version in live], [replace(version, deleted=True).entry() for version in live]

    def delete_version(self, subject: str, number: str, *, permanent: bool = False) -> tuple[int, list[Entry]]:
        """Delete one version: softly first, then for good."""
        self._must_be_writable(subject)
        version = self.version(subject, number, deleted=_version_number(number) is not None or permanent)
        if permanent and not version.deleted:
            raise faults.version_not_soft_deleted(subject, version.version)
        if not permanent and version.deleted:
            raise faults.version_soft_deleted(subject, version.version)
        return version.version, self._purge([version]) if permanent else [replace(version, deleted=True).entry()]

    def set_level(self, subject: str | None, level: object) -> tuple[str, list[Entry]]:
        """Set the compatibility level of a subject, there already or not, or the global one."""
        wanted = level.upper() if isinstance(level, str) else ""
        if wanted not in LEVELS:
            raise faults.invalid_level(level)
        return wanted, [(_setting_key("CONFIG", subject), {"subject": subject, "compatibilityLevel": wanted})]

    def delete_level(self, subject: str | None) -> tuple[str, list[Entry]]:
        """Let a subject inherit again, or the global level be the default; what it was."""
        return self.level(subject, inherit=False), [(_setting_key("CONFIG", subject), None)]

    def set_mode(self, subject: str | None, mode: object) -> tuple[str, list[Entry]]:
        """Set whether schemas may be registered and deleted."""
        wanted = mode.upper() if isinstance(mode, str) else ""
        if wanted not in MODES:
            raise faults.invalid_mode(mode)
        return wanted, [(_setting_key("MODE", subject), {"subject": subject, "mode": wanted})]

    def delete_mode(self, subject: str | None) -> tuple[str, list[Entry]]:
        """Let a subject inherit again, or the global mode be the default; what it was."""
        return self.mode(subject, inherit=False), [(_setting_key("MODE", subject), None)]

    def _must_be_writable(self, subject: str) -> None:
        if self.mode(subject) != DEFAULT_MODE:
            raise faults.read_only(subject)

    def _purge(self, versions: Sequence[Version]) -> list[Entry]:
        """Take versions out for good, yet remember that their ids were given: messages may still carry them."""
        highest: Entry = ({"keytype": "HIGHEST_ID"}, {"id": self._highest_id})
        return [*((_version_key(version.subject, version.version), None) for version in versions), highest]


def _version_key(subject: str, version: int) -> dict[str, Any]:
    return {"keytype": "SCHEMA", "subject": subject, "version": version}


def _setting_key(kind: str, subject: str | None) -> dict[str, Any]:
    return {"keytype": kind, "subject": subject}


def _version_number(text: str) -> int | None:
    """The number a client wrote; None for the latest."""
    if text in {"latest", "-1"}:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST_VERSION):
        raise faults.invalid_version(text)
    return int(text)


def _checked(schema: str) -> str:
    """The schema without insignificant blanks. Raises RefusedError for what is no Avro schema."""
    try:
        parse_strictly(schema)
    except DecodeError as error:
        raise faults.invalid_schema(str(error)) from error
    return json.dumps(json.loads(schema), separators=(",", ":"), ensure_ascii=False)


def _identity(schema: str) -> str:
    """Equal for schemas that differ in blanks and the order of attributes alone."""
    return json.dumps(json.loads(schema), separators=(",", ":"), sort_keys=True)
