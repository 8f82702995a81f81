"""From a fresh clone to a chart that moves: the README's first command, timed.

    python -m benchmarks.start [--cold]

Clones this repository's last commit, runs that line as it stands there in a shell, and opens the page that it names in
a headless Chromium which runs already. ``--cold``: with empty caches of pip and uv.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from playwright.sync_api import Page, expect, sync_playwright

from tests.gateway.test_page import CHROMIUM, FLAGS
from tests.support import ROOT

_ADDRESS = re.compile(r"^Arbitrex runs.* (http://\S+)")
_CHANGE_MS = 60_000


def command(clone: Path) -> str:
    """The first command line of the README."""
    found = re.search(r"^ {4}(\S.*arbitrex up)$", (clone / "README.md").read_text(), re.MULTILINE)
    if not found:
        raise SystemExit("README.md has no line that ends in: arbitrex up")
    return found.group(1)


@contextmanager
def started(clone: Path, environment: dict[str, str]) -> Iterator[IO[str]]:
    """The command's output while it runs; stopped as by Ctrl-C."""
    process = subprocess.Popen(  # noqa: S602 - a line of our own README, as its reader runs it
        command(clone),
        shell=True,
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield cast("IO[str]", process.stdout)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def moved(page: Page, address: str) -> None:
    """Open the page and wait until its last bar's close is another than at first."""
    page.goto(address)
    page.wait_for_selector("main:not([data-bars='0'])[data-last-close]", timeout=_CHANGE_MS)
    first = str(page.locator("main").get_attribute("data-last-close"))
    expect(page.locator("main")).not_to_have_attribute("data-last-close", first, timeout=_CHANGE_MS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="begin with empty caches")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, sync_playwright() as playwright:
        home, clone = Path(folder), Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        dropped = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment["ARBITREX_HOME"] = str(home / "data")
        if chosen.cold:
            environment |= {"UV_CACHE_DIR": str(home / "uv"), "PIP_CACHE_DIR": str(home / "pip")}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page, began = browser.new_page(), time.monotonic()
        with started(clone, environment) as output:
            for line in output:
                sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {line}")
                if found := _ADDRESS.search(line):
                    moved(page, found.group(1))
                    print(f"{time.monotonic() - began:6.1f} s  the chart moves")
                    break
        browser.close()


if __name__ == "__main__":
    main()
