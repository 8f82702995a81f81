"""The real page in a real browser, over a real gateway, while the market moves."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from gateway.tokens import TokenFile
from infra import ports
from infra.settings import GatewaySettings
from tests.gateway.conftest import Desk
from tests.gateway.market import MINUTE, START, FakeMarket, spec
from tests.support import Child, Out, eventually

pytestmark = [pytest.mark.browser, pytest.mark.kafka, pytest.mark.one_broker]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
BARS = "main[data-symbol='{}'][data-timeframe='{}']:not([data-bars='0'])"


@pytest.fixture
def moving(eurusd: FakeMarket, xauusd: FakeMarket) -> Iterator[None]:
    """Ticks of both symbols, several a second, until the test ends."""
    stop = threading.Event()

    def trade() -> None:
        while not stop.wait(0.2):
            for market in (eurusd, xauusd):
                market.publish(2, 4_000)

    thread = threading.Thread(target=trade)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def complaints() -> list[str]:
    """What the page's console said."""
    return []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def blank(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A browser's page with nothing in it, of a user who has never been here."""
    page = browser.new_page(viewport={"width": 1_280, "height": 760})
    page.set_default_timeout(60_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(_failure(request)))
    yield page
    page.close()


@pytest.fixture
def page(desk: Desk, blank: Page) -> Page:
    blank.goto(desk.url)
    return blank


def _failure(request: Request) -> list[str]:
    aborted = "ERR_ABORTED" in str(request.failure)  # a reload ends what is under way
    return [] if aborted else [f"{request.url}: {request.failure}"]


def shown(page: Page, name: str) -> str:
    return str(page.locator("main").get_attribute(f"data-{name}"))


def changes(page: Page, name: str) -> None:
    """Wait until what the page tells about itself is something else."""
    expect(page.locator("main")).not_to_have_attribute(f"data-{name}", shown(page, name), timeout=60_000)


@pytest.mark.usefixtures("moving")
def test_the_chart_moves_and_symbol_and_timeframe_switch(page: Page, complaints: list[str]) -> None:
    page.wait_for_selector(BARS.format("EURUSD", "M1"))
    expect(page.locator("#state")).to_have_text("live", timeout=60_000)
    eventually(lambda: int(shown(page, "bars")) > 360)  # once the history has come
    changes(page, "last-close")
    changes(page, "last-time")
    changes(page, "updates")
    assert float(shown(page, "last-close")) == pytest.approx(1.085, rel=0.01)
    assert float(page.locator("#bid").inner_text()) == pytest.approx(1.085, rel=0.01)
    assert float(page.locator("#ask").inner_text()) > 1

    expect(page.locator("#feeds-sum")).to_have_text("no feed yet")
    gold = page.locator("#watch-XAUUSD")
    before = gold.inner_text()
    expect(gold).not_to_have_text(before, timeout=60_000)
    gold.click()
    page.wait_for_selector(BARS.format("XAUUSD", "M1"))
    changes(page, "last-close")
    assert float(shown(page, "last-close")) == pytest.approx(2_390, rel=0.01)
    expect(page.locator("#name")).to_have_text("XAUUSD")

    page.get_by_role("radio", name="M5", exact=True).click()
    page.wait_for_selector(BARS.format("XAUUSD", "M5"))
    changes(page, "last-close")
    assert int(shown(page, "last-time")) % 300_000 == 0

    page.get_by_role("radio", name="M5", exact=True).press("ArrowRight")
    page.wait_for_selector(BARS.format("XAUUSD", "M15"))
    assert complaints == []


COUNT_BARS = """async () => {
  const { Series } = await import("./page/series.js");
  const { Chart } = await import("./page/chart.js");
  const series = new Series("EURUSD", "T:5");
  const bar = (number, ts_open, revision = 0, closed = true) => ({
    symbol: "EURUSD", timeframe: "T:5", day: 1000, number, ts_open, revision, closed,
    open: 1, high: 2, low: 1, close: 2, tick_volume: 5, tick_count: 5,
  });
  const shown = () => series.bars.map((one) => [one.number, one.revision, series.place(one)]);
  for (const one of [bar(2, 5003), bar(0, 1000), bar(1, 5003), bar(3, 5009)]) series.add(one);
  const before = shown();
  const nothing = { more() {}, pointed() {}, away() {} };
  const chart = new Chart(document.body.appendChild(document.createElement("div")), nothing);
  chart.show(series, 5, true);
  const late = bar(3, 5005, 1), open = bar(4, 6000, 0, false);
  series.add(late);
  series.add(open);
  const drawn = (one) => chart.update(one, series.place(one));
  return [before, shown(), drawn(late), drawn(open), series.get(5004).number];
}"""


def test_tick_bars_that_open_at_once_are_drawn_beside_each_other_and_move(page: Page, complaints: list[str]) -> None:
    before, after, earlier, newest, pointed = page.evaluate(COUNT_BARS)
    assert before == [[0, 0, 1_000], [1, 0, 5_003], [2, 0, 5_004], [3, 0, 5_009]]
    assert after == [[0, 0, 1_000], [1, 0, 5_003], [2, 0, 5_004], [3, 1, 5_005], [4, 0, 6_000]]
    assert (earlier, newest, pointed) == (False, True, 2)
    assert complaints == []


@pytest.mark.usefixtures("moving")
def test_the_choice_survives_a_reload_and_colours_switch(page: Page, complaints: list[str]) -> None:
    page.wait_for_selector(BARS.format("EURUSD", "M1"))
    page.select_option("#symbol", "XAUUSD")
    page.wait_for_selector(BARS.format("XAUUSD", "M1"))
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between dark and light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    page.wait_for_selector(BARS.format("XAUUSD", "M1"))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints == []


@pytest.mark.usefixtures("moving")
def test_what_the_address_names_is_shown_when_it_comes_and_scrolled_back(desk: Desk, blank: Page) -> None:
    blank.goto(f"{desk.url}#GBPUSD/M1")
    blank.wait_for_selector(BARS.format("EURUSD", "M1"))
    gbpusd = FakeMarket(desk.settings, desk.eurusd.codec, "GBPUSD", 1.27, time=START - 1_260 * MINUTE)
    gbpusd.introduce()
    gbpusd.publish(1_250, step=MINUTE)
    blank.wait_for_selector(BARS.format("GBPUSD", "M1"))
    eventually(lambda: int(shown(blank, "bars")) >= 1_000)
    blank.locator("#chart").focus()
    blank.keyboard.press("Home")
    eventually(lambda: shown(blank, "first-time") == str(gbpusd.closed[0].ts_open))
    blank.locator("#newest").click()
    expect(blank.locator("#newest")).to_be_hidden()


def test_a_hundred_symbols_are_listed_found_and_quoted(desk: Desk, blank: Page, complaints: list[str]) -> None:
    names = [f"SYM{number:02}" for number in range(100)]
    desk.eurusd.write("symbols", [Out(name, desk.eurusd.codec.encode(spec(name)), START) for name in names])
    blank.goto(desk.url)
    expect(blank.locator("#watch li[id*=SYM]")).to_have_count(len(names))

    def quote(number: int) -> str:
        """A tick of each, and what it is shown as."""
        tick = replace(desk.eurusd.ticks[-1], ts_event=START + number, bid=1.5 + number / 1e5, ask=1.6)
        desk.eurusd.write("ticks.clean", [desk.eurusd.tick(replace(tick, symbol=name)) for name in names])
        return f"{tick.bid:.5f}"

    rows = blank.locator("#watch li")
    expect(blank.locator("#watch-SYM00 .bid")).to_have_text(quote(1))
    blank.locator("#watch").focus()
    blank.keyboard.press("End")
    expect(rows.last).to_be_in_viewport()
    expect(rows.last).to_have_attribute("aria-selected", "true")
    last = blank.locator("#watch-SYM99 .bid")
    before, now = last.inner_text(), quote(2)
    assert before != now
    expect(last).to_have_text(now)
    blank.keyboard.press("/")
    blank.keyboard.type("ym4")
    expect(blank.locator("#watch li:visible")).to_have_count(10)
    blank.keyboard.press("Enter")
    expect(blank.locator("#name")).to_have_text("SYM40")
    assert complaints == []


def enter_the_past(page: Page) -> None:
    """Begin a replay once the chart has its history."""
    page.wait_for_selector(BARS.format("EURUSD", "M1"))
    eventually(lambda: int(shown(page, "bars")) > 360)
    page.keyboard.press("r")
    expect(page.locator("body")).to_have_attribute("data-mode", "past")


@pytest.mark.usefixtures("moving")
def test_the_slider_goes_to_any_moment(page: Page, complaints: list[str]) -> None:
    enter_the_past(page)
    slider = page.locator("#replay-slider")
    first, last = (int(str(slider.get_attribute(name))) for name in ("min", "max"))
    assert first == START

    def stands_near(moment: float) -> bool:
        return abs(int(shown(page, "last-time") or 0) - moment) < 0.05 * (last - first)

    box = slider.bounding_box()
    assert box is not None
    for share in (0.5, 0.25):
        page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        eventually(partial(stands_near, first + share * (last - first)))
        expect(page.locator("#bid")).to_contain_text("1.08")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    eventually(lambda: int(shown(page, "last-time") or 0) >= last - last % MINUTE - MINUTE)
    page.keyboard.press("l")
    expect(page.locator("body")).to_have_attribute("data-mode", "live")
    assert complaints == []


@pytest.mark.usefixtures("moving")
def test_a_replay_steps_plays_and_arrives_in_the_present(page: Page, complaints: list[str]) -> None:
    enter_the_past(page)
    page.wait_for_selector(BARS.format("EURUSD", "M1"))
    began = int(shown(page, "last-time"))
    expect(page.locator("#bid")).to_contain_text("1.0")
    expect(page.locator("#watch-XAUUSD")).not_to_contain_text("2")

    def to_next_bar() -> bool:
        page.locator("#replay-bar").click()
        return int(shown(page, "last-time")) >= began + 120_000

    eventually(to_next_bar, every=0.5)
    standing = shown(page, "last-time"), shown(page, "last-close")
    page.get_by_role("radio", name="M5", exact=True).click()
    page.wait_for_selector(BARS.format("EURUSD", "M5"))
    assert int(shown(page, "last-time")) <= int(standing[0])
    expect(page.locator("#state")).to_have_text("in the past")

    page.select_option("#replay-speed", "max")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-mode", "live", timeout=60_000)
    page.wait_for_selector(BARS.format("EURUSD", "M5"))
    changes(page, "last-close")
    expect(page.locator("#state")).to_have_text("live")
    page.keyboard.press("r")
    expect(page.locator("#replay")).to_be_visible()
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator("body")).to_have_attribute("data-mode", "live")
    changes(page, "updates")
    assert complaints == []


