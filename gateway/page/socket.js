// The live connection: subscriptions that survive it, reconnection with backoff, and what its silence means.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const MISSED_HEARTBEATS = 3;
const QUIET_MS = 60_000;

/**
 * Keeps one WebSocket open. `handlers`:
 *   state(name)      "connecting", "live", "quiet" (connected, but no tick of any symbol for a minute) or "lost"
 *   reconnected()    the connection is back and the subscriptions have been sent again
 *   message(object)  a data message: {channel, type, data}
 *   error(text)      what the gateway refused
 */
export class Connection {
  #handlers;
  #url;
  #socket = null;
  #wanted = [];
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #watchdog = 0;
  #interval = 5_000;
  #beat = 0;
  #newest = 0;
  #moved = 0;
  #opened = false;

  constructor(url, handlers) {
    this.#url = url;
    this.#handlers = handlers;
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#retryNow();
    });
    this.#connect();
  }

  /** Replace all subscriptions: a list of params for subscribe. */
  follow(wanted) {
    const before = this.#wanted;
    this.#wanted = wanted;
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    for (const params of before) {
      const { snapshot, ...same } = params;
      this.#send("unsubscribe", same);
    }
    for (const params of wanted) this.#send("subscribe", params);
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#handlers.state("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#pause = FIRST_PAUSE_MS;
      this.#beat = 0;
      this.#handlers.state("live");
      for (const params of this.#wanted) this.#send("subscribe", params);
      if (this.#opened) this.#handlers.reconnected();
      this.#opened = true;
      this.#watch();
    };
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = () => {
      if (socket === this.#socket) this.#lost();
    };
  }

  #receive(message) {
    this.#watch();
    if (message.channel === "heartbeat") {
      this.#listen(message.data[0]);
    } else if (message.channel) {
      this.#handlers.message(message);
    } else if (message.success === false) {
      this.#handlers.error(message.error);
    }
  }

  #listen({ time, newest }) {
    const ticks = newest.ticks ?? 0;
    if (!this.#beat) this.#moved = ticks;
    else {
      this.#interval = Math.max(1_000, time - this.#beat);
      if (ticks !== this.#newest) this.#moved = time;
    }
    this.#beat = time;
    this.#newest = ticks;
    this.#handlers.state(time - this.#moved > QUIET_MS ? "quiet" : "live");
  }

  #send(method, params) {
    this.#socket.send(JSON.stringify({ method, params }));
  }

  /** A connection that says nothing, not even heartbeats, is as good as lost. */
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const silent = this.#socket;
      this.#lost();
      silent.close();
    }, this.#interval * MISSED_HEARTBEATS);
  }

  #lost() {
    clearTimeout(this.#watchdog);
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#handlers.state("lost");
    const jitter = 0.5 + Math.random();
    this.#timer = setTimeout(() => this.#connect(), this.#pause * jitter);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
  }

  #retryNow() {
    if (this.#socket === null) this.#connect();
  }
}
