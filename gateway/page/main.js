// The page: pickers, quote, chart and connection put together.
//
// For tests and automation, <main> tells what is shown: data-symbol, data-timeframe, data-bars (how many),
// data-last-time (opening of the last bar, epoch ms), data-last-close and data-updates (live changes drawn).

import { Chart } from "./chart.js";
import { Client } from "./client.js";
import { Series } from "./series.js";

const PAGE_OF_BARS = 1000;
const FIRST_SYMBOL = "EURUSD"; // where there is one
const FIRST_SYMBOL_MS = 500;
const SYMBOLS_MS = 10_000;
const $ = (id) => document.getElementById(id);
const stage = document.querySelector("main");

const specs = new Map();
let series = new Series("", "");
let updates = 0;
let loading = false;
let exhausted = false;
let pointed = null;
let shownBid = null;

const token = sessionStorage.getItem("token"); // of a gateway that asks for one: arbitrex token create

/** Ask for a token, and begin anew with it. */
function askToken() {
  $("ask-token").hidden = false;
  $("token").focus();
  $("token").onchange = () => {
    sessionStorage.setItem("token", $("token").value.trim());
    location.reload();
  };
}

async function get(path, parameters = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(`v1/${path}?${new URLSearchParams(parameters)}`, { headers });
  const body = await response.json();
  if (response.status === 401) askToken();
  if (!response.ok) throw new Error(body.error.message);
  return body;
}

const digitsOf = (symbol) => specs.get(symbol)?.digits ?? 5;
const clock = (ms) => new Date(ms).toISOString().slice(11, 23);
const minute = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

function state(name) {
  const words = { connecting: "connecting", live: "live", quiet: "feed quiet", lost: "connection lost", refused: "token needed" };
  $("state").dataset.state = name;
  $("state").lastElementChild.textContent = words[name];
}

/** A price with its last two digits of a pip large, the way dealers read it. */
function price(element, value, digits, way) {
  if (value === undefined || value === null) {
    element.textContent = "–";
    return;
  }
  const text = value.toFixed(digits);
  const cut = digits === 3 || digits === 5 ? 1 : 0;
  const pips = document.createElement("b");
  pips.textContent = text.slice(text.length - 2 - cut, text.length - cut);
  element.replaceChildren(text.slice(0, text.length - 2 - cut), pips, text.slice(text.length - cut));
  if (way) {
    element.dataset.move = way;
    requestAnimationFrame(() => requestAnimationFrame(() => delete element.dataset.move));
  }
}

function quote(tick) {
  const digits = digitsOf(tick.symbol);
  const way = shownBid === null || tick.bid === shownBid ? "" : tick.bid > shownBid ? "up" : "down";
  shownBid = tick.bid;
  price($("bid"), tick.bid, digits, way);
  price($("ask"), tick.ask, digits, way);
  spread(Math.round((tick.ask - tick.bid) * 10 ** digits), digits);
  $("time").textContent = `${clock(tick.ts_event)} UTC`;
  document.title = `${tick.symbol} ${tick.bid.toFixed(digits)} · Arbitrex`;
}

/** In pips where prices have a fractional one, else in points. */
function spread(points, digits) {
  const unit = document.createElement("small");
  const pips = digits === 3 || digits === 5;
  unit.textContent = pips ? " pips" : " points";
  $("spread").replaceChildren(pips ? (points / 10).toFixed(1) : String(points), unit);
}

function legend() {
  const bar = (pointed === null ? undefined : series.get(pointed)) ?? series.last;
  const line = $("legend");
  if (!bar) return line.replaceChildren();
  const digits = digitsOf(bar.symbol);
  const part = (name, value, way = "") => {
    const number = document.createElement("b");
    number.textContent = value;
    number.dataset.way = way;
    return [`${name} `, number, "   "];
  };
  const way = bar.close < bar.open ? "down" : "up";
  const flags = [bar.closed ? "" : "open", bar.status === "final" || !bar.closed ? "" : bar.status].filter(Boolean);
  return line.replaceChildren(
    `${minute(bar.ts_open)}   `,
    ...part("O", bar.open.toFixed(digits), way),
    ...part("H", bar.high.toFixed(digits), way),
    ...part("L", bar.low.toFixed(digits), way),
    ...part("C", bar.close.toFixed(digits), way),
    ...part("Ticks", bar.tick_volume),
    flags.join(" · "),
  );
}

function tell() {
  Object.assign(stage.dataset, {
    symbol: series.symbol,
    timeframe: series.timeframe,
    bars: series.size,
    lastTime: series.last?.ts_open ?? "",
    lastClose: series.last?.close ?? "",
    updates,
  });
  $("facts").textContent = series.size ? `${series.size} bars since ${minute(series.first.ts_open)} UTC` : "";
  legend();
}

const chart = new Chart($("chart"), {
  more: () => older(),
  pointed: (place) => {
    pointed = place;
    legend();
  },
});

function draw(fresh = false) {
  chart.show(series, digitsOf(series.symbol), fresh);
  tell();
}

/** Take bars in; those at the end are drawn at once, anything older redraws the whole. */
function take(bars) {
  const changed = bars.filter((bar) => series.add(bar)).sort((a, b) => a.ts_open - b.ts_open || a.number - b.number);
  if (!changed.length) return;
  updates += changed.length;
  if (!changed.every((bar) => chart.update(bar, series.place(bar)))) chart.show(series, digitsOf(series.symbol), false);
  notice();
  tell();
}

