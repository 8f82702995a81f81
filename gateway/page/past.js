// The past on the page: seek to a moment, play it, and come back. docs/websocket.md has the messages.
//
// A seek is sent paused. Only when the bars up to its moment are there is it played, so nothing is missed.

import { begun, Forming, grown, merged } from "./forming.js";
import { ended } from "./history.js";

const OUTLINES = 1_000;
const FEW_OUTLINES = 100;
const PAGE = 10_000;
const MOST_PAGES = 20;
const EXTEND_MS = 1_000;

export class Past {
  /** Whether the page shows the past. */
  active = false;
  /** The replay's clock, epoch ms. */
  time = 0;
  state = "paused";
  #api;
  #history;
  #client;
  #handlers;
  #ready = false;
  #played = false;
  #speed = 1;
  #forming = null;
  #extending = false;

  /**
   * `client()` gives the client of the gateway. Handlers: `ticks(rows)`, `bars(rows)`, `state(name, time)` while in the
   * past, `present()` once it is over.
   */
  constructor(api, history, client, handlers) {
    this.#api = api;
    this.#history = history;
    this.#client = client;
    this.#handlers = handlers;
  }

  /**
   * Show a series as it was at a moment; `finest`: the timeframe that its open bar is made of. Throws what the gateway
   * says of the bars; what it says of the seek comes as an error of the client.
   */
  async seek(time, { symbol, timeframe, finest, spec }) {
    this.active = true;
    this.#ready = false;
    this.#forming = null;
    this.#tell("paused", time);
    this.#history.begin(symbol, timeframe, time);
    const { series } = this.#history;
    this.#client().seek({ time, symbol, timeframe, speed: this.#speed, paused: true });
    const [, { bar, forming }, { ticks }] = await Promise.all([
      this.#history.load(),
      this.#form(symbol, timeframe, time, finest, spec),
      this.#api.get("ticks", { symbol, to: time, limit: PAGE }),
    ]);
    if (series !== this.#history.series || !this.active) return;
    this.#forming = forming;
    this.#handlers.ticks(ticks.slice(-1));
    if (bar.tick_count) this.#handlers.bars([bar]);
    this.#ready = true;
    if (this.#played) this.#client().resume();
  }

  /** Play it, or hold it; also what the next seek will do. */
  play(playing) {
    this.#played = playing;
    if (!this.#ready) return;
    if (playing) this.#client().resume();
    else this.#client().pause();
  }

  speed(speed) {
    this.#speed = speed;
    if (this.active) this.#client().speed(speed);
  }

  /** On by so many ticks, or to the next bar that closes. */
  step(params) {
    this.#played = false;
    if (this.#ready) this.#client().step(params);
  }

  /** Back to the present. */
  live() {
    if (this.#client().isInPast) this.#client().live();
    this.#leave();
  }

  /** Whether a message is of the time that is shown: live ones in the present, replayed ones in the past. */
  fits({ type }) {
    return this.active ? type === "replay" && this.#ready : type !== "replay";
  }

  /** Ticks of the past, of which those of the chart's symbol make its open bar. */
  ticks(rows) {
    this.#handlers.ticks(rows);
    const { series } = this.#history;
    const bars = new Map();
    for (const tick of rows) {
      if (tick.symbol !== series.symbol) continue;
      const bar = this.#forming.take(tick);
      if (bar) bars.set(`${bar.ts_open}.${bar.number}`, bar);
    }
    if (bars.size) this.#handlers.bars([...bars.values()]);
    if (this.#forming.left < FEW_OUTLINES) this.#extend();
  }

  /** Rows of the channel replay. */
  update([{ state, time }]) {
    if (!this.active || !this.#ready) return;
    if (state === "live") this.#leave();
    else this.#tell(state, time);
  }

  #tell(state, time) {
    [this.state, this.time] = [state, time];
    if (state === "ended") this.#played = false;
    this.#handlers.state(state, time);
  }

  #leave() {
    this.active = this.#ready = this.#played = false;
    this.#handlers.present();
  }

  /** The bar that was open at a moment, as it was then, and the outlines of it and those after it. */
  async #form(symbol, timeframe, time, finest, { chart_mode }) {
    const [{ bars: one }, { bars: next }, { bars: open }] = await Promise.all([
      this.#api.get("bars", { symbol, timeframe, to: time, limit: 1 }),
      this.#api.get("bars", { symbol, timeframe, from: time, limit: OUTLINES }),
      this.#api.get("latest", { symbol }),
    ]);
    const last = next.length < OUTLINES ? open.filter((bar) => bar.timeframe === timeframe) : [];
    const outlines = [...one.filter((bar) => !ended(bar, time)), ...next, ...last];
    const [first] = outlines;
    const lasts = chart_mode === "last";
    if (!first || first.first_tick_ts >= time) return { bar: begun(first ?? {}), forming: new Forming(outlines, null, lasts) };
    const bar = await this.#soFar(first, time, finest, lasts);
    return { bar, forming: new Forming(outlines, bar, lasts) };
  }

  /** What a bar was at a moment: of whole bars of the finest timeframe first, then of ticks. */
  async #soFar(outline, time, finest, lasts) {
    let bar = begun(outline);
    let from = outline.first_tick_ts;
    if (outline.day == null && finest !== outline.timeframe) {
      for await (const { bars } of this.#pages("bars", { symbol: bar.symbol, timeframe: finest, from: outline.ts_open, to: time }, "from")) {
        for (const part of bars.filter(({ ts_close }) => ts_close <= time)) {
          bar = merged(bar, part);
          from = part.ts_close;
        }
      }
    }
    for await (const { ticks } of this.#pages("ticks", { symbol: bar.symbol, from, to: time }, "cursor")) {
      for (const tick of ticks) {
        if (tick.ts_event > outline.first_tick_ts || tick.ordinal >= outline.first_tick_ordinal) bar = grown(bar, tick, lasts);
      }
    }
    return bar;
  }

  async *#pages(path, parameters, name) {
    let answer = await this.#api.get(path, { ...parameters, limit: PAGE });
    for (let count = 1; ; count++) {
      yield answer;
      if (answer.next === null || count === MOST_PAGES) return;
      answer = await this.#api.get(path, { ...parameters, limit: PAGE, [name]: answer.next });
    }
  }

  async #extend() {
    const [forming, { symbol, timeframe }] = [this.#forming, this.#history.series];
    const { last, left } = forming;
    if (this.#extending || !last || left >= (last.closed ? FEW_OUTLINES : 1)) return;
    this.#extending = true;
    setTimeout(() => (this.#extending = false), EXTEND_MS);
    try {
      const { bars } = await this.#api.get("bars", { symbol, timeframe, from: last.ts_open + (last.closed ? 1 : 0), limit: OUTLINES });
      const { bars: open } = bars.length < OUTLINES ? await this.#api.get("latest", { symbol }) : { bars: [] };
      forming.extend([...bars, ...open.filter((bar) => bar.timeframe === timeframe)]);
    } catch {
      // until the next try the open bar is not drawn; closed bars come all the same
    }
  }
}
