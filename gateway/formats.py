"""Rows as JSON, CSV, Arrow or Parquet, as the one who asks accepts them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import polars as pl
from aiohttp import web

from gateway.endpoints import TABLES
from gateway.market import Row
from gateway.problems import BadParameterError, answer
from schemas.columns import dtypes

_ANY: Final = frozenset({"*/*", "application/*"})


def rows_answer(
    request: web.Request, record: str, rows: Sequence[Row], head: dict[str, Any], next_page: dict[str, str] | None
) -> web.Response:
    """The rows of a record type; ``next_page``: the parameters that lead on, told in a Link header as well."""
    form, media = _wanted(request)
    if form == "json":
        response = answer(head)
    else:
        columns = dtypes(record) | ({"closed": pl.Boolean()} if record == "Bar" else {})
        frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, schema=pl.Schema(columns))
        response = web.Response(body=_written(frame, form), content_type=media, headers={"Cache-Control": "no-store"})
    response.headers["Vary"] = "Accept"
    if next_page:
        query = urlencode({**request.query, **next_page})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


def _wanted(request: web.Request) -> tuple[str, str]:
    """The first form that is accepted, by quality. Source: RFC 9110, 12.5.1."""
    ranked = []
    for place, part in enumerate(request.headers.get("Accept", "*/*").split(",")):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((_quality(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        ranked.append((-quality, place, media))
    for negative, _, media in sorted(ranked):
        if negative == 0:
            continue
        if media in _ANY:
            return "json", "application/json"
        if media == "text/*":
            return "csv", "text/csv"
        if media in TABLES:
            return TABLES[media], media
    raise BadParameterError("Accept", f"rows are given as {', '.join(TABLES)}", 406)


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _written(frame: pl.DataFrame, form: str) -> bytes:
    if form == "csv":
        return frame.write_csv().encode()
    out = io.BytesIO()
    if form == "arrow":
        frame.write_ipc_stream(out)
    else:
        frame.write_parquet(out)
    return out.getvalue()
