// The controls of the past: a slider, a clock, speed, play, steps, and the way back.

import { second } from "./format.js";

const SETTLE_MS = 250;
const STATES = { playing: "playing", paused: "paused", ended: "the end" };
const $ = (id) => document.getElementById(id);
const field = (ms) => second(ms).replace(" ", "T");

export class Replay {
  #seek;
  #play;
  #step;
  #playing = false;
  #sliding = 0;

  /** What they do: seek(ms), play(bool), speed(number or "max"), step(params), live(). */
  constructor({ seek, play, speed, step, live }) {
    this.#seek = seek;
    this.#play = play;
    this.#step = step;
    const slider = $("replay-slider");
    slider.addEventListener("input", () => {
      this.#show(Number(slider.value));
      clearTimeout(this.#sliding);
      this.#sliding = setTimeout(() => this.#slid(), SETTLE_MS);
    });
    $("replay-time").addEventListener("change", () => {
      const time = Date.parse(`${$("replay-time").value}Z`);
      if (!Number.isNaN(time)) seek(time);
    });
    $("replay-play").addEventListener("click", () => this.toggle());
    $("replay-tick").addEventListener("click", () => this.tick());
    $("replay-bar").addEventListener("click", () => this.bar());
    $("replay-live").addEventListener("click", live);
    $("replay-speed").addEventListener("change", () => speed(this.speed));
  }

  get speed() {
    const { value } = $("replay-speed");
    return value === "max" ? value : Number(value);
  }

  /** Offer the moments from one to another. */
  range(from, to) {
    Object.assign($("replay-slider"), { min: from, max: Math.max(from + 1, to) });
    $("replay-time").min = field(from);
  }

  /** Show what the replay does, and where it is. */
  state(name, time) {
    this.#playing = name === "playing";
    $("replay-play").dataset.playing = this.#playing;
    $("replay-play").setAttribute("aria-label", this.#playing ? "Pause" : "Play");
    if ($("replay-state").textContent !== STATES[name]) $("replay-state").textContent = STATES[name];
    if (!this.#sliding) this.#show(time);
  }

  toggle() {
    this.#play(!this.#playing);
  }

  tick() {
    this.#step({ ticks: 1 });
  }

  bar() {
    this.#step({});
  }

  #slid() {
    this.#sliding = 0;
    this.#seek(Number($("replay-slider").value));
  }

  #show(time) {
    const slider = $("replay-slider");
    if (time > Number(slider.max)) slider.max = time;
    if (!this.#sliding || Number(slider.value) !== time) slider.value = time;
    slider.setAttribute("aria-valuetext", `${second(time)} UTC`);
    if (document.activeElement !== $("replay-time")) $("replay-time").value = field(time);
  }
}
