r"""The shards of this installation: one terminal each. A YAML file names them, else there is one.

    london:
      symbols: [EUR*, GBPUSD]
      terminal: {path: 'C:\\MT5 London\\terminal64.exe', portable: true, login: 5012345, server: Broker-Live}
    tokyo:
      symbols: ["*JPY"]
      source: remote
      remote: {address: "tokyo:18812", ca_file: tokyo.pem}

Each has the settings ``ARBITREX_PRODUCER__…`` but for what its entry says.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from infra.patterns import common
from infra.settings import ProducerSettings, Settings
from schemas.errors import SettingsError, UsageError

SETTING: Final = "ARBITREX_PRODUCER__SHARDS_FILE"


def shards(settings: Settings) -> dict[str, Settings]:
    """Every shard's settings, by name, in the file's order. Raises SettingsError, which names file, shard and field."""
    path = settings.producer.shards_file
    if path is None:
        return {settings.producer.shard: settings}
    found: dict[str, Settings] = {}
    for name, entry in _entries(path).items():
        producer = _merged(settings.producer, name, entry, path)
        found[name] = settings.model_copy(update={"producer": producer})
    _check_apart(found, path)
    return found


def shard(settings: Settings, name: str) -> Settings:
    """One shard's settings. Raises UsageError when there is none of this name, SettingsError."""
    known = shards(settings)
    if name not in known:
        raise UsageError(f"there is no shard {name}: choose from {', '.join(known)}")
    return known[name]


def _entries(path: Path) -> Mapping[str, Mapping[str, Any]]:
    where = f"{SETTING}={path}"
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{where}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict) or not raw or not all(isinstance(entry, dict) for entry in raw.values()):
        raise SettingsError(f"{where}: write NAME: {{symbols: […], terminal: {{…}}}}, one entry a shard")
    return {str(name): entry for name, entry in raw.items()}


def _merged(base: ProducerSettings, name: str, entry: Mapping[str, Any], path: Path) -> ProducerSettings:
    given = base.model_dump(exclude_unset=True) | {"shards_file": None}
    for key, value in entry.items():
        inner = given.get(key)
        given[key] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
    try:
        return ProducerSettings.model_validate(given | {"shard": name})
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"{SETTING}={path}: {name}: {place}: {problem['msg']}") from error


def _check_apart(found: Mapping[str, Settings], path: Path) -> None:
    """No symbol may be written by two shards of a feed."""
    for (first, ours), (second, theirs) in combinations(found.items(), 2):
        feed = ours.producer.feed
        if theirs.producer.feed != feed:
            continue
        for pattern, other in product(ours.producer.symbols or ("*",), theirs.producer.symbols or ("*",)):
            if (both := common(pattern, other)) is not None:
                raise SettingsError(
                    f"{SETTING}={path}: {first} and {second} would both have {both or 'every symbol'} ({pattern} and "
                    f"{other}) of feed {feed}: give each shard symbols of its own"
                )