@pytest.mark.usefixtures("moving")
def test_a_killed_gateway_is_noticed_and_found_again_and_the_token_stays_secret(
    desk: Desk, blank: Page, tmp_path: Path
) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    channels = ["ticks", "bars", "bars.live"]
    token, _ = file.create("desk", symbols=["EUR*"], channels=channels, rate=None, expires=None, now=0)
    gateway = GatewaySettings(port=ports.free_port(), heartbeat_seconds=1, tokens_file=file.path)
    settings = desk.settings.model_copy(update={"gateway": gateway})
    with Child(settings, "gateway") as child:
        blank.goto(child.ready["url"])
        blank.get_by_label("Token").fill(token)
        blank.keyboard.press("Enter")
        blank.wait_for_selector(BARS.format("EURUSD", "M1"))
        expect(blank.locator("#watch li")).to_have_count(1)
        blank.locator("#log-toggle").click()
        blank.locator("#ask-symbol").fill("XAUUSD")
        blank.get_by_role("button", name="Subscribe", exact=True).click()
        expect(blank.locator("#lines")).to_contain_text("does not allow ticks of XAUUSD")
        expect(blank.locator("#asked li")).to_have_count(0)
        blank.locator("#ask-symbol").fill("EUR*")
        blank.get_by_role("button", name="Subscribe", exact=True).click()
        expect(blank.get_by_role("button", name="Unsubscribe ticks EUR*")).to_be_visible()
        child.kill()
    expect(blank.locator("#state")).to_have_text("connection lost")
    with Child(settings, "gateway"):
        expect(blank.locator("#state")).to_have_text("live", timeout=60_000)
        changes(blank, "last-close")
        expect(blank.locator("#lines")).to_contain_text("ticks resumed")
        expect(blank.locator("#lines")).to_contain_text("authenticate")
        assert token not in blank.content()
        blank.get_by_role("button", name="Disconnect").click()
        expect(blank.locator("#state")).to_have_text("disconnected")


