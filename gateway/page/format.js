// Prices, spreads, times and durations as text. All times are UTC.

/** A price cut for dealers: what comes before the pips, the pips, and a tenth of one where there is one. */
export function priceParts(value, digits) {
  const text = value.toFixed(digits);
  const tenth = digits === 3 || digits === 5 ? 1 : 0;
  const end = text.length - tenth;
  return [text.slice(0, end - 2), text.slice(end - 2, end), text.slice(end)];
}

/** In pips where prices have a tenth of one, else in points. */
export function spreadOf({ bid, ask }, digits) {
  const points = Math.round((ask - bid) * 10 ** digits);
  const pips = digits === 3 || digits === 5;
  return { text: pips ? (points / 10).toFixed(1) : String(points), unit: pips ? "pips" : "points" };
}

export const clock = (ms) => new Date(ms).toISOString().slice(11, 23);
export const minute = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");
export const second = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

/** Milliseconds as people say them: 14 ms, 2.5 s, 12 min, 3 h, 4 d. */
export function duration(ms) {
  const steps = [[1_000, 1, "ms"], [120_000, 1_000, "s"], [7_200_000, 60_000, "min"], [172_800_000, 3_600_000, "h"], [Infinity, 86_400_000, "d"]];
  const [, unit, name] = steps.find(([below]) => Math.abs(ms) < below);
  const count = ms / unit;
  return `${name === "s" && Math.abs(count) < 10 ? count.toFixed(1) : Math.round(count)} ${name}`;
}
