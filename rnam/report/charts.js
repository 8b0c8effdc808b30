"use strict";
// Figures as SVG: each with a table, downloads, and points that the arrow keys or the mouse read out.

const told = (x) => x === null || x === undefined || Number.isNaN(x) ? "–" : String(Number(x.toPrecision(4)));
const withUnit = (name, unit) => unit ? `${name} (${unit})` : name;
const known = (x) => x !== null && x !== undefined && !Number.isNaN(x);

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const canvas = (width, height) => shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
const text = (x, y, words, anchor = "start", kind = "") => shape("text", { x, y, "text-anchor": anchor, class: kind }, words);
const line = (x1, y1, x2, y2, kind) => shape("line", { x1, y1, x2, y2, class: kind });

function cut(words, letters) {
  const all = [...words];
  return all.length > letters ? all.slice(0, letters - 1).join("") + "…" : words;
}

function ticks(low, high, count) {
  const rough = (high - low) / count, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * ten).find((n) => n >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

function extent(values, zero = false) {
  const all = values.filter(known);
  let low = zero ? 0 : Infinity, high = zero ? 0 : -Infinity;
  for (const x of all) { low = Math.min(low, x); high = Math.max(high, x); }
  if (low > high) return [0, 1];
  if (low === high) return [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  return [low, high];
}

const scale = ([low, high], from, to) => (x) => from + (x - low) / (high - low) * (to - from);

// series: {name, x, y, low, high, kind, dash, points, outside}; kind is a number of a colour, or "total"
function lineChart({ series, xLabel, yLabel, density, diagonal, zero = true, height = 300 }) {
  return (width) => {
    const svg = canvas(width, height), room = density ? 34 : 0;
    const ys = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]);
    let spanX = extent(series.flatMap((s) => [...s.x])), spanY = extent(ys, zero);
    if (diagonal) spanX = spanY = extent([...spanX, ...spanY]);
    const margin = (spanY[1] - spanY[0]) * 0.04;
    spanY = [spanY[0] - margin, spanY[1] + margin];
    const marks = ticks(...spanY, 5), left = 18 + 7 * Math.max(...marks.map((x) => told(x).length));
    const bottom = height - 40, x = scale(spanX, left + 6, width - 10), y = scale(spanY, bottom - room, 22);
    for (const at of marks) {
      svg.append(line(left, y(at), width - 4, y(at), at === 0 ? "axis" : "grid"));
      svg.append(text(left - 6, y(at) + 4, told(at), "end", "soft"));
    }
    for (const at of ticks(...spanX, Math.max(2, Math.floor(width / 90)))) {
      svg.append(line(x(at), bottom, x(at), bottom + 4, "axis"), text(x(at), bottom + 17, told(at), "middle", "soft"));
    }
    svg.append(line(left, bottom, width - 4, bottom, "axis"));
    svg.append(text((left + width) / 2, height - 5, cut(xLabel, width / 8), "middle"), text(4, 13, cut(yLabel, width / 8)));
    if (diagonal) svg.append(line(x(spanX[0]), y(spanX[0]), x(spanX[1]), y(spanX[1]), "diagonal"));
    if (density) {
      const most = Math.max(1, ...density.n), wide = Math.max(1.5, (width - left) / density.x.length / 2);
      density.n.forEach((n, at) => {
        const tall = n / most * (room - 8);
        svg.append(shape("rect", { x: x(density.x[at]) - wide / 2, y: bottom - tall, width: wide, height: tall, class: "density" }));
      });
    }
    for (const s of series) {
      if (!s.low || !s.low.some?.(known)) continue;
      const at = [...s.x.keys()].filter((n) => known(s.low[n]));
      const path = [...at.map((n) => [n, s.high]), ...at.reverse().map((n) => [n, s.low])];
      svg.append(shape("polygon", { points: path.map(([n, side]) => `${x(s.x[n])},${y(side[n])}`).join(" "), class: `band f${s.kind}` }));
    }
    for (const s of series) {
      const path = [...s.x.keys()].map((n) => `${x(s.x[n])},${y(s.y[n])}`).join(" ");
      svg.append(shape("polyline", { points: path, class: `line s${s.kind}${s.dash ? " dash" : ""}` }));
      if (!s.points && !s.outside && s.x.length > 1) continue;
      [...s.x.keys()].forEach((n) => {
        if (!s.points && s.x.length > 1 && !s.outside[n]) return;
        const kind = s.outside?.[n] ? `empty s${s.kind}` : `f${s.kind}`;
        svg.append(shape("circle", { cx: x(s.x[n]), cy: y(s.y[n]), r: 3.5, class: kind }));
      });
    }
    const first = series[0];
    return { svg, weights: [1, 0.05], points: [...first.x.keys()].map((n) => ({ x: x(first.x[n]), y: y(first.y[n]) })) };
  };
}

