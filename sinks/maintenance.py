"""The lake's optimizer as a component."""

from __future__ import annotations

from typing import Final

from infra import logs
from infra.lake.layout import TABLES
from infra.process import Process
from infra.settings import Settings
from schemas.errors import StoreError

_FIRST_SECONDS: Final = 300.0
"""A start has other things to do, which is why what is heavy is imported after it, too."""

log = logs.logger(__name__)


def run(settings: Settings, process: Process, every_hours: float | None, retain_hours: float) -> None:
    """Optimize all tables, once or every so many hours until the process is asked to stop. Raises StoreError."""
    process.ready(lake=settings.lake_uri)
    if every_hours is not None:
        process.stopping.wait(min(_FIRST_SECONDS, every_hours * 3_600))
    while not process.stopping.is_set():
        try:
            _all(settings, process, retain_hours)
        except StoreError as error:
            if every_hours is None:
                raise
            log.warning("not optimized; tried again next time", error=str(error))
        if every_hours is None:
            return
        process.stopping.wait(every_hours * 3_600)


def _all(settings: Settings, process: Process, retain_hours: float) -> None:
    from sinks.optimize import optimize  # noqa: PLC0415 - heavy

    lake, stopping = settings.lake, process.stopping.is_set
    for table in TABLES:
        if stopping():
            return
        done = optimize(settings.lake_uri, lake.storage_options, table, retain_hours, stopping=stopping)
        counts = {"files": done.before, "became": done.after, "rows": done.rows, "deleted": done.deleted}
        log.info("optimized", table=table.name, **counts)
