// A WebSocket that others may listen to: what was sent and received, as text, and when it opened and closed.

const HEAD = /^\{(?:"seq":(\d+),)?"(channel|method)":"([a-z.]+)"(?:,"type":"([a-z_]+)")?/;

/** What a message is, without reading all of it: {channel or method, type}. */
export function headOf(text) {
  const found = HEAD.exec(text);
  return found ? { [found[2]]: found[3], type: found[4] } : {};
}

/** A WebSocket class; `heard(event)` gets {way: "in" | "out" | "open" | "close", text, socket}. */
export function listened(heard) {
  return class extends WebSocket {
    constructor(url) {
      super(url);
      this.addEventListener("open", () => heard({ way: "open", text: url, socket: this }));
      this.addEventListener("message", ({ data }) => heard({ way: "in", text: data, socket: this }));
      this.addEventListener("close", ({ code, reason }) => {
        heard({ way: "close", text: `${code}${reason ? ` ${reason}` : ""}`, socket: this });
      });
    }

    send(text) {
      heard({ way: "out", text, socket: this });
      super.send(text);
    }
  };
}
