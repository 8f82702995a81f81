"""The real page in a real browser, over a real gateway, while the market moves."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

from tests.gateway.conftest import Desk
from tests.gateway.market import FakeMarket
from tests.support import eventually

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


@pytest.fixture
def page(desk: Desk, complaints: list[str]) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1_280, "height": 760})
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.extend(_failure(request)))
        page.goto(desk.url)
        yield page
        browser.close()


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

    page.select_option("#symbol", "XAUUSD")
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
  const chart = new Chart(document.body.appendChild(document.createElement("div")), { more() {}, pointed() {}, away() {} });
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
