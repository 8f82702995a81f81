// What sets bars apart: partial ones, revised ones, and the stretches between bars where others are missing.

const WORST = ["quiet", "market_closed", "feed_gap"];

/** "partial" (ticks of it are lost), "revised" (ticks of it came late) or "". */
export const markOf = (bar) => (bar.closed && bar.status !== "final" ? bar.status : "");

/** The stretches before or between closed bars, [from, to), that may lack some. */
export function holesOf(bars) {
  const holes = [];
  for (let index = 1; index < bars.length; index++) {
    const [from, to] = [bars[index - 1].ts_close, bars[index].ts_open];
    if (from < to) holes.push([from, to]);
  }
  return holes;
}

/** By the opening of the bar after them, what is missing between bars: {reason, ms, bars}, its worst reason first. */
export function breaksOf(missing, bars) {
  const breaks = new Map();
  let index = 0;
  for (const { from, to, reason, bars: count } of missing) {
    while (index < bars.length && bars[index].ts_open < to) index++;
    if (index === 0 || index === bars.length) continue;
    const after = bars[index].ts_open;
    const known = breaks.get(after);
    const worse = known && WORST.indexOf(known.reason) > WORST.indexOf(reason) ? known.reason : reason;
    breaks.set(after, { reason: worse, ms: (known?.ms ?? 0) + to - from, bars: (known?.bars ?? 0) + count });
  }
  return breaks;
}

/** Draws breaks as lines between candles: dashed where the feed had a gap, dotted where the market was closed. */
export class BreakLines {
  #chart = null;
  #request = () => {};
  #places = [];
  #colors = {};

  attached({ chart, requestUpdate }) {
    this.#chart = chart;
    this.#request = requestUpdate;
  }

  detached() {
    this.#chart = null;
  }

  /** `places`: [where the bar after it is drawn (seconds), reason]. */
  set(places, colors) {
    this.#places = places.filter(([, reason]) => reason !== "quiet");
    this.#colors = colors;
    this.#request();
  }

  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => target.useMediaCoordinateSpace((scope) => this.#draw(scope)) }) }];
  }

  #draw({ context, mediaSize }) {
    const scale = this.#chart.timeScale();
    const half = (scale.logicalToCoordinate(1) - scale.logicalToCoordinate(0)) / 2;
    for (const [place, reason] of this.#places) {
      const middle = scale.timeToCoordinate(place);
      if (middle === null || middle < -half || middle > mediaSize.width + half) continue;
      const gap = reason === "feed_gap";
      context.strokeStyle = gap ? this.#colors.warn : this.#colors.dim;
      context.lineWidth = gap ? 1.5 : 1;
      context.globalAlpha = gap ? 1 : 0.55;
      context.setLineDash(gap ? [6, 4] : [1, 4]);
      context.beginPath();
      context.moveTo(middle - half, 0);
      context.lineTo(middle - half, mediaSize.height);
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }
}
