// Which symbols there are, and which of them is shown: the one the address names, else EURUSD, else any for now.

const FIRST_SYMBOL = "EURUSD"; // where there is one
const OFTEN_MS = 500;
const SELDOM_MS = 10_000;
const OFTEN_AT_MOST_MS = 60_000;

/** What the address asks for, as #EURUSD/M1. */
function asked() {
  try {
    return decodeURIComponent(location.hash.slice(1)).split("/");
  } catch {
    return [];
  }
}

export class Symbols {
  /** All there are, in the order of the alphabet. */
  names = [];
  timeframes = [];
  #specs = new Map();
  #api;
  #handlers;
  #settled = false;
  #begun = performance.now();
  #shown = "";

  /**
   * `known(names, answer)` is called when there are more symbols, `wanted(symbol, timeframe)` when another is to be
   * shown, `failed(text)` while there are none.
   */
  constructor(api, handlers) {
    this.#api = api;
    this.#handlers = handlers;
    addEventListener("hashchange", () => {
      const [symbol, timeframe] = asked();
      if (this.#specs.has(symbol) && this.timeframes.includes(timeframe)) this.choose(symbol, timeframe);
    });
  }

  digits(symbol) {
    return this.#specs.get(symbol)?.digits ?? 5;
  }

  spec(symbol) {
    return this.#specs.get(symbol);
  }

  /** The user has chosen. */
  choose(symbol, timeframe) {
    this.#settled = true;
    this.#show(symbol, timeframe);
  }

  /** Symbols appear with their first tick: the list is asked for again and again, often until there is what is wanted. */
  async begin() {
    let refused = false;
    try {
      const answer = await this.#api.get("symbols");
      for (const spec of answer.symbols) this.#specs.set(spec.symbol, spec);
      this.timeframes = answer.timeframes;
      if (this.#specs.size > this.names.length) {
        this.names = [...this.#specs.keys()].sort();
        this.#handlers.known(this.names, answer);
      }
      this.#first();
    } catch (error) {
      refused = error.status === 401;
      if (!this.names.length) this.#handlers.failed(refused ? "" : `The gateway does not answer: ${error.message}`);
    }
    const soon = !this.#settled && performance.now() - this.#begun < OFTEN_AT_MOST_MS;
    if (!refused) setTimeout(() => this.begin(), soon ? OFTEN_MS : SELDOM_MS);
  }

  /** Until the user has chosen, and what is wanted is not there yet, any symbol will do. */
  #first() {
    if (this.#settled) return;
    if (!this.names.length) {
      this.#handlers.failed("Waiting for the first symbol…");
      return;
    }
    const [symbol, timeframe] = asked();
    const wanted = symbol || FIRST_SYMBOL;
    this.#settled = this.#specs.has(wanted);
    const name = this.#settled ? wanted : this.names.includes(this.#shown) ? this.#shown : this.names[0];
    if (name !== this.#shown) this.#show(name, this.timeframes.includes(timeframe) ? timeframe : this.timeframes[0]);
  }

  #show(symbol, timeframe) {
    this.#shown = symbol;
    if (this.#settled) window.history.replaceState(null, "", `#${encodeURIComponent(symbol)}/${timeframe}`);
    this.#handlers.wanted(symbol, timeframe);
  }
}
