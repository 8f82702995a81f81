"""What is wrong with the settings: one line each, naming the variable, its value and the remedy."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError

from schemas.errors import ArbitrexError, SettingsError

if TYPE_CHECKING:
    from infra.settings import Settings

PREFIX: Final = "ARBITREX_"
OTHERS: Final = ("ARBITREX_MANAGED", "ARBITREX_TEST_")
"""Beginnings of names that are no settings: the supervisor's mark on its children, and the tests' own."""
_MASK: Final = "********"
_HIGHEST_PORT: Final = 65_535
_REMEDIES: Final = {
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "bool_parsing": "is neither true nor false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A variable as somebody wrote it."""

    value: str
    source: str
    """``""`` for the environment, else the file."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting of the tree."""

    secret: bool
    open_ended: bool
    """It takes keys of its own: ``ARBITREX_LAKE__STORAGE_OPTIONS__AWS_REGION``."""


def known_names(model: type[BaseModel], prefix: str = PREFIX) -> dict[str, Leaf]:
    """The variables of a settings tree. Pure."""
    found: dict[str, Leaf] = {}
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= known_names(kind, f"{variable}__")
        else:
            parts = {kind, *get_args(kind)}
            found[variable] = Leaf(SecretStr in parts, open_ended=get_origin(kind) is dict)
    return found


def given(environment: Mapping[str, str], env_file: Path | None) -> dict[str, Given]:
    """All variables of ours as they were written; the environment wins over the file. Raises SettingsError."""
    found: dict[str, Given] = {}
    if env_file is not None and env_file.is_file():
        try:
            values = dotenv_values(env_file, encoding="utf-8", interpolate=True)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{env_file}: cannot be read as UTF-8 text ({error}); correct or remove it") from error
        found = {name.upper(): Given(value or "", str(env_file)) for name, value in values.items()}
    found |= {name.upper(): Given(value, "") for name, value in environment.items()}
    return {name: each for name, each in found.items() if name.startswith(PREFIX) and not name.startswith(OTHERS)}


def problems_of_text(found: Mapping[str, Given], known: Mapping[str, Leaf]) -> Iterator[str]:
    """Unknown names, and values with quotes or spaces around them. Pure."""
    for name, each in sorted(found.items()):
        leaf = leaf_of(name, known)
        if leaf is None and not any(other.startswith(f"{name}__") for other in known):
            ends = [other.removeprefix(PREFIX) for other in known]
            near = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1, cutoff=0.75)
            remedy = f"did you mean {PREFIX}{near[0]}?" if near else "remove it; .env.example lists all there are"
            yield f"{name}{_where(each)}: there is no such setting; {remedy}"
            continue
        if leaf is not None and leaf.open_ended and name in known and not _is_object(each.value):
            yield f'{name}={_MASK}{_where(each)}: is no JSON object; write one such as {{"AWS_REGION": "eu-west-1"}}'
            continue
        clean = each.value.strip()
        while len(clean) > 1 and clean[0] == clean[-1] and clean[0] in "'\"":
            clean = clean[1:-1].strip()
        if clean != each.value:
            what = "quotes" if each.value.strip() != clean else "spaces"
            secret = leaf is not None and leaf.secret
            shown, right = (_MASK, "without them") if secret else (each.value, f"{name}={clean}")
            yield f"{name}={shown}{_where(each)}: has {what} around its value; write {right}"


def problems_of_values(
    error: ValidationError, found: Mapping[str, Given], known: Mapping[str, Leaf], overrides: Mapping[str, object]
) -> Iterator[str]:
    """What pydantic refused, in our words. Pure."""
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        name = _name(location, known)
        if problem["type"] == "extra_forbidden" and name not in known:
            continue  # told as an unknown name
        shown = _shown(name, known, found, problem.get("input"))
        where = _where(found.get(name))
        if len(location) == 1 and location[0] in overrides:
            name, where = f"--{location[0]}", ""
        yield f"{name}={shown}{where}: {_reason(problem)}"


