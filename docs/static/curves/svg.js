// Small helpers for SVG: elements, and words with letters below and above the line.

const SVG = "http://www.w3.org/2000/svg";

export function element(parent, name, attributes = {}) {
  const made = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A colour of the notebook's figure; edition.css gives some another shade where the page is dark
export const ink = (hex) => `var(--ink-${hex.slice(1)}, ${hex})`;

// Runs of words: [["q", "i"], ["0", "_"]] is an italic q with a small 0 below the line
export function text(parent, runs, attributes, size) {
  if (!runs.length) return null;
  const made = element(parent, "text", { "font-size": size, ...attributes });
  let low = 0; // how far the last run stood below the line
  for (const [words, style] of runs) {
    const here = { _: 0.22 * size, "^": -0.36 * size }[style] ?? 0;
    const span = element(made, "tspan", here === low ? {} : { dy: here - low });
    if (here) span.setAttribute("font-size", 0.74 * size);
    if (style === "i") span.setAttribute("font-style", "italic");
    if (style === "b") span.setAttribute("font-weight", "bold");
    span.textContent = words;
    low = here;
  }
  return made;
}

let paper;

export function widthOf(runs, size, font) {
  paper ??= document.createElement("canvas").getContext("2d");
  return runs.reduce((total, [words, style]) => {
    paper.font = `${style === "_" || style === "^" ? 0.74 * size : size}px ${font}`;
    return total + paper.measureText(words).width;
  }, 0);
}
