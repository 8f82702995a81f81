// What the page knows of its connection: whether it lives, whether the feeds do, and how late ticks are.

import { duration, minute } from "./format.js";

const $ = (id) => document.getElementById(id);
const WORDS = {
  connecting: "connecting",
  live: "live",
  quiet: "feed quiet",
  lost: "connection lost",
  refused: "token needed",
  closed: "disconnected",
};
const WORDS_IN_THE_PAST = { ...WORDS, live: "in the past", quiet: "in the past" };
const REFRESH_MS = 1_000;

export class Link {
  #feeds = new Map();
  #words = WORDS;

  constructor(latency) {
    setInterval(() => this.#measure(latency), REFRESH_MS);
  }

  /** The client's state, or "closed". */
  state(name) {
    $("state").dataset.state = name;
    const said = $("state").lastElementChild;
    if (said.textContent !== this.#words[name]) said.textContent = this.#words[name];
  }

  /** Whether the page shows the past: a connection that lives is not called live then. */
  past(is) {
    this.#words = is ? WORDS_IN_THE_PAST : WORDS;
    this.state($("state").dataset.state);
  }

  /** Rows of the channel status. */
  status(type, rows) {
    if (type === "snapshot") this.#feeds.clear();
    for (const row of rows) this.#feeds.set(`${row.feed}/${row.shard}`, row);
    const feeds = [...this.#feeds];
    const up = feeds.filter(([, { state }]) => state === "connected").length;
    const counted = feeds.filter(([, { state }]) => state !== "retired").length;
    $("feeds").dataset.state = up === counted ? "live" : up ? "quiet" : "lost";
    $("feeds-sum").textContent = counted ? `${up}/${counted} feeds` : "no feed yet";
    $("feeds-list").replaceChildren(
      ...feeds.sort().map(([name, { state, since, text }]) => {
        const line = document.createElement("li");
        line.dataset.state = state;
        line.textContent = `${name} ${state} since ${minute(since)}${text ? `: ${text}` : ""}`;
        return line;
      }),
    );
  }

  #measure({ median, roundTrip }) {
    $("latency").textContent = median === null ? "–" : duration(Math.max(0, median));
    $("trip").textContent = roundTrip === null ? "–" : duration(Math.max(0, roundTrip));
  }
}
