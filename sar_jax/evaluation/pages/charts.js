"use strict";
// Curves and points as SVG, with a readout at the pointer or by the arrow keys.
const SVG = "http://www.w3.org/2000/svg";
// Of Okabe and Ito, as dark and as light as text needs; with dashes, so that colour is not all.
const LINES = {
  light: ["#0b5cab", "#a8470a", "#0f6b3c", "#8b2f7f", "#5f5500", "#00666e", "#8a1c3b"],
  dark: ["#8cc2ff", "#ffb07a", "#7fd6a4", "#f0a6e4", "#e2d873", "#7fdbe3", "#ff9fb5"],
};
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4", "4 2 1 2"];
const lineColour = (i) => LINES[dark.matches ? "dark" : "light"][i % LINES.light.length];

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const short = (x) => {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return x.toExponential(1);
  return String(Number(x.toPrecision(4)));
};

// About `count` round numbers from low to high.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) || rough;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

// title; series: [{name, x, y, mark}], x and y of one length, y may be null; alarms: [{name, step}].
// mark: points instead of a line.
function chart({ title, series, alarms = [], xName = "step" }) {
  const kept = series.filter((s) => s.y.some((y) => y !== null));
  const W = 460, H = 240, left = 62, right = 10, top = 10, bottom = 34;
  const reading = make("div", { class: "reading" });
  const figure = make("figure", { class: "chart" }, make("figcaption", {}, title));
  const svg = draw("svg", {
    viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: "0",
    "aria-label": `${title}: ${kept.map((s) => s.name).join(", ")}; arrow keys read values`,
  });
  const hidden = new Set();
  let range = null;  // of x that is shown; null for all
  let at = -1;
  const seen = () => kept.filter((s) => !hidden.has(s.name));
  const points = () => [...new Set(seen().flatMap((s) => s.x.filter((x, i) => s.y[i] !== null &&
    (!range || (x >= range[0] && x <= range[1])))))].sort((a, b) => a - b);
  let toX = null, xs = [];

  function redraw() {
    svg.replaceChildren();
    xs = points();
    const ys = seen().flatMap((s) => s.y.filter((y, i) => y !== null && xs.includes(s.x[i])));
    if (!ys.length) return;
    let [low, high] = [Math.min(...ys), Math.max(...ys)];
    if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    const [first, last] = [xs[0], xs[xs.length - 1]];
    const span = last - first || 1;
    toX = (x) => left + ((x - first) / span) * (W - left - right);
    const toY = (y) => top + (1 - (y - low) / (high - low)) * (H - top - bottom);
    for (const y of ticks(low, high, 4)) {
      svg.append(draw("line", { x1: left, x2: W - right, y1: toY(y), y2: toY(y), class: "grid" }));
      svg.append(draw("text", { x: left - 6, y: toY(y) + 4, "text-anchor": "end" }, short(y)));
    }
    for (const x of ticks(first, last === first ? first + 1 : last, 5)) {
      if (x > last) continue;
      svg.append(draw("text", { x: toX(x), y: H - 16, "text-anchor": "middle" }, short(x)));
    }
    svg.append(draw("text", { x: (left + W) / 2, y: H - 2, "text-anchor": "middle" }, xName));
    for (const { name, step } of alarms) {
      if (step < first || step > last) continue;
      const line = draw("line", { x1: toX(step), x2: toX(step), y1: top, y2: H - bottom, class: "alarm" });
      line.append(draw("title", {}, `alarm ${name} at step ${step}`));
      svg.append(line);
    }
    kept.forEach((s, i) => {
      if (hidden.has(s.name)) return;
      const inside = s.x.map((x, k) => [x, s.y[k]]).filter(([x, y]) => y !== null && x >= first && x <= last);
      const path = inside.map(([x, y], k) => `${k ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`);
      const colour = lineColour(i);
      if (!s.mark) svg.append(draw("path", { d: path.join(""), fill: "none", stroke: colour,
        "stroke-width": 1.8, "stroke-dasharray": DASHES[i % DASHES.length] }));
      if (s.mark || inside.length < 3) for (const [x, y] of inside)
        svg.append(draw("circle", { cx: toX(x), cy: toY(y), r: 3.5, fill: colour }));
    });
    if (at >= 0 && at < xs.length) {
      svg.append(draw("line", { x1: toX(xs[at]), x2: toX(xs[at]), y1: top, y2: H - bottom, class: "cursor" }));
    }
  }

  function read(i) {
    at = Math.max(0, Math.min(xs.length - 1, i));
    const x = xs[at];
    const told = seen().map((s) => {
      const k = s.x.indexOf(x);
      return k >= 0 && s.y[k] !== null ? `${s.name} ${short(s.y[k])}` : null;
    }).filter(Boolean);
    const rung = alarms.filter((a) => a.step === x).map((a) => `alarm ${a.name}`);
    reading.textContent = `${xName} ${x}: ${[...told, ...rung].join("  \u00b7  ")}`;
    redraw();
  }

  const place = (e) => {
    const box = svg.getBoundingClientRect();
    return ((e.clientX - box.left) / box.width) * W;
  };
  const nearest = (px) => xs.reduce((best, x, i) =>
    Math.abs(toX(x) - px) < Math.abs(toX(xs[best]) - px) ? i : best, 0);
  let pressed = null;
  svg.addEventListener("pointermove", (e) => { if (xs.length) read(nearest(place(e))); });
  svg.addEventListener("pointerdown", (e) => { pressed = nearest(place(e)); });
  svg.addEventListener("pointerup", (e) => {  // a stretch is zoomed into
    const end = nearest(place(e));
    if (pressed !== null && Math.abs(end - pressed) > 1) {
      range = [xs[Math.min(end, pressed)], xs[Math.max(end, pressed)]];
      back.hidden = false;
      read(0);
    }
    pressed = null;
  });
  svg.addEventListener("keydown", (e) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: xs.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    read(to);
  });
  const back = make("button", { type: "button", onclick: () => {
    range = null;
    back.hidden = true;
    redraw();
  } }, "whole run");
  back.hidden = true;
  const names = make("div", { class: "names" }, ...kept.map((s, i) => {
    const swatch = draw("svg", { viewBox: "0 0 24 8", class: "swatch", "aria-hidden": "true" });
    swatch.append(draw("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: lineColour(i),
      "stroke-width": 3, "stroke-dasharray": DASHES[i % DASHES.length] }));
    const button = make("button", { type: "button", "aria-pressed": "true", onclick: () => {
      hidden.has(s.name) ? hidden.delete(s.name) : hidden.add(s.name);
      button.setAttribute("aria-pressed", String(!hidden.has(s.name)));
      redraw();
    } }, swatch, s.name);
    return button;
  }), back);
  redraw();
  figure.append(svg, names, reading);
  return figure;
}

