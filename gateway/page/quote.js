// The quote of the symbol that the chart shows.

import { clock, spreadOf } from "./format.js";
import { Price } from "./price.js";

const $ = (id) => document.getElementById(id);

export class Quote {
  #bid = new Price($("bid"));
  #ask = new Price($("ask"));
  #tick = null;
  #digits = 5;
  #frame = 0;

  /** Begin with another symbol, or with another time. */
  begin(symbol, digits) {
    this.#digits = digits;
    this.#tick = null;
    this.#bid.clear();
    this.#ask.clear();
    $("name").textContent = symbol;
    for (const id of ["spread", "time"]) $(id).textContent = "–";
    document.title = `${symbol} · Arbitrex`;
  }

  /** Show a tick, with the next frame. */
  show(tick) {
    this.#tick = tick;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const tick = this.#tick;
    if (!tick) return;
    this.#bid.show(tick.bid, this.#digits);
    this.#ask.show(tick.ask, this.#digits);
    const { text, unit } = spreadOf(tick, this.#digits);
    $("spread").textContent = text;
    $("unit").textContent = unit;
    $("time").textContent = clock(tick.ts_event);
    document.title = `${tick.symbol} ${tick.bid.toFixed(this.#digits)} · Arbitrex`;
  }
}
