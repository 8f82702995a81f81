"""Java programs for this machine: a Java, and jars from Maven Central kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import platformdirs

from schemas.errors import ComponentError

KAFKA_JAVA: Final = 17
"""The oldest Java that runs Kafka 4."""
_MAVEN_SECONDS: Final = 600
_POM: Final = Path(__file__).with_name("pom.xml")


def java(oldest: int) -> str:
    """The path of a Java of version ``oldest`` or newer. Raises ComponentError saying how to get one."""
    seen = []
    for found in _javas():
        output = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
        version = re.search(r'version "(?:1\.)?(\d+)', output.stderr)
        if version and int(version[1]) >= oldest:
            return found
        seen.append(f"{found} is {version[0] if version else output.stderr.strip()}")
    home = os.environ.get("JAVA_HOME")
    where = f"in JAVA_HOME={home} or on PATH" if home else "on PATH"
    what = "; ".join(seen) or f"no java {where}"
    raise ComponentError(f"Java {oldest} or newer is needed: {what}; {_remedy(oldest)}")


def _javas() -> Iterator[str]:
    """Where a Java may be: JAVA_HOME, PATH, and where Linux distributions put those that are on neither."""
    home = os.environ.get("JAVA_HOME")
    places = [shutil.which("java", path=str(Path(home) / "bin")) if home else None, shutil.which("java")]
    others = sorted(str(found) for found in Path("/usr/lib/jvm").glob("*/bin/java"))
    yield from dict.fromkeys(place for place in (*places, *others) if place)


def kafka_classpath() -> str:
    """The classpath of a Kafka broker: of KAFKA_HOME if it is set, else of jars that Maven fetches once.

    Raises ComponentError when neither is to be had.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        libs = Path(home) / "libs"
        if not any(libs.glob("kafka_*.jar")):
            raise ComponentError(f"KAFKA_HOME={home} holds no Kafka (no libs/kafka_*.jar); correct it or unset it")
        return str(libs / "*")
    digest = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    folder = fetched(
        f"kafka-{digest}",
        "Kafka's jars",
        lambda libs: ("-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={libs}"),
        "a real Kafka needs its jars: install Maven (apt install maven, brew install maven, "
        "winget install Apache.Maven), or download Kafka from https://kafka.apache.org/downloads "
        "and set KAFKA_HOME to its folder",
    )
    return str(folder / "*")


def fetched(
    name: str,
    what: str,
    goal: Callable[[Path], Sequence[str]],
    missing: str,
    finish: Callable[[Path], Path] = lambda filled: filled,
) -> Path:
    """The folder ``name`` of the user's cache, filled by Maven if it never was.

    ``goal`` gives Maven's arguments, for a folder to fill; ``finish`` makes of that folder the one to keep. Raises
    ComponentError: ``missing`` where there is no Maven, else why ``what`` could not be fetched.
    """
    folder = platformdirs.user_cache_path("arbitrex", appauthor=False) / name
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise ComponentError(missing)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        filled = Path(work) / "fetched"
        try:
            output = subprocess.run(  # noqa: S603
                [maven, "-q", "-B", *goal(filled)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_MAVEN_SECONDS,
                cwd=work,
            )
        except subprocess.TimeoutExpired as error:
            raise ComponentError(f"Maven did not fetch {what} within {_MAVEN_SECONDS} s") from error
        if output.returncode != 0 or not filled.is_dir():
            last = [line for line in (output.stdout + output.stderr).splitlines() if "ERROR" in line]
            raise ComponentError(f"Maven could not fetch {what}: {last[0] if last else output.stderr.strip()}")
        try:
            finish(filled).rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return folder


def _remedy(oldest: int) -> str:
    wanted = max(oldest, 21)
    return (
        f"install one (apt install default-jre-headless, brew install openjdk@{wanted}, "
        f"winget install EclipseAdoptium.Temurin.{wanted}.JRE) or point JAVA_HOME to it"
    )