// bars {label, value, low, high, n}, the first on top
function barChart({ bars, xLabel, oneSided = false }) {
  return (width) => {
    const row = 24, height = bars.length * row + 44, svg = canvas(width, height);
    const most = Math.max(6, Math.floor(width * 0.36 / 7));
    const left = 12 + 7 * Math.min(most, Math.max(...bars.map((b) => [...b.label].length)));
    const span = extent(bars.flatMap((b) => [b.value, b.low, b.high]), true);
    const x = scale(span, oneSided || span[0] === 0 ? left : left + 8, width - 14), bottom = bars.length * row + 4;
    for (const at of ticks(...span, Math.max(2, Math.floor((width - left) / 80)))) {
      svg.append(line(x(at), 4, x(at), bottom, at === 0 ? "axis" : "grid"), text(x(at), bottom + 14, told(at), "middle", "soft"));
    }
    svg.append(text((left + width) / 2, height - 5, cut(xLabel, (width - left) / 7), "middle"));
    const points = bars.map((bar, n) => {
      const top = 4 + n * row, from = Math.min(x(0), x(bar.value)), wide = Math.abs(x(bar.value) - x(0));
      svg.append(text(left - 6, top + 16, cut(bar.label, most), "end"));
      svg.append(shape("rect", { x: from, y: top + 4, width: Math.max(wide, 1), height: row - 8, class: bar.value < 0 ? "minus" : oneSided ? "f0" : "plus" }));
      if (known(bar.low)) {
        svg.append(line(x(bar.low), top + row / 2, x(bar.high), top + row / 2, "whisker"));
        for (const end of [bar.low, bar.high]) svg.append(line(x(end), top + 8, x(end), top + row - 8, "whisker"));
      }
      return { x: x(bar.value), y: top + row / 2 };
    });
    return { svg, weights: [0.05, 1], points };
  };
}

// z[row][column] at rows of x and columns of y; a dot where there are no data
function heatMap({ xs, ys, z, n, xLabel, yLabel }) {
  return (width) => {
    const left = 26 + 7 * Math.min(12, Math.max(...ys.map((y) => [...y].length)));
    const wide = (width - left - 8) / xs.length, tall = Math.max(16, Math.min(30, 260 / ys.length));
    const height = ys.length * tall + 64, svg = canvas(width, height), points = [];
    const most = Math.max(1e-300, ...z.flat().map(Math.abs)), every = Math.ceil(7 * Math.max(...xs.map((x) => Math.min(9, [...x].length))) / wide);
    svg.append(text(4, 13, cut(yLabel, width / 8)), text((left + width) / 2, height - 5, cut(xLabel, (width - left) / 7), "middle"));
    ys.forEach((label, row) => {
      const top = 20 + (ys.length - 1 - row) * tall;
      svg.append(text(left - 6, top + tall / 2 + 4, cut(label, 12), "end", "soft"));
      xs.forEach((_, column) => {
        const value = z[column][row], at = left + column * wide;
        svg.append(shape("rect", { x: at, y: top, width: wide, height: tall, "fill-opacity": Math.abs(value) / most, class: `cell ${value < 0 ? "minus" : "plus"}` }));
        if (!n[column][row]) svg.append(shape("circle", { cx: at + wide / 2, cy: top + tall / 2, r: 2, class: "no-data" }));
        points.push({ x: at + wide / 2, y: top + tall / 2 });
      });
    });
    xs.forEach((label, n) => { if (n % every === 0) svg.append(text(left + (n + 0.5) * wide, 20 + ys.length * tall + 15, cut(label, 9), "middle", "soft")); });
    return { svg, weights: [1, 1], points };
  };
}

