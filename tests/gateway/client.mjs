// Follows all ticks with the JavaScript client until enough have come, or plays what JSON says (a seek) and then follows
// that, pausing until it has been connected twice; prints the rows of each message.
import { readFileSync } from "node:fs";

const source = readFileSync(new URL("../../gateway/page/client.js", import.meta.url));
const { Client } = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const [url, token, enough, seek] = process.argv.slice(2);
let count = 0;
let played = 0;
let connections = 0;
const client = new Client(url, {
  state: (name) => {
    connections += name === "connecting";
    console.log(JSON.stringify({ state: name }));
  },
  error: (text) => console.log(JSON.stringify({ error: text })),
  message: ({ channel, type, data }) => {
    if (channel === "replay") console.log(JSON.stringify({ replay: data[0] }));
    if (channel === "replay" && connections > 1 && data[0].speed !== "max") {
      client.speed("max");
      client.resume();
    }
    if (channel !== "ticks" && !(seek && channel === "bars")) return;
    if (!["snapshot", "update", "resumed", "history_lost", "replay"].includes(type)) return;
    console.log(JSON.stringify({ type, data }));
    played += type === "replay" ? data.length : 0;
    if (connections === 1 && played > 200) client.pause();
    count += type === "update" ? data.filter((row) => "ts_event" in row).length : 0;
    if (count >= Number(enough)) client.close();
  },
}, { token: token || undefined });
if (seek) client.seek(JSON.parse(seek));
else client.follow([{ channel: "ticks", symbol: "*" }]);
