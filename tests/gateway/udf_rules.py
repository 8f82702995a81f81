"""What TradingView's documentation asks of a UDF server, as a list of what a server does not keep to.

Source: https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF/ and .../Symbology/. None of our
code is used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from zoneinfo import available_timezones

RESOLUTION = re.compile(r"^(\d+|\d*[SDWM]|\d+S)$")
FLAGS = ("supports_search", "supports_group_request", "supports_marks", "supports_timescale_marks", "supports_time")
STATUSES = {"streaming", "endofday", "delayed_streaming"}
ZONES = available_timezones() | {"exchange"}


def of_config(config: dict[str, Any]) -> Iterator[str]:
    for flag in FLAGS:
        if not isinstance(config.get(flag), bool):
            yield f"{flag} is no boolean"
    if config["supports_search"] == config["supports_group_request"]:
        yield "exactly one of search and group requests is supported"
    if not all(isinstance(each, str) and RESOLUTION.match(each) for each in config["supported_resolutions"]):
        yield f"resolutions: {config['supported_resolutions']}"
    for exchange in config["exchanges"]:
        if set(exchange) != {"value", "name", "desc"}:
            yield f"exchange {exchange}"
    for kind in config["symbols_types"]:
        if set(kind) != {"name", "value"}:
            yield f"symbol type {kind}"


def of_time(text: str) -> Iterator[str]:
    if not re.fullmatch(r"\d{10}", text):
        yield f"time is Unix seconds, not {text}"


def of_search(found: list[dict[str, Any]], limit: int) -> Iterator[str]:
    if len(found) > limit:
        yield f"{len(found)} found where at most {limit} were asked for"
    for each in found:
        if not {"symbol", "description", "exchange", "type"} <= set(each) or not all(
            isinstance(value, str) for value in each.values()
        ):
            yield f"search result {each}"


def of_symbol(info: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    for name in ("name", "ticker", "description", "type", "exchange", "listed_exchange", "session", "timezone"):
        if not isinstance(info.get(name), str):
            yield f"{name}: {info.get(name)}"
    if info["timezone"] not in ZONES:
        yield f"timezone {info['timezone']}"
    if info["format"] not in {"price", "volume"}:
        yield f"format {info['format']}"
    if not isinstance(info["minmov"], int) or not re.fullmatch(r"10*", str(info["pricescale"])):
        yield f"minmov {info['minmov']}, pricescale {info['pricescale']}"
    if info["data_status"] not in STATUSES or info["volume_precision"] not in range(10):
        yield f"data_status {info['data_status']}, volume_precision {info['volume_precision']}"
    yield from _of_resolutions(info, config)


def _of_resolutions(info: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    supported = set(info["supported_resolutions"])
    if not supported <= set(config["supported_resolutions"]):
        yield f"resolutions the server does not have: {supported}"
    if info["has_intraday"] != any(each.isdigit() for each in supported):
        yield "has_intraday says otherwise than the resolutions"
    if not set(info["intraday_multipliers"]) <= supported:
        yield f"intraday_multipliers {info['intraday_multipliers']}"
    if "1D" in supported and not info["has_daily"]:
        yield "a daily resolution without has_daily"


def of_history(
    bars: dict[str, Any], resolution: str, start: int, end: int, countback: int | None = None
) -> Iterator[str]:
    """``start`` and ``end``: what was asked for, Unix seconds, the end not included."""
    state = bars.get("s")
    if state == "error":
        yield from () if isinstance(bars.get("errmsg"), str) else ("an error without errmsg",)
    elif state == "no_data":
        if set(bars) - {"s", "nextTime"} or bars.get("nextTime", 0) >= end:
            yield f"no_data with {bars}"
    elif state != "ok":
        yield f"state {state}"
    else:
        yield from _of_bars(bars, resolution, start, end, countback)


def _of_bars(bars: dict[str, Any], resolution: str, start: int, end: int, countback: int | None) -> Iterator[str]:
    times: list[int] = bars["t"]
    if not times or {len(bars[name]) for name in "tohlcv"} != {len(times)}:
        yield "columns of unlike length, or empty ones that are not no_data"
    if any(later <= earlier for earlier, later in pairwise(times)):
        yield "times do not rise"
    if any(not re.fullmatch(r"\d{10}", str(each)) for each in times):
        yield "times are no Unix seconds"
    if times and (times[-1] >= end or (countback is None and times[0] < start)):
        yield f"bars from {times[0]} to {times[-1]} where [{start}, {end}) was asked for"
    if countback is not None and len(times) > countback:
        yield f"{len(times)} bars where {countback} were asked for"
    if not resolution.isdigit() and any(each % 86_400 for each in times):
        yield "a day's or longer bar does not open at 00:00 UTC"
    for open_, high, low, close in zip(*(bars[name] for name in "ohlc"), strict=True):
        if not low <= min(open_, close) <= max(open_, close) <= high:
            yield f"no bar: {open_} {high} {low} {close}"
