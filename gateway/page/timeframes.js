// The row of timeframes: a radio group, walked with the arrow keys.

export class Timeframes {
  #group;
  #chosen;
  #names = [];

  /** `chosen(name)` is called for what the user picks. */
  constructor(group, chosen) {
    this.#group = group;
    this.#chosen = chosen;
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const now = this.#names.indexOf(event.target.dataset.timeframe);
      const next = (now + step + this.#names.length) % this.#names.length;
      group.children[next].focus();
      this.#chosen(this.#names[next]);
    });
  }

  know(names) {
    this.#names = names;
    this.#group.replaceChildren(
      ...names.map((name) => {
        const button = document.createElement("button");
        Object.assign(button, { type: "button", textContent: name });
        button.setAttribute("role", "radio");
        button.dataset.timeframe = name;
        button.addEventListener("click", () => this.#chosen(name));
        return button;
      }),
    );
  }

  /** The n-th one, from 0; undefined when there is none. */
  at(index) {
    return this.#names[index];
  }

  select(name) {
    for (const button of this.#group.children) {
      const chosen = button.dataset.timeframe === name;
      button.setAttribute("aria-checked", chosen);
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }
}
