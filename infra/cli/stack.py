"""``arbitrex up``, ``down``, ``status``, ``reset``: the whole stack on one machine."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
