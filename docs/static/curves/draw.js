// Draws a figure as SVG, from the description of the notebook's (docs/figure.py) and what the explorer's formulas give for its moving
// parts. Where the page is narrower than the figure, the panels stand one below the other, each at its own size.
import { mark, place, shape } from "./shapes.js";
import { element, text, widthOf } from "./svg.js";

const SMALL = 12.5; // of legends and ticks, as 9 points are in the figure
const STACKED = 0.72; // of the figure's own width: below it the panels are stacked
let figures = 0;

export function figure(box, told) {
  const svg = element(box, "svg", { role: "img" });
  const id = `curves-${figures++}`;
  const alone = told.axes.length === 1;
  let [layout, parts, last] = [null, [], null];

  function fit() {
    const room = box.clientWidth || told.width;
    const stacked = !alone && room < STACKED * told.width;
    const key = stacked ? Math.round(room) : 0;
    if (layout === key) return;
    layout = key;
    build(stacked ? stack(told.axes, key) : { panels: told.axes.map(({ box: place }) => place), width: told.width, height: told.height }, stacked);
    if (last) show(last);
  }

  function build({ panels, width, height }, stacked) {
    svg.replaceChildren();
    const font = getComputedStyle(box).fontFamily;
    const scales = told.axes.map((axes, i) => place(axes, panels[i]));
    const clips = element(svg, "defs");
    panels.forEach(([x, y, w, h], i) => element(element(clips, "clipPath", { id: `${id}-${i}` }), "rect", { x, y, width: w, height: h }));
    told.axes.forEach((axes, i) => !axes.off && background(svg, axes, scales[i], stacked));
    const draw = (look) => {
      const group = element(svg, "g", look.clip === false || ["text", "title"].includes(look.kind) ? {} : { "clip-path": `url(#${id}-${look.axes})` });
      return shape(group, look, scales[look.axes]);
    };
    told.still.forEach((look) => draw(look)(look.data));
    parts = told.moving.map(draw);
    told.axes.forEach((axes, i) => axes.legend && within(svg, axes.legend, scales[i].box, font));
    const bottom = told.legend.length ? below(svg, told.legend, width, height, font, stacked) : height;
    svg.setAttribute("viewBox", `0 0 ${width} ${bottom}`);
    svg.style.maxWidth = `${width}px`;
    svg.style.minWidth = alone ? `${0.75 * width}px` : "";
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // the keyboard scrolls it
    else box.removeAttribute("tabindex");
  }

  function show(curves) {
    last = curves;
    curves.forEach((curve, i) => parts[i](curve));
  }

  fit();
  new ResizeObserver(fit).observe(box);
  return { svg, show };
}

// Panels one below the other, those of the figure's first column first
function stack(axes, width) {
  const order = axes.map((_, i) => i).sort((i, j) => Math.round((axes[i].box[0] - axes[j].box[0]) / 40) || axes[i].box[1] - axes[j].box[1]);
  const panels = [];
  let y = 0;
  for (const i of order) {
    const { box, y: up, x: along, equal, title, off } = axes[i];
    const left = up.ticks.length && !off ? 46 + (up.name.length ? 12 : 0) : 14;
    const room = width - left - 14;
    const wide = equal ? Math.min(room, 1.3 * box[2]) : room;
    const high = equal ? wide * (box[3] / box[2]) : Math.max(150, Math.min(box[3], 0.85 * width));
    y += title.length ? 30 : 14;
    panels[i] = [left, y, wide, high];
    y += high + (along.ticks.length ? 24 : 8) + (along.name.length ? 18 : 0);
  }
  return { panels, width, height: y + 4 };
}

// Grid, frame, ticks, title and the axes' names
function background(svg, axes, { box: [x, y, w, h], X, Y }, stacked) {
  const group = element(svg, "g", { class: "axes" });
  const line = (x1, y1, x2, y2, name) => element(group, "line", { x1, y1, x2, y2, class: name });
  const words = (runs, at, size, more = {}) => text(group, runs, { ...at, ...more }, size);
  for (const [value, label] of axes.x.ticks) {
    if (axes.x.grid) line(X(value), y, X(value), y + h, "grid");
    line(X(value), y + h, X(value), y + h + 4, "tick");
    if (axes.x.written || stacked) words(label, { x: X(value), y: y + h + 17 }, SMALL, { "text-anchor": "middle" });
  }
  let room = 0;
  for (const [value, label] of axes.y.ticks) {
    if (axes.y.grid) line(x, Y(value), x + w, Y(value), "grid");
    line(x - 4, Y(value), x, Y(value), "tick");
    if (!axes.y.written && !stacked) continue;
    words(label, { x: x - 7, y: Y(value) + 4.3 }, SMALL, { "text-anchor": "end" });
    room = Math.max(room, widthOf(label, SMALL, "sans-serif"));
  }
  line(x, y, x, y + h, "frame");
  line(x, y + h, x + w, y + h, "frame");
  if (axes.frame) {
    line(x + w, y, x + w, y + h, "frame");
    line(x, y, x + w, y, "frame");
  }
  const left = stacked ? 6 : x; // a title as long as a phone is wide is set smaller
  const long = widthOf(axes.title, 15, getComputedStyle(svg).fontFamily);
  words(axes.title, { x: left, y: y - 8 }, stacked ? Math.min(15, (15 * (x + w + 10 - left)) / long) : 15);
  words(axes.x.name, { x: x + w / 2, y: y + h + (axes.x.ticks.length ? 35 : 20) }, 13.5, { "text-anchor": "middle" });
  const side = x - room - 16;
  words(axes.y.name, { x: 0, y: 0 }, 13.5, { "text-anchor": "middle", transform: `translate(${side} ${y + h / 2}) rotate(-90)` });
}

const lengthOf = ({ words }, font) => 30 + widthOf(words, SMALL, font);

function entry(group, { look, words }, x, y) {
  mark(group, look, x, y - 4.5);
  text(group, words, { x: x + 30, y, class: "legend" }, SMALL);
}

// A legend inside its panel, at the figure's place
function within(svg, { place: where, columns, entries }, [x, y, w, h], font) {
  const group = element(svg, "g");
  const [up, side] = where.split(" ");
  const lengths = entries.map((one) => lengthOf(one, font));
  const rows = Math.ceil(entries.length / columns);
  const wide = columns > 1 ? lengths.reduce((a, b) => a + b) + 14 * (columns - 1) : Math.max(...lengths);
  const left = { left: x + 8, center: x + (w - wide) / 2, right: x + w - wide - 6 }[side];
  const top = up === "upper" ? y + 16 : y + h - 17 * rows + 3;
  entries.forEach((one, i) => {
    const before = columns > 1 ? lengths.slice(0, i).reduce((a, b) => a + b + 14, 0) : 0;
    entry(group, one, left + before, columns > 1 ? top : top + 17 * i);
  });
}

// The figure's own legend below its panels, in as many rows as it needs; returns where it ends
function below(svg, entries, width, height, font, stacked) {
  const group = element(svg, "g");
  const rows = [[]];
  let used = 0;
  for (const one of entries) {
    const long = lengthOf(one, font) + 22;
    if (used + long > width && used) {
      rows.push([]);
      used = 0;
    }
    rows.at(-1).push([one, used]);
    used += long;
  }
  const first = stacked ? height + 14 : height - 10;
  rows.forEach((row, r) => {
    const [one, at] = row.at(-1);
    const left = stacked ? 8 : (width - at - lengthOf(one, font)) / 2;
    row.forEach(([each, x]) => entry(group, each, left + x, first + 19 * r));
  });
  return first + 19 * (rows.length - 1) + 10;
}
