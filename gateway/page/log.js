// The messages of the connection, newest last; each opens to what was really sent.

import { clock } from "./format.js";
import { headOf } from "./wire.js";

const KEPT = 400;
const AT_THE_END = 40; // pixels
const SIGNS = { out: "→", in: "←", open: "●", close: "○" };
const KINDS = {
  all: () => true,
  commands: ({ way, head }) => way !== "in" || "method" in head,
  errors: ({ failed, way }) => failed || way === "close",
};

/** What a message says, in a few words. */
export function gist(message) {
  const { method, params, result, channel, type, data, error, code } = message;
  const names = (of) => [of.channel, of.timeframe, of.symbol].flat().filter(Boolean).join(" ");
  if (error) return `${method ?? ""} refused, ${code}: ${error}`;
  if (params) return `${method} ${names(params)}${params.cursor ? " from cursor" : ""}`;
  if (Array.isArray(result)) return `${method}: ${result.length}`;
  if (method) return `${method} ${result ? names(result) : ""}`;
  const last = data.at(-1);
  const shown = last?.bid !== undefined ? `${last.symbol} ${last.bid} / ${last.ask}`
    : last?.close !== undefined ? `${last.symbol} ${last.timeframe} ${last.close}`
    : (last?.text ?? last?.state ?? "");
  return `${channel} ${type} · ${data.length} ${data.length === 1 ? "row" : "rows"}${shown ? ` · ${shown}` : ""}`;
}

export class Log {
  #lines;
  #filter;
  #kept = [];
  #waiting = [];
  #frame = 0;
  #paused = false;

  /** `lines` takes the messages, `filter` is a select of what is shown: all, commands, errors, or a channel. */
  constructor(lines, filter) {
    this.#lines = lines;
    this.#filter = filter;
    filter.addEventListener("change", () => this.open());
    lines.addEventListener("toggle", ({ target }) => this.#unfold(target), { capture: true });
  }

  /** Takes what the wire hears. A token is never shown. */
  hear({ way, text }) {
    const head = headOf(text);
    const shown = head.method === "authenticate" && way === "out" ? '{"method":"authenticate","params":{"token":"…"}}' : text;
    const line = { at: Date.now(), way, head, text: shown, failed: way === "in" && text.includes('"success":false') };
    this.#kept.push(line);
    if (this.#kept.length > 2 * KEPT) this.#kept.splice(0, KEPT);
    if (this.#paused || this.#lines.offsetParent === null) return;
    this.#waiting.push(line);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Show what is kept: the panel has come into sight, or something else is wanted. */
  open() {
    this.#lines.replaceChildren();
    this.#waiting = [...this.#kept];
    this.#draw();
    this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  clear() {
    this.#kept = [];
    this.open();
  }

  /** Hold the lines still, or go on; whether they are held now. */
  pause() {
    this.#paused = !this.#paused;
    if (!this.#paused) this.open();
    return this.#paused;
  }

  #draw() {
    this.#frame = 0;
    const wanted = KINDS[this.#filter.value] ?? (({ head }) => head.channel === this.#filter.value);
    const { scrollTop, scrollHeight, clientHeight } = this.#lines;
    const following = scrollHeight - scrollTop - clientHeight < AT_THE_END;
    this.#lines.append(...this.#waiting.filter(wanted).slice(-KEPT).map((line) => this.#line(line)));
    this.#waiting = [];
    while (this.#lines.childElementCount > KEPT) this.#lines.firstElementChild.remove();
    if (following) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #line({ at, way, text, failed }) {
    const line = document.createElement("li");
    line.dataset.way = failed ? "error" : way;
    const says = way === "open" ? `connected to ${text}` : way === "close" ? `connection closed, ${text}` : gist(JSON.parse(text));
    const time = document.createElement("time");
    time.textContent = clock(at);
    const head = [time, ` ${SIGNS[way]} ${says}`];
    if (way === "open" || way === "close") {
      line.append(...head);
      return line;
    }
    const [whole, summary] = ["details", "summary"].map((tag) => document.createElement(tag));
    summary.append(...head);
    whole.append(summary);
    whole.dataset.text = text;
    line.append(whole);
    return line;
  }

  #unfold(whole) {
    if (!whole.open || whole.lastElementChild.tagName === "PRE") return;
    const source = document.createElement("pre");
    source.textContent = JSON.stringify(JSON.parse(whole.dataset.text), null, 1);
    whole.append(source);
  }
}