PIECES = """async () => {
  const { breaksOf, holesOf, markOf } = await import("./page/marks.js");
  const { Forming } = await import("./page/forming.js");
  const bar = (minute, ticks, status = "final") => ({
    symbol: "EURUSD", timeframe: "M1", ts_open: minute * 60000, ts_close: (minute + 1) * 60000, number: 0, day: null,
    first_tick_ts: minute * 60000 + ticks[0], first_tick_ordinal: 0,
    last_tick_ts: minute * 60000 + ticks[1], last_tick_ordinal: 0, status, closed: true,
  });
  const bars = [bar(0, [5, 9]), bar(3, [1, 50], "partial"), bar(9, [0, 7], "revised")];
  const missing = [
    { from: 60000, to: 120000, reason: "quiet", bars: 1 },
    { from: 120000, to: 180000, reason: "feed_gap", bars: 1 },
    { from: 240000, to: 540000, reason: "market_closed", bars: 5 },
  ];
  const tick = (ts_event, bid) => ({ symbol: "EURUSD", ts_event, ordinal: 0, bid, ask: bid + 1, flags: 2 });
  const forming = new Forming(bars, null, false);
  const ticks = [tick(5, 4), tick(9, 2), tick(11, 7), tick(180001, 5), tick(180050, 6)];
  const played = ticks.map((each) => forming.take(each));
  return [
    [...breaksOf(missing, bars)], holesOf(bars), bars.map(markOf),
    played.map((one) => one && [one.ts_open, one.open, one.high, one.low, one.close, one.tick_volume, one.closed]),
  ];
}"""


def test_breaks_are_told_by_their_worst_reason_and_open_bars_by_their_own_ticks(page: Page) -> None:
    breaks, holes, marks, played = page.evaluate(PIECES)
    assert breaks == [
        [180_000, {"reason": "feed_gap", "ms": 120_000, "bars": 2}],
        [540_000, {"reason": "market_closed", "ms": 300_000, "bars": 5}],
    ]
    assert holes == [[60_000, 180_000], [240_000, 540_000]]
    assert marks == ["", "partial", "revised"]
    assert played == [
        [0, 4, 4, 4, 4, 1, False],
        [0, 4, 4, 2, 2, 2, False],
        None,
        [180_000, 5, 5, 5, 5, 1, False],
        [180_000, 5, 6, 5, 6, 2, False],
    ]
