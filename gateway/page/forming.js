// The bar that forms while ticks of the past are played.
//
// Which tick belongs to which bar the log has decided long ago: outlines are the bars that there were, of which only
// the ends are looked at, so nothing is shown before its time.

const FLAG_BID = 2;
const FLAG_LAST = 8;

const before = (time, ordinal, { ts_event, ordinal: other }) => time < ts_event || (time === ts_event && ordinal < other);

/** Add what a tick says to a bar, as the processor does; `lasts`: the last price makes this symbol's bars. */
export function grown(bar, tick, lasts) {
  if (lasts && !(tick.flags & FLAG_LAST)) return bar;
  const price = lasts ? tick.last : tick.bid;
  const counts = lasts || tick.flags & FLAG_BID ? 1 : 0;
  const start = bar.tick_count ? bar : { ...bar, open: price, high: price, low: price };
  return {
    ...start,
    high: Math.max(start.high, price),
    low: Math.min(start.low, price),
    close: price,
    tick_volume: bar.tick_volume + counts,
    tick_count: bar.tick_count + 1,
  };
}

/** A bar made of shorter ones. */
export function merged(bar, part) {
  const start = bar.tick_count ? bar : { ...bar, open: part.open, high: part.high, low: part.low };
  return {
    ...start,
    high: Math.max(start.high, part.high),
    low: Math.min(start.low, part.low),
    close: part.close,
    tick_volume: bar.tick_volume + part.tick_volume,
    tick_count: bar.tick_count + part.tick_count,
  };
}

/** A bar as it is before its first tick. */
export function begun({ symbol, feed, timeframe, ts_open, ts_close, day, number }) {
  const empty = { tick_volume: 0, tick_count: 0, revision: 0, feed_gap_ms: 0, status: "partial", closed: false };
  return { symbol, feed, timeframe, ts_open, ts_close, day, number, ...empty };
}

export class Forming {
  #lasts;
  #outlines;
  #at = 0;
  #bar = null;

  /** `outlines` in their order; `bar`: the first of them as far as it had come. */
  constructor(outlines, bar, lasts) {
    this.#outlines = outlines;
    this.#bar = bar;
    this.#lasts = lasts;
  }

  /** How many outlines are left. */
  get left() {
    return this.#outlines.length - this.#at;
  }

  /** The last outline; undefined when there is none. */
  get last() {
    return this.#outlines.at(-1);
  }

  /** Outlines that come after those that are known; the last of these again, if it was open. */
  extend(outlines) {
    const left = this.#outlines.slice(this.#at);
    this.#outlines = [...left.filter(({ ts_open }) => !outlines.length || ts_open < outlines[0].ts_open || left.at(-1).closed), ...outlines];
    this.#at = 0;
  }

  /** The bar with one more tick in it; null where no outline is known, or the tick makes none. */
  take(tick) {
    while (this.left && this.#over(this.#outlines[this.#at], tick)) {
      this.#at += 1;
      this.#bar = null;
    }
    const outline = this.#outlines[this.#at];
    if (!outline || before(tick.ts_event, tick.ordinal, { ts_event: outline.first_tick_ts, ordinal: outline.first_tick_ordinal })) return null;
    this.#bar = grown(this.#bar ?? begun(outline), tick, this.#lasts);
    return this.#bar.tick_count ? this.#bar : null;
  }

  /** Whether a bar ended before a tick; one that is still open goes on with the ticks that came since. */
  #over(outline, tick) {
    if (!outline.closed) return outline.day == null && tick.ts_event >= outline.ts_close;
    return before(outline.last_tick_ts, outline.last_tick_ordinal, tick);
  }
}
