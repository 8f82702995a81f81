// The page: its parts put together.
//
// For tests and automation, <main> tells what is shown: data-symbol, data-timeframe, data-bars (how many),
// data-first-time and data-last-time (opening of the first and the last bar, epoch ms), data-last-close and
// data-updates (live changes drawn).

import { Api } from "./api.js";
import { Chart } from "./chart.js";
import { Client } from "./client.js";
import { Console } from "./console.js";
import { minute } from "./format.js";
import { History } from "./history.js";
import { keys } from "./keys.js";
import { Latency } from "./latency.js";
import { legend } from "./legend.js";
import { Link } from "./link.js";
import { Log } from "./log.js";
import { Quote } from "./quote.js";
import { Symbols } from "./symbols.js";
import { theme } from "./theme.js";
import { Timeframes } from "./timeframes.js";
import { views } from "./views.js";
import { Watch } from "./watch.js";
import { listened } from "./wire.js";

const WATCH_INTERVAL_MS = 250;
const SPARK_BARS = 30;
const SPARK_TIMEFRAME = "M5"; // or the first one
const GAP_KINDS = ["gap", "correction"];
const $ = (id) => document.getElementById(id);
const stage = document.querySelector("main");

let updates = 0;
let pointed = null;

const api = new Api(() => {
  $("ask-token").hidden = false;
  $("token").focus();
});
$("token").addEventListener("change", () => api.use($("token").value.trim()));

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

const symbols = new Symbols(api, { known, wanted: choose, failed: notice });
const latency = new Latency();
const link = new Link(latency);
const quote = new Quote();
const log = new Log($("lines"), $("log-filter"));
const history = new History(api, draw);
const chart = new Chart($("chart"), {
  more: () => history.older(),
  pointed: (place) => {
    pointed = place;
    tellBar();
  },
  away: (is) => ($("newest").hidden = !is),
});
const watch = new Watch($("watch"), $("filter"), { chosen: pick, digits: (symbol) => symbols.digits(symbol) });
const timeframes = new Timeframes($("timeframes"), (name) => symbols.choose(history.series.symbol, name));

function tellBar() {
  const { series, breaks } = history;
  const bar = (pointed === null ? undefined : series.get(pointed)) ?? series.last;
  legend($("legend"), bar, symbols.digits(series.symbol), bar && breaks.get(bar.ts_open));
}

function tell() {
  const { series } = history;
  Object.assign(stage.dataset, {
    symbol: series.symbol,
    timeframe: series.timeframe,
    bars: series.size,
    firstTime: series.first?.ts_open ?? "",
    lastTime: series.last?.ts_open ?? "",
    lastClose: series.last?.close ?? "",
    updates,
  });
  $("facts").textContent = series.size ? `${series.size.toLocaleString("en")} bars since ${minute(series.first.ts_open)} UTC` : "";
  tellBar();
}

function draw({ fresh }) {
  chart.show(history.series, symbols.digits(history.series.symbol), fresh);
  chart.separate(history.breaks);
  tell();
}

/** Take live bars in; those at the end are drawn at once, anything older redraws the whole. */
function take(bars) {
  const { series } = history;
  const changed = bars.filter((bar) => series.add(bar)).sort((a, b) => a.ts_open - b.ts_open || a.number - b.number);
  if (!changed.length) return;
  updates += changed.length;
  if (changed.every((bar) => chart.update(bar, series.place(bar)))) tell();
  else draw({ fresh: false });
  notice();
}

async function load() {
  const { series } = history;
  try {
    await history.load();
    if (series === history.series) notice(series.size ? "" : `No bars of ${series.symbol} ${series.timeframe} yet`);
  } catch (error) {
    if (series === history.series) notice(`History is not available: ${error.message}`);
  }
}

const client = { now: null };

function connect() {
  const socket = base();
  client.now = new Client(socket, {
    state: (name) => {
      link.state(name);
      hand.connected(name !== "refused");
    },
    reconnected: () => {
      if (history.series.symbol) load();
    },
    error: (text, message) => {
      hand.refused(message);
      if (!message.symbol) notice(text);
    },
    message: receive,
  }, { token: api.token, WebSocket: listened(hear), cursors: client.now?.cursors });
  follow();
}

