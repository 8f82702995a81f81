"""The layout and the import rules of the design, held by the code itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "infra": {"schemas"},
    "producers": {"schemas", "infra"},
    "processors": {"schemas", "infra"},
    "sinks": {"schemas", "infra"},
    "gateway": {"schemas", "infra"},
}
TOP_LEVEL = {*MAY_IMPORT, "tests", "docs", "benchmarks"}
TOP_LEVEL_FILES = {"docker-compose.kafka.yml", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
LONGEST_MODULE = 400
PROOF = tuple(
    f"infra/proof/{name}.py"
    for name in ("terms", "derivation", "series", "matching", "partition", "comparing", "counts")
)
PURE = (
    "infra/market",
    "infra/mapping.py",
    *PROOF,
    "processors/core",
    "producers/cursor.py",
    "producers/history/rates.py",
    "producers/replay/selection.py",
    "gateway/parsing.py",
    "gateway/protocol.py",
)
IMPURE = {"confluent_kafka", "aiokafka", "faust", "asyncio", "time", "socket", "os", "pathlib", "threading", "aiohttp"}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if path.is_relative_to(ROOT / "infra" / "cli"):
        return  # the command line knows all of them
    foreign = {name.split(".")[0] for name in imports(path)} & set(MAY_IMPORT)
    assert foreign - {package} <= MAY_IMPORT[package]
    assert "infra.cli" not in {".".join(name.split(".")[:2]) for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_outgrows_a_few_hundred_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("place", PURE)
def test_the_pure_core_has_no_kafka_clock_or_disk_in_it(place: str) -> None:
    found = sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place]
    assert found
    for path in found:
        assert not {name.split(".")[0] for name in imports(path)} & IMPURE, path


def test_the_top_level_is_the_owners() -> None:
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
    folders = {name for name in present if (ROOT / name).is_dir()} - {"build", "dist"}
    assert folders <= TOP_LEVEL
    assert set(MAY_IMPORT) <= folders
    assert present >= TOP_LEVEL_FILES
    assert present - folders - {"build", "dist", "uv.lock"} <= TOP_LEVEL_FILES


def test_ci_calls_the_test_command_of_the_readme() -> None:
    command = next(line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "pytest" in line)
    script = (ROOT / ".ci" / "run").read_text("utf-8").replace(" -q --group", " --group")
    for part in command.strip().split(" && "):
        assert part in script
