"""A running stack's status, completed by what its components answer, as a table or as data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from infra import health
from infra.supervisor.runfile import Run
from schemas.registry import without_credentials

_COLUMNS: Final = ("component", "state", "ready", "pid", "restarts", "address", "metrics")


def complete(status: dict[str, Any], run: Run) -> dict[str, Any]:
    """The status with each component's own word on whether it is ready, and where its metrics are."""
    with ThreadPoolExecutor() as pool:
        components = list(pool.map(_asked, status["components"]))
    about = {key: value for key, value in asdict(run).items() if key not in {"token", "control"}}
    about["registry"], _ = without_credentials(run.registry)
    return {"running": True, **about, **status, "components": components}


def show(status: dict[str, Any]) -> None:
    """Print a table."""
    console = Console()
    table = Table(
        *_COLUMNS, title=f"world {status['world']}, pid {status['pid']}, {status['page']}", title_justify="left"
    )
    for each in status["components"]:
        ready = {True: "yes", False: "no", None: ""}[each["ready"]]
        state = str(each["state"])
        table.add_row(
            each["component"],
            state,
            ready,
            str(each["pid"] or ""),
            str(each["restarts"]),
            str(each.get("url") or each.get("address") or ""),
            each["metrics"] or "",
            style=None if state == "ready" and each["ready"] is not False else "yellow",
        )
    console.print(table)


def _asked(component: dict[str, Any]) -> dict[str, Any]:
    port = component.get("status_port")
    base = f"http://127.0.0.1:{port}" if port and component["pid"] else None
    return {
        **component,
        "ready": health.is_ready(base) if base else (component["state"] == "ready" or None),
        "metrics": f"{base}/metrics" if base else None,
    }
