// A client of the gateway for browsers and Node: it comes back by itself and goes on exactly where it was.
//
//   import { Client } from "http://127.0.0.1:8080/page/client.js";   // or a copy of this file
//   const client = new Client("ws://127.0.0.1:8080/v1/ws", { message: ({ channel, type, data }) => … });
//   client.follow([{ channel: "ticks", symbol: "EURUSD" }]);
//
// docs/websocket.md says what the messages mean. Node before 22 needs { WebSocket } of the package ws.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const MISSED_HEARTBEATS = 3;
const QUIET_MS = 60_000;
const RESUMABLE = ["ticks", "bars", "events"];
const WITH_TIMEFRAME = ["bars", "bars.live"];
const RESTING = ["ticks", "bars", "bars.live"]; // while the connection is in the past
const FATAL = [4401, 4402, 4404]; // no token, or one that is not taken
const SYNTAX = 400;
const INTERNAL = 500;

const keyOf = ({ symbol, timeframe }) => JSON.stringify([symbol, timeframe ?? "*"]);

/**
 * Keeps one WebSocket open. `handlers`, all optional:
 *   message(object)     a data message: {channel, type, data, cursor, …}; of a replay its rows (type "replay") and its
 *                       state (channel "replay")
 *   state(name)         "connecting", "live", "quiet" (connected, but no tick of any symbol for a minute), "lost" or
 *                       "refused" (the gateway does not take our token; the client has given up)
 *   reconnected()       the connection is back and the subscriptions have been sent again
 *   error(text, object) what the gateway refused
 * `options`: token; slow ("close", "skip" or "conflate"); cursors (of an earlier client, to go on from); WebSocket.
 */
export class Client {
  /** By channel, where the messages that were given out end. */
  cursors;
  #handlers;
  #url;
  #token;
  #WebSocket;
  #socket = null;
  #wanted = new Map(); // channel -> key -> params
  #held = new Map(); // the same, as the gateway knows it
  #catchingUp = new Set();
  #replay = null; // where we are in the past: id, params, time, cursor, accepted, before (the one replaced)
  #leaving = null;
  #seeks = 0;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #watchdog = 0;
  #interval = 5_000;
  #newest = 0;
  #moved = 0;
  #opened = false;
  #closed = false;

