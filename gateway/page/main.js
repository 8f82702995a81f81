// The page: its parts put together.
//
// For tests and automation, <main> tells what is shown: data-symbol, data-timeframe, data-bars (how many),
// data-first-time and data-last-time (opening of the first and the last bar, epoch ms), data-last-close and
// data-updates (changes drawn); <body> has data-mode, "live" or "past".

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
import { Past } from "./past.js";
import { Quote } from "./quote.js";
import { Replay } from "./replay.js";
import { Symbols } from "./symbols.js";
import { theme } from "./theme.js";
import { Timeframes } from "./timeframes.js";
import { views } from "./views.js";
import { Watch } from "./watch.js";
import { listened } from "./wire.js";

const WATCH_INTERVAL_MS = 250;
const SPARK_BARS = 30;
const SPARK_TIMEFRAME = "M5"; // or the first one
const BARS_BACK = 60;
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
const history = new History(api, draw);
const past = new Past(api, history, () => client.now, { ticks: quotes, bars: take, state: inThePast, present });
const replay = new Replay({
  seek,
  play: (playing) => past.play(playing),
  speed: (speed) => past.speed(speed),
  step: (params) => past.step(params.ticks ? params : { timeframe: history.series.timeframe }),
  live: () => past.live(),
});
const log = new Log($("lines"), $("log-filter"));
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

const client = { now: null, wanted: true };
const INTERNAL = 500; // such an error only pauses a replay

function connect() {
  client.wanted = true;
  client.now = new Client(base(), {
    state: (name) => {
      if (!client.wanted) return;
      link.state(name);
      hand.connected(name !== "refused");
    },
    reconnected: () => {
      if (history.series.symbol && !past.active) load();
    },
    error: (text, message) => {
      hand.refused(message);
      if (message.method === "seek" && message.code !== INTERNAL) queueMicrotask(() => past.active && past.live());
      if (!message.symbol) notice(text);
    },
    message: receive,
  }, { token: api.token, WebSocket: listened(hear), cursors: client.now?.cursors });
  follow();
  if (past.active) seek(past.time);
}

function base() {
  const url = new URL("v1/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function disconnect() {
  client.wanted = false;
  client.now.close();
  link.state("closed");
  hand.connected(false);
}

function hear(event) {
  latency.hear(event);
  log.hear(event);
}

function receive(message) {
  const { channel, type, data } = message;
  if (channel === "replay") {
    if (type === "update") past.update(data);
  } else if (channel === "status") {
    link.status(type, data);
  } else if (channel === "events") {
    const { symbol } = history.series;
    if (type === "update" && data.some((event) => GAP_KINDS.includes(event.kind) && (event.symbol ?? symbol) === symbol)) explain();
  } else if (past.fits(message)) {
    market(message);
  }
}

/** Ticks and bars of the time that is shown. */
function market({ channel, type, data }) {
  if (channel === "ticks") {
    if (past.active) past.ticks(data);
    else quotes(data);
    if (type === "update") latency.ticks(data.filter(({ symbol }) => symbol === history.series.symbol));
  } else {
    if (channel === "bars") watch.bars(data.filter(({ timeframe }) => timeframe === sparkTimeframe()));
    take(data.filter((bar) => history.series.holds(bar)));
  }
}

function quotes(ticks) {
  watch.ticks(ticks);
  const mine = ticks.filter(({ symbol }) => symbol === history.series.symbol);
  if (mine.length) quote.show(mine.at(-1));
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

/** Show a symbol and timeframe, at the time that is shown. */
function choose(symbol, timeframe) {
  $("chart").setAttribute("aria-label", `Candlestick chart of ${symbol}, ${timeframe}`);
  $("symbol").value = symbol;
  timeframes.select(timeframe);
  watch.select(symbol);
  if (past.active) {
    seek(past.time, symbol, timeframe);
    follow();
    return;
  }
  history.begin(symbol, timeframe);
  begin();
  follow();
  load();
}

/** Nothing of what was shown counts any more. */
function begin() {
  const { symbol } = history.series;
  pointed = null;
  quote.begin(symbol, symbols.digits(symbol));
  draw({ fresh: true });
  notice("Loading…");
}

/** Go to a moment of the past. */
async function seek(time, symbol = history.series.symbol, timeframe = history.series.timeframe) {
  if (!past.active) past.speed(replay.speed);
  watch.clear();
  const gone = past.seek(time, { symbol, timeframe, finest: symbols.timeframes[0], spec: symbols.spec(symbol) });
  begin();
  const { series } = history;
  try {
    await gone;
    if (series === history.series) notice(series.size ? "" : `No bars of ${symbol} ${timeframe} before that`);
  } catch (error) {
    if (series === history.series) notice(`The past is not available: ${error.message}`);
  }
}

function inThePast(state, time) {
  document.body.dataset.mode = "past";
  link.past(true);
  $("replay").hidden = false;
  $("replay-open").setAttribute("aria-pressed", "true");
  replay.state(state, time);
}

/** The past is over: begin anew, with the present. */
function present() {
  const { symbol, timeframe } = history.series;
  document.body.dataset.mode = "live";
  link.past(false);
  $("replay").hidden = true;
  $("replay-open").setAttribute("aria-pressed", "false");
  watch.clear();
  choose(symbol, timeframe);
}

/** Into the past, to the bar under the pointer or an hour of bars back. */
async function openPast() {
  const { series } = history;
  if (past.active || !series.size) return;
  const bar = (pointed === null ? undefined : series.get(pointed)) ?? series.bars.at(-BARS_BACK) ?? series.first;
  const { symbol } = series;
  const longest = symbols.timeframes.findLast((name) => !name.includes(":"));
  const [{ bars, tick }, { bars: oldest }] = await Promise.all([
    api.get("latest", { symbol }),
    api.get("bars", { symbol, timeframe: longest, from: 0, limit: 1 }),
  ]);
  const first = Math.min(series.first.ts_open, ...[...oldest, ...bars].map(({ first_tick_ts }) => first_tick_ts));
  replay.range(first, tick?.ts_event ?? Date.now());
  seek(bar.ts_open);
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
$("replay-open").addEventListener("click", () => (past.active ? past.live() : openPast()));
$("help-open").addEventListener("click", () => $("help").showModal());
views.begin(() => log.open());
theme($("theme"), () => {
  chart.paint();
  watch.paint();
});
keys({
  "/": () => views.show("watch") || $("filter").focus(),
  m: () => views.toggleLog(),
  r: () => openPast(),
  " ": () => past.active && replay.toggle(),
  ".": () => past.active && replay.tick(),
  ",": () => past.active && replay.bar(),
  l: () => past.active && past.live(),
  t: () => $("theme").click(),
  "?": () => $("help").showModal(),
  ...Object.fromEntries([...Array(9).keys()].map((index) => [
    String(index + 1),
    () => timeframes.at(index) !== undefined && symbols.choose(history.series.symbol, timeframes.at(index)),
  ])),
});
connect();
symbols.begin();