// Points with two values each: accuracy against length. groups: [{name, points: [{name, x, y}]}]; a
// group's points are joined in their order, and what no other one beats is ringed.
function plane({ title, groups, xName, yName }) {
  const W = 520, H = 340, left = 62, right = 14, top = 12, bottom = 44;
  const all = groups.flatMap((g) => g.points);
  const bounds = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  };
  const [x0, x1] = bounds(all.map((p) => p.x)), [y0, y1] = bounds(all.map((p) => p.y));
  const toX = (x) => left + ((x - x0) / (x1 - x0)) * (W - left - right);
  const toY = (y) => top + (1 - (y - y0) / (y1 - y0)) * (H - top - bottom);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  for (const y of ticks(y0, y1, 5)) {
    svg.append(draw("line", { x1: left, x2: W - right, y1: toY(y), y2: toY(y), class: "grid" }));
    svg.append(draw("text", { x: left - 6, y: toY(y) + 4, "text-anchor": "end" }, short(y)));
  }
  for (const x of ticks(x0, x1, 5))
    svg.append(draw("text", { x: toX(x), y: H - 26, "text-anchor": "middle" }, short(x)));
  svg.append(draw("text", { x: (left + W) / 2, y: H - 6, "text-anchor": "middle" }, xName));
  svg.append(draw("text", { x: 12, y: H / 2, "text-anchor": "middle",
    transform: `rotate(-90 12 ${H / 2})` }, yName));
  const best = all.filter((p) => !all.some((o) => o !== p && o.x <= p.x && o.y >= p.y &&
    (o.x < p.x || o.y > p.y))).sort((a, b) => a.x - b.x);
  svg.append(draw("path", { class: "front", fill: "none",
    d: best.map((p, i) => `${i ? "L" : "M"}${toX(p.x)} ${toY(p.y)}`).join("") }));
  groups.forEach((g, i) => {
    const colour = lineColour(i);
    svg.append(draw("path", { fill: "none", stroke: colour, "stroke-width": 1.4,
      "stroke-dasharray": DASHES[i % DASHES.length],
      d: g.points.map((p, k) => `${k ? "L" : "M"}${toX(p.x)} ${toY(p.y)}`).join("") }));
    for (const p of g.points) {
      const dot = draw("circle", { cx: toX(p.x), cy: toY(p.y), r: 4, fill: colour });
      dot.append(draw("title", {}, `${g.name}, ${p.name}: ${short(p.y)} at ${short(p.x)}`));
      svg.append(dot);
      if (best.includes(p)) svg.append(draw("circle", { cx: toX(p.x), cy: toY(p.y), r: 7, class: "ring" }));
    }
  });
  const names = make("div", { class: "names" }, ...groups.map((g, i) => {
    const swatch = draw("svg", { viewBox: "0 0 24 8", class: "swatch", "aria-hidden": "true" });
    swatch.append(draw("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: lineColour(i),
      "stroke-width": 3, "stroke-dasharray": DASHES[i % DASHES.length] }));
    return make("span", {}, swatch, g.name);
  }));
  return make("figure", { class: "chart wide" }, make("figcaption", {}, title), svg, names);
}
