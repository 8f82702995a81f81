"""Snapshots of the schemas that were released: ``python -m schemas.release`` writes the current version's.

Run it once, as the last step before a version is tagged; a snapshot is never changed afterwards. The tests hold every
later schema against all snapshots.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

from schemas.definitions import NAMES, definition
from schemas.errors import UsageError

FOLDER: Final = Path(str(files("schemas"))) / "released"


def released() -> Iterator[tuple[str, str, str]]:
    """Every released schema: version, record name, text."""
    for path in sorted(FOLDER.glob("*/*.avsc")):
        yield path.parent.name, path.stem, path.read_text("utf-8")


def take(release: str, folder: Path = FOLDER) -> Path:
    """Write the current schemas as those of version ``release``. Raises UsageError if it has other ones already."""
    target = folder / release
    for name in NAMES:
        path, current = target / f"{name}.avsc", json.dumps(definition(name), indent=1) + "\n"
        if path.exists() and path.read_text("utf-8") != current:
            raise UsageError(f"{path} differs: version {release} has been released; raise the version first")
        target.mkdir(parents=True, exist_ok=True)
        path.write_text(current, "utf-8", newline="\n")
    return target


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{take(version('arbitrex'))}\n")
    except UsageError as error:
        sys.exit(str(error))
