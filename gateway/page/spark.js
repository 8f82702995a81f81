// A sparkline: the last closes of a symbol and its price now, on a canvas.

const KEPT = 30;

export class Spark {
  #canvas;
  #closes = new Map(); // by time of opening

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Take a closed bar in; bars of an earlier time than all that are kept change nothing. */
  add(bar) {
    this.#closes.set(bar.ts_open, bar.close);
    if (this.#closes.size > KEPT) this.#closes.delete(Math.min(...this.#closes.keys()));
  }

  clear() {
    this.#closes.clear();
  }

  /** Draw it with the price now as its last point; `color(way)` gives the colour of "up" or "down". */
  draw(price, color) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    const pen = this.#canvas.getContext("2d");
    if (this.#canvas.width !== Math.round(width * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const points = [...this.#closes].sort(([a], [b]) => a - b).map(([, close]) => close);
    if (price != null) points.push(price);
    if (points.length < 2) return;
    const [low, high] = [Math.min(...points), Math.max(...points)];
    const x = (index) => 1 + (index / (points.length - 1)) * (width - 4);
    const y = (value) => (high === low ? height / 2 : 2 + ((high - value) / (high - low)) * (height - 4));
    pen.beginPath();
    points.forEach((value, index) => (index ? pen.lineTo(x(index), y(value)) : pen.moveTo(x(0), y(value))));
    pen.strokeStyle = pen.fillStyle = color(points.at(-1) < points[0] ? "down" : "up");
    pen.lineWidth = 1.25;
    pen.lineJoin = "round";
    pen.stroke();
    pen.beginPath();
    pen.arc(x(points.length - 1), y(points.at(-1)), 1.75, 0, 7);
    pen.fill();
  }
}
