// The watch list: a line for each symbol. What comes between two frames is drawn once, and only where it is in sight.

import { spreadOf } from "./format.js";
import { Price } from "./price.js";
import { Spark } from "./spark.js";

const PLACEHOLDER = "–";

export class Watch {
  #list;
  #chosen;
  #digits;
  #rows = new Map();
  #dirty = new Set();
  #frame = 0;
  #current = "";
  #sight = new IntersectionObserver((entries) => this.#seen(entries));
  #style = getComputedStyle(document.documentElement);

  /** `list` is a listbox; `filter` an input; `chosen(symbol)` is called for what the user picks. */
  constructor(list, filter, { chosen, digits }) {
    this.#list = list;
    this.#chosen = chosen;
    this.#digits = digits;
    list.addEventListener("click", (event) => {
      const line = event.target.closest("[role=option]");
      if (line) this.#chosen(line.dataset.symbol);
    });
    list.addEventListener("keydown", (event) => this.#key(event));
    filter.addEventListener("input", () => this.#narrow(filter.value));
    filter.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") this.#step(event, 0);
    });
  }

  /** Symbols as they become known. */
  know(symbols) {
    const fresh = symbols.filter((symbol) => !this.#rows.has(symbol));
    if (!fresh.length) return;
    for (const symbol of fresh) this.#rows.set(symbol, this.#line(symbol));
    const sorted = [...this.#rows.keys()].sort();
    this.#list.replaceChildren(...sorted.map((symbol) => this.#rows.get(symbol).line));
    this.select(this.#current);
  }

  /** Show which symbol the chart shows. */
  select(symbol) {
    this.#rows.get(this.#current)?.line.setAttribute("aria-selected", "false");
    this.#current = symbol;
    const row = this.#rows.get(symbol);
    if (!row) return;
    row.line.setAttribute("aria-selected", "true");
    this.#list.setAttribute("aria-activedescendant", row.line.id);
    row.line.scrollIntoView({ block: "nearest" });
  }

  /** Ticks of any symbols; of each the last counts. */
  ticks(rows) {
    for (const tick of rows) {
      const row = this.#rows.get(tick.symbol);
      if (!row) continue;
      row.tick = tick;
      this.#soon(tick.symbol);
    }
  }

  /** Closed bars for the sparklines. */
  bars(rows) {
    for (const bar of rows) {
      this.#rows.get(bar.symbol)?.spark.add(bar);
      this.#soon(bar.symbol);
    }
  }

  /** Forget all prices: what comes next is of another time. */
  clear() {
    for (const [symbol, row] of this.#rows) {
      row.tick = null;
      row.spark.clear();
      this.#soon(symbol);
    }
  }

  /** Draw all again, in other colours. */
  paint() {
    for (const symbol of this.#rows.keys()) this.#soon(symbol);
  }

  #line(symbol) {
    const line = document.createElement("li");
    line.id = `watch-${symbol}`;
    line.dataset.symbol = symbol;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", "false");
    const cell = (kind, tag = "span") => {
      const element = document.createElement(tag);
      element.className = kind;
      line.append(element);
      return element;
    };
    cell("symbol").textContent = symbol;
    const canvas = cell("spark", "canvas");
    canvas.setAttribute("aria-hidden", "true");
    const [bid, ask] = ["bid", "ask"].map((side) => new Price(cell(side)));
    this.#sight.observe(line);
    return { line, bid, ask, spread: cell("spread"), spark: new Spark(canvas), tick: null, visible: false };
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rows.get(target.dataset.symbol);
      row.visible = isIntersecting;
      if (isIntersecting) this.#soon(target.dataset.symbol);
    }
  }

  #soon(symbol) {
    this.#dirty.add(symbol);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const colors = { up: this.#style.getPropertyValue("--up"), down: this.#style.getPropertyValue("--down") };
    for (const symbol of this.#dirty) {
      const row = this.#rows.get(symbol);
      if (row.visible) this.#show(row, this.#digits(symbol), colors);
    }
    this.#dirty.clear();
  }

  #show({ tick, bid, ask, spread, spark }, digits, colors) {
    if (tick) {
      bid.show(tick.bid, digits);
      ask.show(tick.ask, digits);
    } else {
      bid.clear();
      ask.clear();
    }
    spread.textContent = tick ? spreadOf(tick, digits).text : PLACEHOLDER;
    spark.draw(tick?.bid, (name) => colors[name]);
  }

  #narrow(text) {
    const wanted = text.trim().toUpperCase();
    for (const [symbol, { line }] of this.#rows) line.hidden = !symbol.toUpperCase().includes(wanted);
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) this.#step(event, step);
  }

  #step(event, step) {
    event.preventDefault();
    const shown = [...this.#list.children].filter((line) => !line.hidden);
    if (!shown.length) return;
    const now = shown.findIndex((line) => line.dataset.symbol === this.#current);
    const next = step === 0 ? Math.max(now, 0) : Math.max(0, Math.min(shown.length - 1, now + step));
    this.#list.focus();
    this.#chosen(shown[next].dataset.symbol);
  }
}
