// Lightweight Charts, wrapped: candles and volume of a Series with its marks, in the page's colours.

import { BreakLines, markOf } from "./marks.js";

const { createChart, createSeriesMarkers, CandlestickSeries, HistogramSeries, CrosshairMode, ColorType } = window.LightweightCharts;

const COLORS = ["ground", "dim", "line", "grid", "up", "down", "warn", "accent"];
const BARS_RIGHT = 6; // room between the newest bar and the edge
const BARS_AHEAD = 150; // how far from the oldest bar more are asked for

export class Chart {
  #chart;
  #candles;
  #volume;
  #markers;
  #breaks = new BreakLines();
  #colors = {};
  #series = null;
  #between = new Map();
  #newest = 0;
  #revised = 0;

  /**
   * `more()` is called when older bars come near, `pointed(place)` with where the bar under the pointer is drawn, or
   * null, `away(is)` with whether the newest bar is out of sight.
   */
  constructor(element, { more, pointed, away }) {
    this.#chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: true, fontSize: 12, fontFamily: getComputedStyle(document.body).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: BARS_RIGHT, minBarSpacing: 0.5 },
      localization: { locale: "en-GB", dateFormat: "yyyy-MM-dd" },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries);
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.#markers = createSeriesMarkers(this.#candles, []);
    this.#candles.attachPrimitive(this.#breaks);
    this.#candles.priceScale().applyOptions({ scaleMargins: { top: 0.1, bottom: 0.2 } });
    this.#volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (!range) return;
      if (range.from < BARS_AHEAD) more();
      away(range.to < (this.#series?.size ?? 0) - 1);
    });
    this.#chart.subscribeCrosshairMove(({ time }) => pointed(time === undefined ? null : Math.round(time * 1000)));
    element.addEventListener("keydown", (event) => this.#key(event));
    this.paint();
  }

  /** Take the page's colours over. */
  paint() {
    const style = getComputedStyle(document.documentElement);
    for (const name of COLORS) this.#colors[name] = style.getPropertyValue(`--${name}`).trim();
    const { ground, dim, line, grid, up, down } = this.#colors;
    this.#chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: ground }, textColor: dim },
      grid: { vertLines: { color: grid }, horzLines: { color: grid } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
    this.#candles.applyOptions({
      upColor: up, downColor: down, borderUpColor: up, borderDownColor: down, wickUpColor: up, wickDownColor: down,
    });
    if (this.#series) this.#fill();
  }

  /** Show a whole series, keeping what is in sight unless `fresh`. */
  show(series, digits, fresh) {
    this.#series = series;
    this.#candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    this.#chart.timeScale().applyOptions({
      timeVisible: !["D1", "W1", "MN1"].includes(series.timeframe),
      secondsVisible: series.timeframe.includes(":"),
    });
    this.#fill();
    if (fresh) this.#frame(series.size);
  }

  /** Draw one new or changed bar; false when it is older than the newest one and the whole has to be shown. */
  update(bar, place) {
    if (place < this.#newest) return false;
    this.#newest = place;
    this.#candles.update(this.#candle(bar, place));
    this.#volume.update(this.#column(bar, place));
    if (markOf(bar) === "revised") this.#mark();
    return true;
  }

  /** Mark what is missing between bars: what breaksOf() found. */
  separate(breaks) {
    this.#between = breaks;
    this.#drawBreaks();
  }

  /** Bring the newest bars into sight. */
  toNewest() {
    this.#chart.timeScale().scrollToPosition(BARS_RIGHT, false);
  }

  #fill() {
    const bars = this.#series.bars.map((bar) => [bar, this.#series.place(bar)]);
    this.#candles.setData(bars.map(([bar, place]) => this.#candle(bar, place)));
    this.#volume.setData(bars.map(([bar, place]) => this.#column(bar, place)));
    this.#newest = bars.length ? bars.at(-1)[1] : 0;
    this.#mark();
    this.#drawBreaks();
  }

  /** Partial bars are hollow. */
  #candle(bar, place) {
    const candle = { time: place / 1000, open: bar.open, high: bar.high, low: bar.low, close: bar.close };
    return markOf(bar) === "partial" ? { ...candle, color: this.#colors.ground } : candle;
  }

  #column(bar, place) {
    const way = bar.close < bar.open ? "down" : "up";
    return { time: place / 1000, value: bar.tick_volume, color: `${this.#colors[way]}55` };
  }

  #mark() {
    const revised = this.#series.bars.filter((bar) => markOf(bar) === "revised");
    if (!revised.length && !this.#revised) return;
    this.#revised = revised.length;
    const about = { position: "aboveBar", shape: "circle", color: this.#colors.accent, size: 0.6 };
    this.#markers.setMarkers(revised.map((bar) => ({ time: this.#series.place(bar) / 1000, ...about })));
  }

  #drawBreaks() {
    this.#breaks.set([...this.#between].map(([opens, { reason }]) => [opens / 1000, reason]), this.#colors);
  }

  #frame(size) {
    const scale = this.#chart.timeScale();
    this.#chart.priceScale("right").applyOptions({ autoScale: true });
    const wanted = Math.max(60, Math.min(180, Math.round(scale.width() / 8)));
    scale.setVisibleLogicalRange({ from: size - wanted, to: size + BARS_RIGHT });
  }

  #key(event) {
    const scale = this.#chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = range.to - range.from;
    const move = (from, to) => scale.setVisibleLogicalRange({ from, to });
    const keys = {
      ArrowLeft: () => move(range.from - width / 10, range.to - width / 10),
      ArrowRight: () => move(range.from + width / 10, range.to + width / 10),
      PageUp: () => move(range.from - width, range.to - width),
      PageDown: () => move(range.from + width, range.to + width),
      "+": () => move(range.from + width / 10, range.to),
      "=": () => move(range.from + width / 10, range.to),
      "-": () => move(range.from - width / 10, range.to),
      Home: () => move(0, width),
      End: () => this.toNewest(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }
}