  constructor(url, handlers = {}, options = {}) {
    this.#url = options.slow ? `${url}?slow=${options.slow}` : url;
    this.#token = options.token;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.cursors = { ...options.cursors };
    const nothing = () => {};
    this.#handlers = { message: nothing, state: nothing, reconnected: nothing, error: nothing, ...handlers };
    globalThis.addEventListener?.("online", () => this.#retryNow());
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#retryNow();
    });
    this.#connect();
  }

  /** Replace all subscriptions: a list of {channel, symbol, timeframe?, interval?, snapshot?}. */
  follow(wanted) {
    const before = [...this.#wanted.keys()];
    this.#wanted.clear();
    for (const params of wanted) {
      if (!this.#wanted.has(params.channel)) this.#wanted.set(params.channel, new Map());
      this.#wanted.get(params.channel).set(keyOf(params), params);
    }
    for (const channel of new Set([...before, ...this.#wanted.keys()])) {
      if (!this.#wanted.has(channel)) delete this.cursors[channel];
      this.#agree(channel);
    }
  }

  /**
   * Go to a moment of the past and play from there: {time, symbol, timeframe?, to?, speed?, paused?}. Without `to` it
   * runs into the present, where what it played is followed. A new one takes the place of the one there is.
   */
  seek(params) {
    const start = { time: params.time, cursor: undefined, accepted: false };
    this.#replay = { id: 0, params: { ...params }, ...start, before: this.#replay };
    this.#goBack();
  }

  /** Whether the connection is in the past, or on its way there. */
  get isInPast() {
    return this.#replay !== null;
  }

  /** 0.1 to 10,000, or "max". */
  speed(speed) {
    this.#steer("speed", { speed }, { speed });
  }

  pause() {
    this.#steer("pause", {}, { paused: true });
  }

  resume() {
    this.#steer("resume", {}, { paused: false });
  }

  /** Go on by {ticks} or to the next close of {timeframe}, and pause; nothing while there is no connection. */
  step(params) {
    this.#steer("step", params, { paused: true });
  }

  /** Leave the past; subscriptions go on with a snapshot. */
  live() {
    this.#leaving = this.#replay;
    if (this.#socket?.readyState === 1) this.#send("live", {});
    else this.#replay = null;
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#socket?.close();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#handlers.state("connecting");
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#pause = FIRST_PAUSE_MS;
      this.#moved = 0;
      this.#handlers.state("live");
      if (this.#token) this.#send("authenticate", { token: this.#token });
      this.#held.clear();
      this.#catchingUp.clear();
      if (this.#replay) this.#replay.before = null;
      this.#goBack();
      for (const channel of this.#wanted.keys()) this.#again(channel);
      if (this.#opened) this.#handlers.reconnected();
      this.#opened = true;
      this.#watch();
    };
    socket.onmessage = (event) => {
      if (socket === this.#socket) this.#receive(JSON.parse(event.data));
    };
    socket.onerror = () => {
      if (socket === this.#socket && socket.readyState !== 1) this.#lost(false); // not every Node closes it then
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(FATAL.includes(event.code));
    };
  }

  /** Ask for the replay: from where we are in it, if this is another connection. */
  #goBack() {
    if (!this.#replay || this.#socket?.readyState !== 1) return;
    this.#replay.accepted = false;
    if (RESTING.some((channel) => this.#catchingUp.has(channel))) return; // when it has caught up
    const { params, cursor } = this.#replay;
    this.#replay.id = this.#seeks += 1;
    this.#send("seek", { ...params, cursor }, this.#replay.id);
  }

  #steer(method, params, changed) {
    if (this.#replay) Object.assign(this.#replay.params, changed);
    if (this.#socket?.readyState === 1) this.#send(method, params);
  }

  #rests(channel) {
    return this.#replay !== null && RESTING.includes(channel);
  }

  /** After a reconnection: go on where the channel stood, in one message for all that can. */
  #again(channel) {
    if (this.#rests(channel)) return;
    const whole = [...this.#wanted.get(channel).values()].filter((params) => !params.interval);
    const cursor = this.cursors[channel];
    if (cursor && whole.length && RESUMABLE.includes(channel)) {
      this.#catchingUp.add(channel);
      this.#held.set(channel, new Map(whole.map((params) => [keyOf(params), params])));
      const series = whole.map(({ symbol, timeframe }) => [symbol, timeframe ?? "*"]);
      const which = WITH_TIMEFRAME.includes(channel) ? { series } : { symbol: series.map(([symbol]) => symbol) };
      this.#send("subscribe", { channel, ...which, cursor });
    } else {
      this.#agree(channel);
    }
  }

  /** Tell the gateway how what we want of a channel differs from what it knows. */
  #agree(channel) {
    if (this.#socket?.readyState !== 1 || this.#catchingUp.has(channel) || this.#rests(channel)) return;
    const wanted = this.#wanted.get(channel) ?? new Map();
    const held = this.#held.get(channel) ?? new Map();
    for (const [key, { symbol, timeframe }] of held) {
      if (!wanted.has(key)) this.#send("unsubscribe", { channel, symbol, timeframe });
    }
    for (const [key, params] of wanted) {
      if (!held.has(key)) this.#send("subscribe", params);
    }
    this.#held.set(channel, new Map(wanted));
  }

  #receive(message) {
    this.#watch();
    const { channel, type, cursor } = message;
    if (message.success === false) return this.#refused(message);
    if (channel === "heartbeat") return this.#listen(message.data[0]);
    if (message.method) return this.#acknowledged(message);
    if (!channel) return undefined;
    if (type === "replay") return this.#play(message);
    if (channel === "status" && type === "snapshot") this.#interval = message.heartbeat_interval;
    this.#handlers.message(message);
    if (channel === "replay") return this.#played(message);
    if (cursor && type !== "skipped" && this.#wanted.has(channel)) this.cursors[channel] = cursor;
    if (type === "resumed") this.#caughtUp(channel);
    return undefined;
  }

  /** Rows of the past, but not those of a replay that is being replaced. */
  #play(message) {
    const replay = this.#replay;
    if (!replay?.accepted) return;
    this.#handlers.message(message);
    replay.cursor = message.cursor;
  }

  #acknowledged({ method, req_id }) {
    const replay = this.#replay;
    if (method === "seek" && replay?.id === req_id) Object.assign(replay, { accepted: true, before: null });
    if (method === "live" && replay === this.#leaving) this.#present();
  }

  /** The state of a replay: another connection would go on there. */
  #played({ data: [{ state, time, speed, cursors }], cursor }) {
    let replay = this.#replay;
    if (replay?.accepted && cursor) replay.cursor = cursor;
    while (replay && !replay.accepted) replay = replay.before; // the one that is being replaced
    if (!replay) return;
    replay.time = state === "ended" ? replay.params.to : time;
    Object.assign(replay.params, { speed, paused: state === "paused" });
    if (state !== "live") return;
    Object.assign(this.cursors, cursors);
    for (const symbol of [replay.params.symbol].flat()) {
      this.#follows({ channel: "ticks", symbol });
      for (const timeframe of [replay.params.timeframe ?? []].flat()) this.#follows({ channel: "bars", symbol, timeframe });
    }
    if (replay === this.#replay) this.#present();
  }

  /** The gateway has subscribed us to what was played. */
  #follows(params) {
    for (const map of [this.#wanted, this.#held]) {
      if (!map.has(params.channel)) map.set(params.channel, new Map());
      map.get(params.channel).set(keyOf(params), params);
    }
  }

  /** In the present again: the gateway is told what it does not know yet. */
  #present() {
    this.#replay = null;
    for (const channel of new Set([...this.#wanted.keys(), ...this.#held.keys()])) this.#agree(channel);
  }

  #refused(message) {
    const channel = message.channel ?? [...this.#catchingUp][0];
    if (message.method === "seek") {
      const replay = this.#replay;
      const isOurs = message.code !== INTERNAL && message.req_id === replay?.id;
      if (isOurs && message.code === SYNTAX && replay.cursor) return this.#seekByTime(message.error);
      this.#handlers.error(message.error, message);
      if (!isOurs) return undefined;
      this.#replay = replay.before;
      if (this.#replay) this.#goBack();
      else this.#present();
    } else if (this.#catchingUp.has(channel) && [SYNTAX, INTERNAL].includes(message.code)) {
      delete this.cursors[channel];
      this.#held.delete(channel);
      this.#handlers.message({ channel, type: "history_lost", data: [{ reason: "refused", error: message.error }] });
      this.#caughtUp(channel);
    } else {
      this.#handlers.error(message.error, message);
    }
  }

  /** The replay's cursor is not taken: it goes on where its clock was. */
  #seekByTime(error) {
    const replay = this.#replay;
    replay.cursor = undefined;
    replay.params.time = replay.time;
    this.#handlers.message({ channel: "replay", type: "history_lost", data: [{ reason: "refused", error }] });
    this.#goBack();
  }

  #caughtUp(channel) {
    this.#catchingUp.delete(channel);
    this.#agree(channel);
    if (this.#replay && !this.#replay.accepted) this.#goBack();
  }

  #listen({ time, newest, cursors }) {
    for (const channel of this.#wanted.keys()) {
      if (cursors[channel] && !this.#catchingUp.has(channel) && !this.#rests(channel)) this.cursors[channel] = cursors[channel];
    }
    const ticks = newest.ticks ?? 0;
    if (!this.#moved) this.#moved = ticks;
    else if (ticks !== this.#newest) this.#moved = time;
    this.#newest = ticks;
    this.#handlers.state(time - this.#moved > QUIET_MS ? "quiet" : "live");
  }

  #send(method, params, req_id) {
    this.#socket.send(JSON.stringify({ method, params, req_id }));
  }

  /** A connection that says nothing, not even heartbeats, is as good as lost. */
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const silent = this.#socket;
      this.#lost(false);
      silent.close();
    }, this.#interval * MISSED_HEARTBEATS);
  }

  #lost(forGood) {
    clearTimeout(this.#watchdog);
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#closed ||= forGood;
    this.#handlers.state(forGood ? "refused" : "lost");
    if (this.#closed) return;
    const jitter = 0.5 + Math.random();
    this.#timer = setTimeout(() => this.#connect(), this.#pause * jitter);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
  }

  #retryNow() {
    if (this.#socket === null && !this.#closed) this.#connect();
  }
}
