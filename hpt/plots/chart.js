// Shared by the pages: elements, ticks, and a chart's frame.
const $ = (id) => document.getElementById(id), NS = "http://www.w3.org/2000/svg";
function svg(tag, attributes, parent, text) {
  const node = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent?.append(node);
  return node;
}
function html(tag, text, parent, attributes = {}) {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
}
const clamp = (v, [low, high]) => Math.min(Math.max(v, low), high);
function ticks([low, high], log) {
  if (log) {
    const out = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
      for (const m of high / low > 100 ? [1] : [1, 2, 5]) out.push(m * 10 ** p);
    return out.filter((v) => v >= low && v <= high);
  }
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw), out = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) out.push(k * step);
  return out;
}
function frame(box, xs, ys, labels, logs, parent) {
  const [w, h, left, right, top, bottom] = box;
  const scale = (range, log, from, to) => (v) => {
    const [a, b, c] = log ? [v, ...range].map(Math.log) : [v, ...range];
    return from + (to - from) * (a - b) / (c - b);
  };
  const x = scale(xs, logs[0], left, w - right), y = scale(ys, logs[1], h - bottom, top);
  const chart = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "group", "aria-label": labels.join(" against ") }, parent);
  const plain = (v) => Math.abs(v) < 1e-9 ? "0" : String(parseFloat(v.toPrecision(6)));
  const decimals = (values) => Math.max(...values.map((v) => (plain(v).split(".")[1] ?? "").length));
  const show = (v, log, values) => (log ? plain(v) : v.toFixed(decimals(values))).replace("-", "−");
  for (const t of ticks(xs, logs[0])) {
    svg("line", { class: t === 0 ? "axis" : "grid", x1: x(t), x2: x(t), y1: top, y2: h - bottom }, chart);
    svg("text", { x: x(t), y: h - bottom + 16, "text-anchor": "middle" }, chart, show(t, logs[0], ticks(xs, logs[0])));
  }
  for (const t of ticks(ys, logs[1])) {
    svg("line", { class: Math.abs(t) < 1e-9 ? "axis" : "grid", x1: left, x2: w - right, y1: y(t), y2: y(t) }, chart);
    svg("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, chart, show(t, logs[1], ticks(ys, logs[1])));
  }
  svg("text", { x: (left + w - right) / 2, y: h - 6, "text-anchor": "middle" }, chart, labels[0]);
  svg("text", { transform: `translate(14 ${(top + h - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, chart, labels[1]);
  return { chart, x, y };
}
