// What stands in a panel: lines, areas, bars, images. shape() makes the SVG elements of one, and returns how to show data in it.
import { element, ink, text } from "./svg.js";

const PIXELS = 100 / 72; // of the figure in a point

// From an axes' units to pixels in a panel
export function place(axes, [x, y, w, h]) {
  const share = ({ limits: [low, high], log }) => {
    const by = log ? (v) => (v > 0 ? Math.log10(v) : NaN) : (v) => v;
    const [from, to] = [by(low), by(high)];
    return (v) => (v === null ? NaN : (by(v) - from) / (to - from));
  };
  const [along, up] = [share(axes.x), share(axes.y)];
  const bounded = (v) => (v > 20 ? 20 : v < -20 ? -20 : v); // what is far outside stays a number that SVG can hold
  return { box: [x, y, w, h], X: (v) => x + w * bounded(along(v)), Y: (v) => y + h * (1 - bounded(up(v))) };
}

export function shape(group, look, scale) {
  const show = KINDS[look.kind](group, look, scale);
  return (data) => {
    group.style.display = data === null ? "none" : "";
    if (data !== null) show(data);
  };
}

const short = (v) => Math.round(v * 100) / 100;

// Points as a path, with gaps where there is no number; without the points that lie on the one before
function path(xs, ys, X, Y) {
  let d = "";
  let [before, above, pen] = [0, 0, false];
  for (let i = 0; i < xs.length; i++) {
    const [x, y] = [X(xs[i]), Y(ys[i])];
    if (!(Math.abs(x) < Infinity && Math.abs(y) < Infinity)) {
      pen = false;
      continue;
    }
    if (pen && i < xs.length - 1 && Math.abs(x - before) + Math.abs(y - above) < 0.25) continue;
    d += `${pen ? "L" : "M"}${short(x)} ${short(y)}`;
    [before, above, pen] = [x, y, true];
  }
  return d;
}

const closed = (corners, { X, Y }) => `${path(corners.map(([x]) => x), corners.map(([, y]) => y), X, Y)}Z`;

function dashes(style, width) {
  if (style === "--") return `${3.7 * width} ${1.6 * width}`;
  return style === ":" ? `${width} ${1.65 * width}` : null;
}

function stroke(element, { colour, width, dashes: style, alpha }) {
  Object.assign(element.style, { fill: "none", stroke: ink(colour), strokeWidth: width, strokeOpacity: alpha ?? 1, strokeLinejoin: "round" });
  const pattern = dashes(style, width);
  if (pattern) element.style.strokeDasharray = pattern;
  return element;
}