function base() {
  const url = new URL("v1/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function disconnect() {
  client.now.close();
  link.state("closed");
  hand.connected(false);
}

function hear(event) {
  latency.hear(event);
  log.hear(event);
}

function receive({ channel, type, data }) {
  const { series } = history;
  if (channel === "ticks") {
    watch.ticks(data);
    const mine = data.filter(({ symbol }) => symbol === series.symbol);
    if (mine.length) quote.show(mine.at(-1));
    if (type === "update") latency.ticks(mine);
  } else if (channel === "bars.live" || channel === "bars") {
    if (channel === "bars") watch.bars(data.filter(({ timeframe }) => timeframe === sparkTimeframe()));
    take(data.filter((bar) => series.holds(bar)));
  } else if (channel === "events" && type === "update") {
    if (data.some(({ kind, symbol }) => GAP_KINDS.includes(kind) && (!symbol || symbol === series.symbol))) explain();
  } else if (channel === "status") {
    link.status(type, data);
  }
}

function explain() {
  history.explain().catch(() => {});
}

const sparkTimeframe = () => (symbols.timeframes.includes(SPARK_TIMEFRAME) ? SPARK_TIMEFRAME : symbols.timeframes[0]);

/** Tell the client all that the parts of the page want to hear of. */
function follow() {
  const { symbol, timeframe } = history.series;
  if (!symbol) return client.now.follow(hand.wanted);
  const all = api.token ? symbols.names : "*"; // a token may allow only some
  return client.now.follow([
    { channel: "ticks", symbol },
    { channel: "bars", symbol, timeframe },
    { channel: "bars.live", symbol, timeframe },
    { channel: "ticks", symbol: all, interval: WATCH_INTERVAL_MS },
    { channel: "bars", symbol: all, timeframe: sparkTimeframe(), snapshot: SPARK_BARS },
    { channel: "events", symbol: all },
    ...hand.wanted,
  ]);
}

function known(names, { world, timeframes: all }) {
  if (world !== "main") $("world").textContent = world;
  $("symbol").replaceChildren(...names.map((name) => new Option(name, name)));
  $("symbol").value = history.series.symbol;
  watch.know(names);
  hand.know(names, all);
  if (!$("timeframes").childElementCount) timeframes.know(all);
  if (api.token && history.series.symbol) follow();
}

/** Show a symbol and timeframe. */
function choose(symbol, timeframe) {
  history.begin(symbol, timeframe);
  pointed = null;
  quote.begin(symbol, symbols.digits(symbol));
  $("chart").setAttribute("aria-label", `Candlestick chart of ${symbol}, ${timeframe}`);
  $("symbol").value = symbol;
  timeframes.select(timeframe);
  watch.select(symbol);
  draw({ fresh: true });
  notice("Loading…");
  follow();
  load();
}

/** A symbol of the watch list was picked. */
function pick(symbol) {
  if (symbol !== history.series.symbol) symbols.choose(symbol, history.series.timeframe);
  if (document.activeElement !== $("watch")) views.show("chart");
}

const hand = new Console({
  changed: follow,
  connect,
  disconnect,
  pause: () => log.pause(),
  clear: () => log.clear(),
});
$("symbol").addEventListener("change", () => symbols.choose($("symbol").value, history.series.timeframe));
$("newest").addEventListener("click", () => chart.toNewest());
$("help-open").addEventListener("click", () => $("help").showModal());
views.begin(() => log.open());
theme($("theme"), () => {
  chart.paint();
  watch.paint();
});
keys({
  "/": () => views.show("watch") || $("filter").focus(),
  m: () => views.toggleLog(),
  t: () => $("theme").click(),
  "?": () => $("help").showModal(),
  ...Object.fromEntries([...Array(9).keys()].map((index) => [
    String(index + 1),
    () => timeframes.at(index) !== undefined && symbols.choose(history.series.symbol, timeframes.at(index)),
  ])),
});
connect();
symbols.begin();
