// Follows EURUSD's ticks with the client that Node.js programs use most, and prints each message's rows.
import WebSocket from "ws";

const [url, enough] = process.argv.slice(2);
const socket = new WebSocket(url);
let count = 0;
socket.on("open", () => {
  socket.send(JSON.stringify({ method: "subscribe", params: { channel: "ticks", symbol: "EURUSD" } }));
});
socket.on("message", (data, isBinary) => {
  const { channel, type, data: rows } = JSON.parse(data);
  if (isBinary || channel !== "ticks") return;
  console.log(JSON.stringify(type === "snapshot" ? { rows, extensions: socket.extensions } : { rows }));
  count += type === "update" ? rows.length : 0;
  if (count >= Number(enough)) socket.close(1000);
});
socket.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
