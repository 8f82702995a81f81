// Connect, disconnect, and subscribe by hand: what the log then shows is what any client would get.

const $ = (id) => document.getElementById(id);
const WITH_TIMEFRAME = ["bars", "bars.live"];

export class Console {
  /** What was subscribed by hand, as the client takes it. */
  wanted = [];
  #changed;

  /** `changed()` is called when `wanted` is another; `connect()` and `disconnect()` are what the button does. */
  constructor({ changed, connect, disconnect, pause, clear }) {
    this.#changed = changed;
    $("connect").addEventListener("click", () => ($("connect").dataset.open === "true" ? disconnect() : connect()));
    $("ask-channel").addEventListener("change", () => this.#fit());
    $("request").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#subscribe();
    });
    $("log-pause").addEventListener("click", () => $("log-pause").setAttribute("aria-pressed", pause()));
    $("log-clear").addEventListener("click", clear);
    this.#fit();
  }

  know(symbols, timeframes) {
    $("symbols").replaceChildren(...symbols.map((name) => new Option(name)));
    $("ask-timeframe").replaceChildren(...timeframes.map((name) => new Option(name)));
  }

  /** Whether there is a connection that could be closed. */
  connected(is) {
    $("connect").dataset.open = is;
    $("connect").textContent = is ? "Disconnect" : "Connect";
  }

  /** The gateway did not take a subscription. */
  refused({ channel, symbol }) {
    const left = this.wanted.filter((each) => each.channel !== channel || each.symbol !== symbol);
    if (left.length < this.wanted.length) this.#set(left);
  }

  #subscribe() {
    const [channel, symbol] = [$("ask-channel").value, $("ask-symbol").value.trim()];
    if (!symbol) return $("ask-symbol").focus();
    const timeframe = WITH_TIMEFRAME.includes(channel) ? { timeframe: $("ask-timeframe").value } : {};
    const params = { channel, symbol, ...timeframe };
    const same = (each) => JSON.stringify(each) === JSON.stringify(params);
    if (!this.wanted.some(same)) this.#set([...this.wanted, params]);
    $("ask-symbol").value = "";
    return undefined;
  }

  #set(wanted) {
    this.wanted = wanted;
    $("asked").replaceChildren(...wanted.map((params) => this.#chip(params)));
    this.#changed();
  }

  #chip(params) {
    const name = Object.values(params).join(" ");
    const [line, button] = ["li", "button"].map((tag) => document.createElement(tag));
    Object.assign(button, { type: "button", textContent: `${name} ×` });
    button.setAttribute("aria-label", `Unsubscribe ${name}`);
    button.addEventListener("click", () => this.#set(this.wanted.filter((each) => each !== params)));
    line.append(button);
    return line;
  }

  #fit() {
    $("ask-timeframe").disabled = !WITH_TIMEFRAME.includes($("ask-channel").value);
  }
}
