// The bars of one symbol and timeframe: history, closed and open bars merged by time of opening; those of so many
// ticks, so much volume or value (they have a day) by their number in it, since a correction moves them.

/** True when `bar` says more than `known` about the same stretch of time. */
function supersedes(bar, known) {
  if (known === undefined) return true;
  if (bar.closed !== known.closed) return bar.closed;
  if (bar.closed) return bar.revision >= known.revision;
  return bar.tick_count >= known.tick_count;
}

const idOf = (bar) => (bar.day == null ? bar.ts_open : `${bar.day}.${bar.number}`);

export class Series {
  #bars = new Map();
  #sorted = null;
  #places = new Map();
  #drawn = new Map();

  constructor(symbol, timeframe) {
    this.symbol = symbol;
    this.timeframe = timeframe;
  }

  holds(bar) {
    return bar.symbol === this.symbol && bar.timeframe === this.timeframe;
  }

  /** Take a bar in; false when it was known already, or better. */
  add(bar) {
    const id = idOf(bar);
    if (!this.holds(bar) || !supersedes(bar, this.#bars.get(id))) return false;
    this.#bars.set(id, bar);
    this.#sorted = null;
    return true;
  }

  /** The bar that is drawn at a place in time. */
  get(place) {
    return this.bars && this.#drawn.get(place);
  }

  /** Where a bar is drawn: when it opens, or a millisecond after the bar before where both open at once. */
  place(bar) {
    return this.bars && this.#places.get(bar);
  }

  get size() {
    return this.#bars.size;
  }

  /** All bars by time of opening. */
  get bars() {
    if (!this.#sorted) {
      this.#sorted = [...this.#bars.values()].sort((a, b) => a.ts_open - b.ts_open || a.number - b.number);
      this.#places.clear();
      this.#drawn.clear();
      let place = -Infinity;
      for (const bar of this.#sorted) {
        place = Math.max(place + 1, bar.ts_open);
        this.#places.set(bar, place);
        this.#drawn.set(place, bar);
      }
    }
    return this.#sorted;
  }

  get first() {
    return this.bars[0];
  }

  get last() {
    return this.bars.at(-1);
  }
}
