"""The query of a request, checked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from gateway.problems import BadParameterError
from gateway.protocol import END_OF_TIME, LEAST_SPEED, MOST_SPEED

MOST_ROWS: Final = 10_000
USUAL_ROWS: Final = 1_000


class Query:
    """The query of a request. Raises BadParameterError naming what is wrong; unknown parameters are wrong, too."""

    def __init__(self, request: web.Request, *known: str) -> None:
        self._query = request.query
        for name in request.query:
            if name not in known:
                raise BadParameterError(name, f"unknown parameter {name}: {', '.join(known) or 'there is none'}")
            if len(request.query.getall(name)) > 1:
                raise BadParameterError(name, f"{name} is given more than once")

    def text(self, name: str) -> str:
        value = self._query.get(name)
        if not value:
            raise BadParameterError(name, f"{name} is missing")
        return value

    def has(self, name: str) -> bool:
        return name in self._query

    def choice(self, name: str, choices: Sequence[str], usual: str | None = None) -> str:
        """One of some; without a usual one it must be given."""
        value = self.text(name) if usual is None else self._query.get(name, usual)
        if value not in choices:
            raise BadParameterError(name, f"{name} {value} is none of {', '.join(choices)}")
        return value

    def limit(self) -> int:
        value = self._query.get("limit", str(USUAL_ROWS))
        number = int(value) if value.isascii() and value.isdigit() and len(value) < len(str(MOST_ROWS)) + 1 else 0
        if not 1 <= number <= MOST_ROWS:
            raise BadParameterError("limit", f"limit {value} is not a number from 1 to {MOST_ROWS}")
        return number

    def span(self) -> tuple[int | None, int]:
        """From (None when not given) and to, half open."""
        start, end = self._time("from"), self._time("to")
        if start is not None and end is not None and end < start:
            raise BadParameterError("to", "to is before from")
        return start, END_OF_TIME if end is None else end

    def cursor(self) -> tuple[int, int] | None:
        value = self._query.get("cursor")
        if value is None:
            return None
        time, _, ordinal = value.partition(".")
        if not _is_number(time) or not _is_number(ordinal):
            raise BadParameterError("cursor", f"cursor {value} is not one that next gave")
        return int(time), int(ordinal)

    def speed(self) -> float | None:
        """How many times its pace; None: as fast as possible."""
        value = self._query.get("speed", "max")
        if value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not LEAST_SPEED <= speed <= MOST_SPEED:
            raise BadParameterError(
                "speed", f"speed {value} is neither max nor a number from {LEAST_SPEED} to {MOST_SPEED}"
            )
        return speed

    def _time(self, name: str) -> int | None:
        value = self._query.get(name)
        if value is None:
            return None
        if _is_number(value):
            return int(value)
        try:
            moment = datetime.fromisoformat(value.replace(" ", "+"))  # a plus sign that nobody quoted is a space
        except ValueError:
            raise BadParameterError(name, f"{name} {value} is neither epoch milliseconds nor ISO 8601") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < len(str(END_OF_TIME)) + 1