const KINDS = {
  line(group, look, { box: [left, top, w, h], X, Y }) {
    const line = look.width ? stroke(element(group, "path"), look) : null;
    const edged = look.edge !== look.colour; // with a rim, a point wide and half of it outside
    const under = look.marker === "o" && edged ? dots(group, look.edge, look.size + PIXELS) : null;
    const size = look.size + (edged ? -PIXELS : PIXELS);
    const over = look.marker ? (look.marker === "+" ? crosses(group, look) : dots(group, look.colour, size)) : null;
    const [across, up] = [look.shares === "x" ? (v) => left + w * v : X, look.shares === "y" ? (v) => top + h * (1 - v) : Y];
    return ({ x, y, colour, width }) => {
      line?.setAttribute("d", path(x, y, across, up));
      if (width) line.style.strokeWidth = width * PIXELS;
      if (colour) [line, over].forEach((one) => one && (one.style.stroke = ink(colour)));
      if (!over) return;
      const points = Array.from(x, (v, i) => [across(v), up(y[i])]).filter(([p, q]) => Math.abs(p + q) < Infinity);
      [over, under].forEach((one) => one?.setAttribute("d", points.map(([p, q]) => one.at(short(p), short(q))).join("")));
    };
  },
  segments(group, look, { X, Y }) {
    const lines = stroke(element(group, "path"), look);
    return (data) => lines.setAttribute("d", data.lines.map((line) => path(line.map(([x]) => x), line.map(([, y]) => y), X, Y)).join(""));
  },
  area(group, look, scale) {
    const area = filled(group, look);
    return ({ corners }) => area.setAttribute("d", closed(corners, scale));
  },
  steps(group, look, scale) {
    const area = filled(group, look);
    return ({ values, edges }) => {
      const around = [[edges[0], 0], ...values.flatMap((v, i) => [[edges[i], v], [edges[i + 1], v]]), [edges.at(-1), 0]];
      area.setAttribute("d", closed(look.sideways ? around.map(([at, v]) => [v, at]) : around, scale));
    };
  },
  image(group, look, { X, Y }) {
    const [left, right, low, high] = look.extent;
    const [x, y, width, height] = [X(left), Math.min(Y(low), Y(high)), X(right) - X(left), Math.abs(Y(high) - Y(low))];
    const image = element(group, "image", { x, y, width, height, preserveAspectRatio: "none", class: look.ink ? "ink" : "" });
    let shown;
    return (data) => {
      if (shown === (data.values ?? data)) return;
      shown = data.values ?? data;
      if (data.rows < 100) image.style.imageRendering = "pixelated";
      image.setAttribute("href", data.href ?? picture(data, look));
    };
  },
  text(group, look, { X, Y }) {
    return ({ x, y }) => {
      group.replaceChildren();
      const made = text(group, look.words, { x: X(x), y: Y(y) + 0.35 * look.size, "text-anchor": look.anchor }, look.size);
      made.style.fill = ink(look.colour);
    };
  },
  title(group, look, { box: [x, y] }) {
    return ({ words }) => {
      group.replaceChildren();
      text(group, words, { x, y: y - 8 }, 15);
    };
  },
  discs(group, look, { X, Y }) {
    return ({ x, y }) => {
      group.replaceChildren();
      const disc = element(group, "circle", { cx: X(x[0]), cy: Y(y[0]), r: look.size / 2 });
      Object.assign(disc.style, { fill: ink(look.colour), stroke: ink(look.edge), strokeWidth: PIXELS });
    };
  },
  arrow(group, look, { X, Y }) {
    return ({ parts }) => {
      group.replaceChildren();
      for (const { head, path: steps } of parts) {
        const d = steps.map(([letter, points]) => letter + points.map(([x, y]) => `${short(X(x))} ${short(Y(y))}`).join(" ")).join("");
        const part = stroke(element(group, "path", { d }), head ? { ...look, dashes: "-" } : look);
        if (head) part.style.fill = ink(look.colour);
      }
    };
  },
};

function filled(group, { colour, alpha }) {
  const area = element(group, "path");
  Object.assign(area.style, { fill: ink(colour), fillOpacity: alpha });
  return area;
}

// Dots are strokes of no length with round ends
function dots(group, colour, size) {
  const made = element(group, "path");
  Object.assign(made.style, { fill: "none", stroke: ink(colour), strokeWidth: size, strokeLinecap: "round" });
  return Object.assign(made, { at: (x, y) => `M${x} ${y}h0` });
}

function crosses(group, { colour, size }) {
  const made = element(group, "path");
  Object.assign(made.style, { fill: "none", stroke: ink(colour), strokeWidth: PIXELS });
  return Object.assign(made, { at: (x, y) => `M${x - size / 2} ${y}h${size}M${x} ${y - size / 2}v${size}` });
}

// Values as pixels: ink on nothing, or greys
function picture({ rows, columns, values }, { limits: [low, high], shades, ink: dark, upright }) {
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const share = (values[row * columns + column] - low) / (high - low);
      const grey = 255 * shades[Math.max(0, Math.min(255, Math.round(255 * share)))];
      pixels.data.set(dark ? [0, 0, 0, 255 - grey] : [grey, grey, grey, 255], 4 * ((upright ? rows - 1 - row : row) * columns + column));
    }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

// An entry's mark in a legend, 24 pixels wide
export function mark(group, look, x, y) {
  if (look.kind !== "line") {
    const box = element(group, "rect", { x, y: y - 5, width: 22, height: 10 });
    Object.assign(box.style, { fill: ink(look.colour), fillOpacity: look.alpha });
    return;
  }
  if (look.width) stroke(element(group, "path", { d: `M${x} ${y}h24` }), look);
  if (look.marker === "o") dots(group, look.colour, look.size + PIXELS).setAttribute("d", `M${x + 12} ${y}h0`);
}
