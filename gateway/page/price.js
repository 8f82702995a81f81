// A price on the page: its pips large, its last move as colour. Only text changes, so nothing is laid out anew.

import { priceParts } from "./format.js";

export class Price {
  #element;
  #parts;
  #last = null;

  constructor(element) {
    this.#element = element;
    const pips = document.createElement("b");
    this.#parts = ["", "", ""].map((text) => document.createTextNode(text));
    pips.append(this.#parts[1]);
    element.replaceChildren(this.#parts[0], pips, this.#parts[2]);
    this.clear();
  }

  show(value, digits) {
    if (this.#last !== null && value !== this.#last) this.#element.dataset.way = value > this.#last ? "up" : "down";
    this.#last = value;
    priceParts(value, digits).forEach((text, index) => {
      if (this.#parts[index].data !== text) this.#parts[index].data = text;
    });
  }

  clear() {
    this.#last = null;
    this.#element.dataset.way = "";
    for (const [index, text] of ["–", "", ""].entries()) this.#parts[index].data = text;
  }
}