def problems_of_meaning(settings: Settings) -> Iterator[str]:
    """Values of the right form that cannot work."""
    kafka, security = settings.kafka, settings.kafka.security
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit() or int(port) > _HIGHEST_PORT:
            yield (
                f"ARBITREX_KAFKA__BOOTSTRAP_SERVERS={kafka.bootstrap_servers}: {server!r} is no address; "
                "write HOST:PORT, several with commas between them"
            )
    if security.ca_file is not None and not security.ca_file.is_file():
        yield (
            f"ARBITREX_KAFKA__SECURITY__CA_FILE={security.ca_file}: there is no such file; "
            "give the path of the brokers' CA certificate (PEM)"
        )
    url = urlsplit(settings.registry.url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        shown = _MASK if "@" in settings.registry.url else settings.registry.url  # it may hold a password
        yield f"ARBITREX_REGISTRY__URL={shown}: is no address; write http://HOST:PORT"
    yield from _market(settings)
    if "home" in settings.model_fields_set and (problem := _unwritable(settings.home)):
        yield f"ARBITREX_HOME={settings.home}: {problem}; choose a folder that this user can write to"


def leaf_of(name: str, known: Mapping[str, Leaf]) -> Leaf | None:
    """The setting that a variable belongs to."""
    if name in known:
        return known[name]
    return next((leaf for each, leaf in known.items() if leaf.open_ended and name.startswith(f"{each}__")), None)


def _market(settings: Settings) -> Iterator[str]:
    """Checks that need the market's own parsers, only where something was set: they are slow to import."""
    if "timeframes" in settings.bars.model_fields_set:
        yield from _timeframes(settings.bars.timeframes)
    for name, zone, given_ in (
        ("ARBITREX_SIMULATOR__ZONE", settings.simulator.zone, settings.simulator.model_fields_set),
        ("ARBITREX_PRODUCER__ZONE", settings.producer.zone, settings.producer.model_fields_set),
    ):
        if "zone" in given_ and not (zone == "auto" and name.startswith("ARBITREX_PRODUCER")):
            from infra.market.zones import ServerZone  # noqa: PLC0415

            try:
                ServerZone.parse(zone)
            except (ArbitrexError, ValueError) as error:
                yield f"{name}={zone}: {error}"
    if settings.symbols_file is not None:
        from infra.symbols import Symbols  # noqa: PLC0415

        try:
            Symbols.read(settings.symbols_file)
        except SettingsError as error:
            yield str(error)
    if settings.simulator.start is not None:
        try:
            datetime.fromisoformat(settings.simulator.start)
        except ValueError:
            yield (
                f"ARBITREX_SIMULATOR__START={settings.simulator.start}: is no ISO 8601 time; "
                "write one such as 2026-11-02T00:00:00Z"
            )


def _timeframes(names: Sequence[str]) -> Iterator[str]:
    from infra.market.counts import is_count, measure_of  # noqa: PLC0415
    from infra.market.timeframes import TIMEFRAMES, is_timeframe  # noqa: PLC0415

    text = ",".join(names)
    for name in filter(is_count, names):
        try:
            measure_of(name)
        except SettingsError as error:
            yield f"ARBITREX_BARS__TIMEFRAMES={text}: {error}"
    unknown = [name for name in names if not is_count(name) and not is_timeframe(name)]
    if unknown or not names:
        what = f"{', '.join(unknown)} is no timeframe" if unknown else "no timeframe is given"
        yield (
            f"ARBITREX_BARS__TIMEFRAMES={text}: {what}; choose from {' '.join(TIMEFRAMES)}, or tick, volume and value "
            "bars such as T:1000, V:500 and N:1000000"
        )


def _is_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _unwritable(folder: Path) -> str:
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def _name(location: Sequence[str], known: Mapping[str, Leaf]) -> str:
    """The variable at a place in the tree; an item of a list is its list's."""
    for length in range(len(location), 0, -1):
        name = PREFIX + "__".join(location[:length]).upper()
        if name in known:
            return name
    return PREFIX + "__".join(location).upper()


def _shown(name: str, known: Mapping[str, Leaf], found: Mapping[str, Given], value: object) -> str:
    leaf = leaf_of(name, known)
    if leaf is not None and leaf.secret:
        return _MASK
    return found[name].value if name in found else str(value)


def _reason(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "literal_error":
        choices = [word.strip("' ") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(problem["input"]), choices, n=1)
        return f"choose one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")
    if kind == "string_pattern_mismatch":
        return "use lower-case letters, digits, - and _, beginning with a letter or digit, 41 at most"
    if kind in _REMEDIES:
        return _REMEDIES[kind].format(**context)
    return str(problem["msg"])


def _where(each: Given | None) -> str:
    return f" (in {each.source})" if each is not None and each.source else ""