function download(name, kind, content) {
  const link = node("a", { href: URL.createObjectURL(new Blob([content], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (words) => words.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 80) || "figure";

// a word that a spreadsheet would take for a formula has an apostrophe in front
function csv(columns, rows) {
  const cell = (value) => {
    if (typeof value === "number") return Number.isNaN(value) ? "" : String(value);
    const word = value === null || value === undefined ? "" : String(value);
    return `"${(/^[=+\-@\t\r']/.test(word) ? "'" + word : word).replaceAll('"', '""')}"`;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family"];

// the styles of the page as attributes, for a file that stands alone
function standalone(svg, title) {
  const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((to, n) => {
    const style = getComputedStyle(from[n]);
    for (const name of DRAWN) to.setAttribute(name, style.getPropertyValue(name));
    to.removeAttribute("class");
  });
  for (const marker of copy.querySelectorAll("[data-marker]")) marker.remove();
  const { width, height } = svg.viewBox.baseVal, paper = getComputedStyle(svg.closest("figure")).backgroundColor;
  copy.prepend(shape("title", {}, title), shape("rect", { width, height, fill: paper }));
  copy.removeAttribute("aria-hidden");
  return new XMLSerializer().serializeToString(copy);
}

function table(columns, rows, title) {
  const head = node("tr", {}, ...columns.map((name) => node("th", { scope: "col" }, name)));
  const body = rows.map((row) => node("tr", {}, ...row.map((cell) =>
    typeof cell === "string" ? node("td", { class: "word" }, cell) : node("td", {}, typeof cell === "boolean" ? (cell ? "yes" : "no") : told(cell)))));
  const made = node("table", { "aria-label": title }, node("thead", {}, head), node("tbody", {}, ...body));
  return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, table` }, made);
}

// A figure. `draw` makes {svg, points, weights} of a width: the mouse reads the point that is nearest by the weights of x
// and y. The n-th point is read out as says(n). The table is made when it is opened.
function figure({ title, note = "", draw, says, columns, rows, legend }) {
  const plot = node("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": `${title}. Arrow keys read it point by point.` });
  const readout = node("p", { class: "readout" }), caption = node("figcaption", {}, node("h3", {}, title));
  if (note) caption.append(node("p", {}, note));
  const button = (words, act) => {
    const made = node("button", { type: "button", "aria-label": `${title} as ${words}` }, words);
    made.addEventListener("click", act);
    return made;
  };
  const buttons = node("div", { class: "figure-buttons" },
    button("CSV", () => download(`${fileName(title)}.csv`, "text/csv", csv(columns, rows()))),
    button("SVG", () => download(`${fileName(title)}.svg`, "image/svg+xml", standalone(plot.querySelector("svg"), title))));
  const details = node("details", {}, node("summary", {}, "Table"));
  details.addEventListener("toggle", () => { if (details.open && !details.querySelector("table")) details.append(table(columns, rows(), title)); });
  const made = node("figure", {}, buttons, caption, ...(legend ? [legend] : []), plot, readout, details);
  let points = [], weights = [1, 1], at = -1, width = 0;

  const read = (n) => {
    at = Math.max(0, Math.min(points.length - 1, n));
    plot.querySelector("[data-marker]")?.remove();
    if (!points.length) return;
    plot.querySelector("svg").append(shape("circle", { cx: points[at].x, cy: points[at].y, r: 6, class: "marker", "data-marker": "" }));
    readout.textContent = says(at);
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", says(at));
  };
  const redraw = () => {
    const found = draw(width);
    ({ points, weights } = found);
    plot.replaceChildren(found.svg);
    plot.setAttribute("aria-valuemin", 0);
    plot.setAttribute("aria-valuemax", Math.max(0, points.length - 1));
    plot.setAttribute("aria-valuenow", Math.max(0, at));
    plot.setAttribute("aria-valuetext", points.length ? says(Math.max(0, at)) : "empty");
    if (at >= 0) read(at);
  };
  plot.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: points.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(to);
  });
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect(), ratio = width / box.width;
    const far = (p) => Math.hypot(weights[0] * ((event.clientX - box.left) * ratio - p.x), weights[1] * ((event.clientY - box.top) * ratio - p.y));
    let best = 0;
    points.forEach((p, n) => { if (far(p) < far(points[best])) best = n; });
    if (points.length) read(best);
  });
  new ResizeObserver(() => {
    const now = Math.max(260, Math.round(plot.clientWidth));
    if (now !== width) { width = now; redraw(); }
  }).observe(plot);
  return made;
}

function key(entries) {
  return node("div", { class: "legend" }, ...entries.map(({ name, kind, dash }) =>
    node("label", {}, node("span", { class: `key k${kind}${dash ? " dash" : ""}` }), name)));
}