/** History of what is chosen; run again after each reconnection, since bars closed meanwhile. */
async function load(fresh) {
  const mine = series;
  loading = true;
  try {
    const { bars } = await get("bars", { symbol: mine.symbol, timeframe: mine.timeframe, limit: PAGE_OF_BARS });
    if (mine !== series) return;
    for (const bar of bars) series.add(bar);
    exhausted = bars.length < PAGE_OF_BARS;
    draw(fresh);
    notice(series.size ? "" : `No bars of ${mine.symbol} ${mine.timeframe} yet`);
  } catch (error) {
    if (mine === series) notice(`History is not available: ${error.message}`);
  } finally {
    if (mine === series) loading = false;
  }
}

async function older() {
  if (loading || exhausted || !series.size) return;
  const mine = series;
  loading = true;
  try {
    const to = mine.first.ts_open + (mine.first.day == null ? 0 : 1); // two of a day may open at once
    const parameters = { symbol: mine.symbol, timeframe: mine.timeframe, to, limit: PAGE_OF_BARS };
    const { bars } = await get("bars", parameters);
    if (mine !== series) return;
    exhausted = bars.length < PAGE_OF_BARS;
    for (const bar of bars) series.add(bar);
    if (bars.length) draw();
  } catch {
    exhausted = true; // what is shown stays; the next choice tries again
  } finally {
    if (mine === series) loading = false;
  }
}

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const base = new URL("v1/ws", location.href);
base.protocol = scheme;
const connection = new Client(base.href, {
  state,
  reconnected: () => {
    if (series.symbol) load(series.size === 0);
  },
  error: notice,
  message: ({ channel, type, data }) => {
    if (channel === "ticks") {
      const mine = data.filter((tick) => tick.symbol === series.symbol);
      if (mine.length) quote(mine.at(-1));
    } else if (channel === "bars.live" || channel === "bars") {
      take(data.filter((bar) => series.holds(bar)));
    }
  },
}, { token });

function choose(symbol, timeframe) {
  series = new Series(symbol, timeframe);
  shownBid = null;
  pointed = null;
  exhausted = false;
  $("name").textContent = symbol;
  for (const id of ["bid", "ask", "spread", "time"]) $(id).textContent = "–";
  $("chart").setAttribute("aria-label", `Candlestick chart of ${symbol}, ${timeframe}`);
  $("symbol").value = symbol;
  for (const button of $("timeframes").children) {
    const chosen = button.dataset.timeframe === timeframe;
    button.setAttribute("aria-checked", chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  history.replaceState(null, "", `#${encodeURIComponent(symbol)}/${timeframe}`);
  draw(true);
  notice("Loading…");
  connection.follow([
    { channel: "ticks", symbol },
    { channel: "bars", symbol, timeframe },
    { channel: "bars.live", symbol, timeframe },
  ]);
  load(true);
}

function timeframePicker(timeframes) {
  const group = $("timeframes");
  group.replaceChildren(
    ...timeframes.map((name) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: name });
      button.setAttribute("role", "radio");
      button.dataset.timeframe = name;
      button.addEventListener("click", () => choose(series.symbol, name));
      return button;
    }),
  );
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (timeframes.indexOf(series.timeframe) + step + timeframes.length) % timeframes.length;
    choose(series.symbol, timeframes[next]);
    group.children[next].focus();
  });
}

function theme() {
  const preferred = matchMedia("(prefers-color-scheme: light)");
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    chart.paint();
    if (series.size) draw();
  };
  apply(localStorage.getItem("theme") ?? (preferred.matches ? "light" : "dark"));
  preferred.addEventListener("change", () => {
    if (!localStorage.getItem("theme")) apply(preferred.matches ? "light" : "dark");
  });
  $("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    localStorage.setItem("theme", next);
    apply(next);
  });
}

/** Symbols appear with their first tick: the list is asked for again and again, often until there is one. */
async function start() {
  try {
    const { world, timeframes, symbols } = await get("symbols");
    const known = specs.size;
    for (const spec of symbols) specs.set(spec.symbol, spec);
    if (specs.size > known) {
      $("symbol").replaceChildren(...[...specs.keys()].sort().map((name) => new Option(name, name)));
      $("symbol").value = series.symbol;
    }
    if (!known && symbols.length) {
      if (world !== "main") $("world").textContent = world;
      $("symbol").addEventListener("change", () => choose($("symbol").value, series.timeframe));
      timeframePicker(timeframes);
      const [symbol, timeframe] = decodeURIComponent(location.hash.slice(1)).split("/");
      const first = specs.has(FIRST_SYMBOL) ? FIRST_SYMBOL : symbols[0].symbol;
      choose(specs.has(symbol) ? symbol : first, timeframes.includes(timeframe) ? timeframe : timeframes[0]);
    } else if (!specs.size) {
      notice("Waiting for the first symbol…");
    }
  } catch (error) {
    if (!specs.size) notice($("ask-token").hidden ? `The gateway does not answer: ${error.message}` : "");
  }
  if ($("ask-token").hidden) setTimeout(start, specs.size ? SYMBOLS_MS : FIRST_SYMBOL_MS);
}

theme();
start();
