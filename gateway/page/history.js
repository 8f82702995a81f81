// The bars of what is shown: the newest page, older pages as they are wanted, and why others are missing.

import { breaksOf, holesOf } from "./marks.js";
import { Series } from "./series.js";

const PAGE_OF_BARS = 1_000;
const QUIETLY = () => {}; // what explains the picture may be missing from it

/** Whether a bar had ended at a moment: by its last tick where no clock ends it. */
export const ended = (bar, time) => (bar.day == null ? bar.ts_close <= time : bar.last_tick_ts < time);

export class History {
  series = new Series("", "");
  /** By the opening of the bar after them, what is missing before it. */
  breaks = new Map();
  #api;
  #changed;
  #until = null;
  #missing = new Map();
  #loading = false;
  #exhausted = false;

  /** `changed({fresh})` is called when bars or breaks have come; `fresh` with the first page. */
  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  /** Begin with another series; of the past, as it stood at the moment `until` (epoch ms). */
  begin(symbol, timeframe, until = null) {
    this.series = new Series(symbol, timeframe);
    this.breaks = new Map();
    this.#missing.clear();
    this.#until = until;
    this.#loading = this.#exhausted = false;
  }

  /** The newest page; again after a reconnection, since bars closed meanwhile. Throws what the gateway says. */
  async load() {
    const fresh = this.series.size === 0;
    await this.#page(this.#until === null ? {} : { to: this.#until }, fresh);
  }

  /** The page before what is there. */
  async older() {
    const { series } = this;
    if (this.#loading || this.#exhausted || !series.size) return;
    const to = series.first.ts_open + (series.first.day == null ? 0 : 1); // two of a day may open at once
    try {
      await this.#page({ to }, false);
    } catch {
      if (series === this.series) this.#exhausted = true; // what is shown stays; the next choice tries again
    }
  }

  /** Ask why there is nothing between some bars; again, of all, when the feed has told of a gap. */
  async explain(bars = this.series.bars) {
    const { series } = this;
    const holes = holesOf(bars);
    if (!holes.length || series.first.day != null) return;
    const [from, to] = [holes[0][0], holes.at(-1)[1]];
    const { missing } = await this.#api.get("missing", { symbol: series.symbol, timeframe: series.timeframe, from, to });
    if (series !== this.series) return;
    for (const stretch of missing) this.#missing.set(stretch.from, stretch);
    this.breaks = breaksOf([...this.#missing.values()].sort((a, b) => a.from - b.from), series.bars);
    this.#changed({ fresh: false });
  }

  async #page(range, fresh) {
    const { series } = this;
    this.#loading = true;
    try {
      const { bars } = await this.#api.get("bars", { symbol: series.symbol, timeframe: series.timeframe, ...range, limit: PAGE_OF_BARS });
      if (series !== this.series) return;
      const known = bars.filter((bar) => this.#until === null || ended(bar, this.#until));
      for (const bar of known) series.add(bar);
      this.#exhausted = bars.length < PAGE_OF_BARS;
      this.#changed({ fresh });
      const next = known.length ? series.bars.find((bar) => bar.ts_open > known.at(-1).ts_open) : undefined;
      this.explain(next ? [...known, next] : known).catch(QUIETLY);
    } finally {
      if (series === this.series) this.#loading = false;
    }
  }
}
