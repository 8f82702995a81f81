// The bars of one symbol and timeframe: history, closed and open bars merged by time of opening.

/** True when `bar` says more than `known` about the same stretch of time. */
function supersedes(bar, known) {
  if (known === undefined) return true;
  if (bar.closed !== known.closed) return bar.closed;
  if (bar.closed) return bar.revision >= known.revision;
  return bar.tick_count >= known.tick_count;
}

export class Series {
  #bars = new Map();
  #sorted = null;

  constructor(symbol, timeframe) {
    this.symbol = symbol;
    this.timeframe = timeframe;
  }

  holds(bar) {
    return bar.symbol === this.symbol && bar.timeframe === this.timeframe;
  }

  /** Take a bar in; false when it was known already, or better. */
  add(bar) {
    if (!this.holds(bar) || !supersedes(bar, this.#bars.get(bar.ts_open))) return false;
    this.#bars.set(bar.ts_open, bar);
    this.#sorted = null;
    return true;
  }

  get(tsOpen) {
    return this.#bars.get(tsOpen);
  }

  get size() {
    return this.#bars.size;
  }

  /** All bars by time of opening. */
  get bars() {
    this.#sorted ??= [...this.#bars.values()].sort((a, b) => a.ts_open - b.ts_open);
    return this.#sorted;
  }

  get first() {
    return this.bars[0];
  }

  get last() {
    return this.bars.at(-1);
  }
}
