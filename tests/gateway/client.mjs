// Follows all ticks with the JavaScript client until enough have come, and prints the rows of each message.
import { readFileSync } from "node:fs";

const source = readFileSync(new URL("../../gateway/page/client.js", import.meta.url));
const { Client } = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const [url, token, enough] = process.argv.slice(2);
let count = 0;
const client = new Client(url, {
  state: (name) => console.log(JSON.stringify({ state: name })),
  error: (text) => console.log(JSON.stringify({ error: text })),
  message: ({ channel, type, data }) => {
    if (channel !== "ticks" || !["snapshot", "update", "resumed", "history_lost"].includes(type)) return;
    console.log(JSON.stringify({ type, data }));
    count += type === "update" ? data.length : 0;
    if (count >= Number(enough)) client.close();
  },
}, { token: token || undefined });
client.follow([{ channel: "ticks", symbol: "*" }]);
