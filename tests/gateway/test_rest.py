"""REST of a real gateway process: the lake, Kafka's tail, and what is refused."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import hypothesis
import jsonschema
import polars as pl
import pytest
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.endpoints import TABLES
from gateway.feed import watermarks
from gateway.replay import WRITERS
from infra import kafka as clients
from infra.lake import tables
from infra.settings import LakeSettings, Settings
from infra.worlds import World
from schemas.codec import to_avro
from tests.gateway import udf_rules
from tests.gateway.conftest import Desk, Talk, body, happened, settled
from tests.gateway.market import MINUTE, START, FakeMarket
from tests.support import Child, eventually

PARTITIONS = 4

pytestmark = [pytest.mark.kafka, pytest.mark.one_broker]


def ends(settings: Settings, topic: str) -> dict[int, int]:
    """The next offset of each partition that holds anything."""
    consumer = clients.consumer(settings.kafka, group="test")
    try:
        found = {number: watermarks(consumer, topic, number)[1] for number in range(PARTITIONS)}
    finally:
        consumer.close()
    return {number: end for number, end in found.items() if end}


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()


def rows(records: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [to_avro(record) | more for record in records]


async def refused(http: aiohttp.ClientSession, path: str, **query: str) -> tuple[int, str, str]:
    async with http.get(f"/v1/{path}", params=query) as response:
        error = (await response.json())["error"]
        assert error["code"] == response.status
        return response.status, error.get("parameter", ""), error["message"]


async def test_symbols_with_what_a_chart_needs(http: aiohttp.ClientSession) -> None:
    found = await body(http, "symbols")
    assert [(spec["symbol"], spec["digits"]) for spec in found["symbols"]] == [("EURUSD", 5), ("XAUUSD", 2)]
    assert found["timeframes"][:2] == ["M1", "M5"]


async def test_latest_is_the_last_tick_and_the_open_bars(http: aiohttp.ClientSession, xauusd: FakeMarket) -> None:
    latest = await body(http, "latest", symbol="XAUUSD")
    assert latest["tick"] == to_avro(xauusd.ticks[-1])
    assert latest["bars"] == rows(list(xauusd.open.values()), closed=False)


async def test_bars_by_time_without_the_open_one(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    await asyncio.to_thread(eurusd.publish, 9, 20_000)
    await settled(http, eurusd)
    minutes = rows([bar for bar in eurusd.closed if bar.timeframe == "M1"], closed=True)
    everything = await body(http, "bars", symbol="EURUSD", timeframe="M1")
    assert everything["bars"] == minutes[-1_000:]
    assert (await body(http, "bars", symbol="EURUSD", timeframe="M1", limit="3"))["bars"] == minutes[-3:]
    start, end = START + 10 * MINUTE, START + 200 * MINUTE
    span = {"symbol": "EURUSD", "timeframe": "M1", "from": str(start), "to": iso(end)}
    inside = [row for row in minutes if start <= row["ts_open"] < end]
    assert (await body(http, "bars", **span))["bars"] == inside
    assert (await body(http, "bars", **span, limit="7"))["bars"] == inside[:7]
    before = await body(http, "bars", symbol="EURUSD", timeframe="M1", to=str(end), limit="5")
    assert before["bars"] == inside[-5:]


async def test_ticks_page_by_page(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    got: list[dict[str, Any]] = []
    query = {"symbol": "EURUSD", "from": iso(START), "limit": "500"}
    while True:
        page = await body(http, "ticks", **query)
        got += page["ticks"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert got == rows(eurusd.ticks)
    last = await body(http, "ticks", symbol="EURUSD")
    assert last["ticks"] == [row for row in got if row["ts_event"] >= got[-1]["ts_event"] - 300_000]
    some = await body(
        http, "ticks", symbol="EURUSD", **{"from": str(got[3]["ts_event"]), "to": str(got[6]["ts_event"])}
    )
    assert some["ticks"] == got[3:6]


async def test_the_lake_and_what_it_does_not_have_yet(
    http: aiohttp.ClientSession, desk: Desk, eurusd: FakeMarket
) -> None:
    settings = desk.settings.model_copy(update={"lake": LakeSettings(rotate_seconds=0.2)})

    def everything_in_the_lake() -> bool:
        reached = tables.ends(settings.lake_uri, None, settings.world, PARTITIONS)
        return all(reached.get(topic) == ends(settings, topic) for topic in map(world.topic, ("ticks.clean", "bars")))

    world = World(settings.world)
    with Child(settings, "sink", "lake"):
        await asyncio.to_thread(eventually, everything_in_the_lake, 60)
    in_lake = len(eurusd.ticks)
    await asyncio.to_thread(eurusd.publish, 400, 20_000)
    await settled(http, eurusd)
    minutes = rows([bar for bar in eurusd.closed if bar.timeframe == "M1"], closed=True)
    assert len([row for row in minutes if row["ts_open"] > eurusd.ticks[in_lake].ts_event]) > 100
    assert (await body(http, "bars", symbol="EURUSD", timeframe="M1", limit="10000"))["bars"] == minutes
    whole = await body(http, "ticks", symbol="EURUSD", limit="10000", **{"from": str(START)})
    assert whole["ticks"] == rows(eurusd.ticks)
    talk = Talk(await http.ws_connect("/v1/ws", max_msg_size=0), http)
    params = {"time": START, "symbol": "EURUSD", "timeframe": ["M1", "M5"], "to": eurusd.time, "speed": "max"}
    await talk.say("seek", params)
    await talk.until(lambda message: message.get("channel") == "replay" and message["data"][0]["state"] == "ended")
    played = [row for message in talk.heard if message.get("type") == "replay" for row in message["data"]]
    assert played == happened(eurusd, timeframes=("M1", "M5"), to=eurusd.time)
    await talk.socket.close()
    shutil.rmtree(settings.lake_uri)
    without = await body(http, "ticks", symbol="EURUSD", limit="10000", **{"from": str(START)})
    assert without["ticks"] == whole["ticks"]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("bars", {"timeframe": "M1"}, (400, "symbol")),
        ("bars", {"symbol": "NOPE", "timeframe": "M1"}, (404, "symbol")),
        ("bars", {"symbol": "EURUSD"}, (400, "timeframe")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M7"}, (400, "timeframe")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M1", "limit": "0"}, (400, "limit")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M1", "limit": "1e3"}, (400, "limit")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M1", "from": "yesterday"}, (400, "from")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M1", "from": "2", "to": "1"}, (400, "to")),
        ("bars", {"symbol": "EURUSD", "timeframe": "M1", "colour": "red"}, (400, "colour")),
        ("ticks", {"symbol": "EURUSD", "cursor": "1"}, (400, "cursor")),
        ("latest", {}, (400, "symbol")),
        ("nothing", {}, (404, "")),
    ],
)
async def test_what_is_wrong_is_named(
    http: aiohttp.ClientSession, path: str, query: dict[str, str], expected: tuple[int, str]
) -> None:
    status, parameter, message = await refused(http, path, **query)
    assert (status, parameter) == expected
    assert message


async def test_what_is_there_but_not_so_is_told_how(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/ws") as response:
        assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
    async with http.post("/v1/bars") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


async def test_health_readiness_and_metrics(http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ready"):
        async with http.get(path) as response:
            assert response.status == 200
    async with http.get("/metrics") as response:
        families = {family.name for family in text_string_to_metric_families(await response.text())}
    assert "arbitrex_gateway_clients" in families


async def test_the_page_allows_only_itself_and_is_validated(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as response:
        assert response.content_type == "text/html"
        policy, etag = response.headers["Content-Security-Policy"], response.headers["ETag"]
        text = await response.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in text.replace("https://www.tradingview.com/", "")
    async with http.get("/", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with http.get("/page/main.js") as response:
        assert response.content_type == "text/javascript"
        assert response.headers["Content-Encoding"] == "gzip"
    for path in ("/page/../service.py", "/page/%2e%2e/service.py", "/page/vendor", "/page/none.js"):
        async with http.get(path) as response:
            assert response.status == 404


@pytest.mark.parametrize("media", [media for media in TABLES if media != "application/json"])
async def test_rows_come_as_they_are_accepted(http: aiohttp.ClientSession, eurusd: FakeMarket, media: str) -> None:
    query = {"symbol": "EURUSD", "from": str(START), "limit": "40"}
    plain = await body(http, "ticks", **query)
    async with http.get("/v1/ticks", params=query, headers={"Accept": f"image/png, {media};q=0.5"}) as response:
        assert response.content_type == media
        data = await response.read()
        link = response.headers["Link"]
    readers = {"csv": pl.read_csv, "arrow": pl.read_ipc_stream, "parquet": pl.read_parquet}
    assert readers[TABLES[media]](io.BytesIO(data)).to_dicts() == plain["ticks"] == rows(eurusd.ticks[:40])
    async with http.get(link.partition("<")[2].partition(">")[0]) as response:
        assert (await response.json())["ticks"] == rows(eurusd.ticks[40:80])
    async with http.get("/v1/ticks", params=query, headers={"Accept": "image/png"}) as response:
        assert response.status == 406


async def test_bars_page_by_page(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    got: list[dict[str, Any]] = []
    query = {"symbol": "EURUSD", "timeframe": "M1", "from": str(START), "limit": "100"}
    while query["from"] != "None":
        page = await body(http, "bars", **query)
        got += page["bars"]
        query["from"] = str(page["next"])
    assert got == rows([bar for bar in eurusd.closed if bar.timeframe == "M1"], closed=True)


async def test_gaps_and_why_bars_are_missing(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    gaps = await body(http, "gaps", symbol="EURUSD")
    assert (gaps["coverage_from"], gaps["gaps"]) == (START, [])
    before = START - 10 * MINUTE
    found = await body(http, "missing", symbol="EURUSD", timeframe="M1", **{"from": str(before), "to": str(START)})
    assert found["missing"] == [{"from": before, "to": START, "reason": "feed_gap", "bars": 10}]
    assert found["processed_to"] == eurusd.time
    assert (await refused(http, "missing", symbol="EURUSD", timeframe="M1"))[:2] == (400, "from")


async def test_openapi_describes_every_address_and_its_parameters(http: aiohttp.ClientSession) -> None:
    described = (await body(http, "openapi.json"))["paths"]
    for path in described:
        if path in {"/v1/ws", "/metrics"}:
            continue
        needed = [each["name"] for each in described[path]["get"]["parameters"] if each["required"]]
        values = {"symbol": "EURUSD", "timeframe": "M1", "from": str(START), "to": str(START + MINUTE)}
        async with http.get(path, params={name: values[name] for name in needed}) as response:
            assert response.status == 200, await response.text()
        for name in needed:
            rest = {other: values[other] for other in needed if other != name}
            async with http.get(path, params=rest) as response:
                assert response.status == 400
                assert (await response.json())["error"]["parameter"] == name
    served = {"/v1/bars", "/v1/ticks", "/v1/latest", "/v1/symbols", "/v1/missing", "/v1/gaps", "/health", "/ready"}
    assert served < set(described)


async def test_udf_as_tradingview_asks(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    async def udf(path: str, **query: str) -> Any:
        async with http.get(f"/udf/{path}", params=query) as response:
            assert response.status == 200
            return await response.json(content_type=None)

    config = await udf("config")
    assert {"1", "5", "60", "1D", "1W", "1M"} <= set(config["supported_resolutions"])
    assert config["supports_search"] != config["supports_group_request"]  # exactly one of them: the library's rule
    assert abs(await udf("time") - datetime.now(UTC).timestamp()) < 60
    assert [each["symbol"] for each in await udf("search", query="usd", type="", exchange="", limit="10")] == [
        "EURUSD",
        "XAUUSD",
    ]
    info = await udf("symbols", symbol="EURUSD")
    assert (info["pricescale"], info["minmov"], info["session"]) == (100_000, 1, "24x7")
    assert set(info["supported_resolutions"]) <= set(config["supported_resolutions"])
    assert (await udf("symbols", symbol="NOPE"))["s"] == "error"

    made = [bar for bar in eurusd.closed if bar.timeframe == "M1"]
    start, end = made[10].ts_open // 1_000, made[30].ts_open // 1_000
    span = {"symbol": "EURUSD", "resolution": "1", "from": str(start), "to": str(end)}
    found = await udf("history", **span)
    assert found["s"] == "ok"
    assert list(zip(*(found[name] for name in "tohlcv"), strict=True)) == [
        (bar.ts_open // 1_000, bar.open, bar.high, bar.low, bar.close, bar.tick_volume) for bar in made[10:30]
    ]
    counted = await udf("history", **span, countback="5")
    assert counted["t"] == [bar.ts_open // 1_000 for bar in made[25:30]]
    newest = await udf("history", **span | {"to": "9999999999"}, countback="2")
    assert newest["t"][-1] == eurusd.open["M1"].ts_open // 1_000
    nothing = await udf("history", **span | {"from": "9999999000", "to": "9999999999"})
    assert nothing == {"s": "no_data", "nextTime": eurusd.open["M1"].ts_open // 1_000}
    assert (await udf("history", **span | {"resolution": "7"}))["s"] == "error"


async def test_udf_keeps_to_tradingviews_rules(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    async def udf(path: str, **query: str) -> Any:
        async with http.get(f"/udf/{path}", params=query) as response:
            text = await response.text()
            return int(text) if path == "time" else json.loads(text)

    config = await udf("config")
    found = await udf("search", query="", type="", exchange="", limit="1")
    problems = [*udf_rules.of_config(config), *udf_rules.of_search(found, 1)]
    problems += udf_rules.of_time(str(await udf("time")))
    for each in await udf("search", query="", type="", exchange=config["exchanges"][0]["value"], limit="30"):
        info = await udf("symbols", symbol=each["ticker"])
        problems += udf_rules.of_symbol(info, config)
        for resolution in info["supported_resolutions"]:
            for end in (eurusd.time // 1_000 + 60, eurusd.time // 1_000 - 3_600, START // 1_000 - 86_400):
                asked = {"symbol": each["ticker"], "resolution": resolution, "from": str(end - 7_200), "to": str(end)}
                for countback in (None, 7):
                    bars = await udf("history", **asked | ({"countback": str(countback)} if countback else {}))
                    about = f"{asked} {countback}: "
                    told = udf_rules.of_history(bars, resolution, end - 7_200, end, countback)
                    problems += [about + text for text in told]
    assert problems == []
    assert list(udf_rules.of_history(await udf("history", symbol="NOPE"), "1", 0, 1)) == []


VALUES = st.one_of(
    st.sampled_from(["EURUSD", "XAU*", "EURUSD,XAUUSD", "*", "", "M1", "H1", "max", "../..", "%00", "\x00", "é"]),
    st.sampled_from(["0", "-1", "1", "1.2", "10000", "10001", "1e400", "NaN", "9" * 30, "2024-02-30"]),
    st.sampled_from([str(START), str(START + MINUTE), iso(START)]),
    st.text(max_size=12),
)  # fmt: skip


async def test_any_rest_request_is_answered_as_described(http: aiohttp.ClientSession) -> None:
    description = await body(http, "openapi.json")
    error = jsonschema.Draft202012Validator(description["components"]["schemas"]["Error"])
    loop, seen = asyncio.get_running_loop(), set[int]()
    gets = {path: found["get"] for path, found in description["paths"].items()}
    paths = {path: [each["name"] for each in get["parameters"]] for path, get in gets.items()}

    async def asked(path: str, query: dict[str, str], accept: str, method: str) -> None:
        async with http.request(method, path, params=query, headers={"Accept": accept}) as response:
            content = await response.read()
            seen.add(response.status)
            if method == "GET":
                about = path, query, accept, response.status
                assert str(response.status) in gets[path]["responses"], about
            assert response.status < 500, (path, query, accept, content[:200])
            if response.status >= 400 and method == "GET":
                error.validate(json.loads(content))

    @hypothesis.settings(max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(
        st.sampled_from(sorted(paths)), st.data(), st.sampled_from([*TABLES, "*/*", "text/html", "x;q=z", ""]),
        st.sampled_from(["GET"] * 8 + ["POST", "DELETE"]),
    )  # fmt: skip
    def ask(path: str, data: st.DataObject, accept: str, method: str) -> None:
        names = st.sampled_from([*paths[path], "colour"])
        query = data.draw(st.dictionaries(names, VALUES, max_size=5))
        if data.draw(st.booleans()):
            query = {"symbol": "EURUSD", "timeframe": "M1", "from": str(START), "to": str(START + MINUTE)} | query
            query = {name: value for name, value in query.items() if name in paths[path]}
        asyncio.run_coroutine_threadsafe(asked(path, query, accept, method), loop).result(30)

    await asyncio.to_thread(ask)
    assert {200, 400} <= seen


@pytest.mark.parametrize("media", sorted(WRITERS))
async def test_a_replay_gives_all_ticks_in_the_order_of_their_time(
    http: aiohttp.ClientSession, eurusd: FakeMarket, xauusd: FakeMarket, media: str
) -> None:
    query = {"symbol": "XAUUSD,EURUSD", "from": str(START), "to": str(eurusd.time)}
    async with http.get("/v1/replay", params=query, headers={"Accept": media}) as response:
        assert (response.status, response.content_type) == (200, media)
        data = await response.read()
    got = (
        [json.loads(line) for line in data.splitlines()]
        if media == "application/x-ndjson"
        else pl.read_ipc_stream(io.BytesIO(data)).to_dicts()
    )
    made = [tick for tick in (*eurusd.ticks, *xauusd.ticks) if tick.ts_event < eurusd.time]
    assert got == rows(sorted(made, key=lambda tick: (tick.ts_event, tick.symbol)))


async def test_a_replay_keeps_its_pace(http: aiohttp.ClientSession, eurusd: FakeMarket) -> None:
    first = eurusd.ticks[0].ts_event
    span = {"symbol": "EURUSD", "from": str(first), "to": str(first + 100_001), "speed": "200"}
    start = time.monotonic()
    async with http.get("/v1/replay", params=span) as response:
        times = [(json.loads(line)["ts_event"], time.monotonic() - start) async for line in response.content]
    assert [ts for ts, _ in times] == [tick.ts_event for tick in eurusd.ticks[:6]]
    assert all(passed >= (ts - first) / 1_000 / 200 - 0.01 for ts, passed in times)
    assert (await refused(http, "replay", **span | {"speed": "0"}))[:2] == (400, "speed")
    assert (await refused(http, "replay", **span | {"symbol": "EURUSD,NOPE"}))[:2] == (404, "symbol")
