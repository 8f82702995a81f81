// Lightweight Charts, wrapped: candles and volume of a Series, in the page's colours.

const { createChart, CandlestickSeries, HistogramSeries, CrosshairMode, ColorType } = window.LightweightCharts;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const candle = (bar, place) => ({ time: place / 1000, open: bar.open, high: bar.high, low: bar.low, close: bar.close });

export class Chart {
  #chart;
  #candles;
  #volume;
  #newest = 0;

  /** `more()` is called when older bars come into sight, `pointed(place)` with where the bar under the pointer is drawn, or null. */
  constructor(element, { more, pointed }) {
    this.#chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: true, fontSize: 12, fontFamily: getComputedStyle(document.body).fontFamily },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 6, minBarSpacing: 1 },
      localization: { locale: "en-GB", dateFormat: "yyyy-MM-dd" },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.#candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.2 } });
    this.#volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < 20) more();
    });
    this.#chart.subscribeCrosshairMove(({ time }) => pointed(time === undefined ? null : Math.round(time * 1000)));
    element.addEventListener("keydown", (event) => this.#key(event));
    this.paint();
  }

  /** Take the page's colours over. */
  paint() {
    const [up, down, line] = [color("up"), color("down"), color("line")];
    this.#chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: color("ground") }, textColor: color("dim") },
      grid: { vertLines: { color: color("grid") }, horzLines: { color: color("grid") } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
    this.#candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
  }

  /** Show a whole series, keeping what is in sight unless `fresh`. */
  show(series, digits, fresh) {
    const shift = fresh ? null : this.#chart.timeScale().getVisibleRange();
    this.#candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    this.#chart.timeScale().applyOptions({
      timeVisible: !["D1", "W1", "MN1"].includes(series.timeframe),
      secondsVisible: series.timeframe.includes(":"),
    });
    this.#candles.setData(series.bars.map((bar) => candle(bar, series.place(bar))));
    this.#volume.setData(series.bars.map((bar) => this.#column(bar, series.place(bar))));
    this.#newest = series.last ? series.place(series.last) : 0;
    if (shift) this.#chart.timeScale().setVisibleRange(shift);
    else this.#frame(series.size);
  }

  /** Draw one new or changed bar; false when it is older than the newest one and the whole has to be shown. */
  update(bar, place) {
    if (place < this.#newest) return false;
    this.#newest = place;
    this.#candles.update(candle(bar, place));
    this.#volume.update(this.#column(bar, place));
    return true;
  }

  #column(bar, place) {
    const way = bar.close < bar.open ? "down" : "up";
    return { time: place / 1000, value: bar.tick_volume, color: `${color(way)}55` };
  }

  #frame(size) {
    const scale = this.#chart.timeScale();
    this.#chart.priceScale("right").applyOptions({ autoScale: true });
    const wanted = Math.max(60, Math.min(180, Math.round(scale.width() / 8)));
    scale.setVisibleLogicalRange({ from: size - wanted, to: size + 6 });
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
      "+": () => move(range.from + width / 10, range.to),
      "=": () => move(range.from + width / 10, range.to),
      "-": () => move(range.from - width / 10, range.to),
      End: () => scale.scrollToRealTime(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }
}
