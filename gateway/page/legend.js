// The line over the chart: the bar under the pointer, or the newest one, and what is special about it.

import { duration, minute } from "./format.js";
import { markOf } from "./marks.js";

const REASONS = { feed_gap: "feed gap", market_closed: "market closed", quiet: "no ticks" };

/** What is special about a bar, as words. */
export function remarks(bar, before) {
  const words = [];
  if (!bar.closed) words.push("open");
  const mark = markOf(bar);
  if (mark === "revised") words.push(`revised, revision ${bar.revision}`);
  if (mark === "partial") words.push("partial");
  if (bar.closed && bar.feed_gap_ms) words.push(`${duration(bar.feed_gap_ms)} lost in it`);
  if (before) words.push(`before it ${duration(before.ms)}: ${REASONS[before.reason]}`);
  return words.join(" · ");
}

/** Fill the line. */
export function legend(line, bar, digits, before) {
  if (!bar) return line.replaceChildren();
  const way = bar.close < bar.open ? "down" : "up";
  const part = (name, value, kind = "") => {
    const number = document.createElement("b");
    number.textContent = value;
    number.dataset.way = kind;
    const whole = document.createElement("span");
    whole.append(`${name} `, number);
    return whole;
  };
  const time = document.createElement("span");
  time.textContent = minute(bar.ts_open);
  const special = document.createElement("em");
  special.textContent = remarks(bar, before);
  return line.replaceChildren(
    time,
    ...["open", "high", "low", "close"].map((name) => part(name[0].toUpperCase(), bar[name].toFixed(digits), way)),
    part("Ticks", bar.tick_volume),
    special,
  );
}
