// How long a tick takes from the feed's side to this page, and how the gateway's clock differs from this machine's.
//
// Pings tell the difference of the clocks as NTP does (RFC 5905, 8): of the last few, the quickest one counts.

import { headOf } from "./wire.js";

const PING_MS = 5_000;
const KEPT_PINGS = 8;
const KEPT_TICKS = 101;

export class Latency {
  /** Milliseconds of a ping there and back; null before the first. */
  roundTrip = null;
  #offset = 0;
  #pings = [];
  #ages = [];
  #number = 0;
  #sent = new Map();
  #timer = 0;

  /** Takes what the wire hears. */
  hear({ way, text, socket }) {
    if (way === "open") {
      clearInterval(this.#timer);
      this.#pings = [];
      this.#sent.clear();
      this.#timer = setInterval(() => this.#ping(socket), PING_MS);
      this.#ping(socket);
    } else if (way === "close") {
      clearInterval(this.#timer);
      this.#ages = [];
      this.roundTrip = null;
    } else if (way === "in" && headOf(text).method === "pong") {
      this.#pong(JSON.parse(text));
    }
  }

  /** Takes live ticks: each was received by its producer at ts_recv (microseconds). */
  ticks(rows) {
    const now = Date.now() + this.#offset;
    for (const { ts_recv } of rows) if (ts_recv) this.#ages.push(now - ts_recv / 1_000);
    if (this.#ages.length > KEPT_TICKS) this.#ages.splice(0, this.#ages.length - KEPT_TICKS);
  }

  /** The median of the last ticks, in milliseconds; null before there are any. */
  get median() {
    return this.#ages.length ? [...this.#ages].sort((a, b) => a - b)[this.#ages.length >> 1] : null;
  }

  #ping(socket) {
    if (socket.readyState !== WebSocket.OPEN) return;
    this.#sent.set(++this.#number, Date.now());
    socket.send(JSON.stringify({ method: "ping", req_id: this.#number }));
  }

  #pong({ req_id, time_in, time_out }) {
    const sent = this.#sent.get(req_id);
    if (sent === undefined) return;
    this.#sent.delete(req_id);
    const now = Date.now();
    this.#pings.push({ trip: now - sent - (time_out - time_in), offset: (time_in - sent + (time_out - now)) / 2 });
    if (this.#pings.length > KEPT_PINGS) this.#pings.shift();
    const best = this.#pings.reduce((one, other) => (other.trip < one.trip ? other : one));
    [this.roundTrip, this.#offset] = [best.trip, best.offset];
  }
}
