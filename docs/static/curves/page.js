// Explorers that run in the page: <div data-curves="NAME"> with the stored picture and its reading. Their formulas are in NAME.js;
// what the notebook's explorer says of itself, written when the site was built, is in NAME.data.js. Without scripts the picture stays.
import { figure } from "./draw.js";
import { f } from "./words.js";

document.querySelectorAll("[data-curves]").forEach(start);

async function start(explorer) {
  const name = explorer.dataset.curves;
  const [{ compute }, { default: told }] = await Promise.all([import(`./${name}.js`), import(`./${name}.data.js`)]);
  const picture = explorer.querySelector("img");
  const reading = picture.nextElementSibling;
  reading.setAttribute("aria-live", "polite");

  const panel = Object.assign(document.createElement("div"), { className: "explorer-controls" });
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", told.title);
  const fields = told.controls.map((control) => ("options" in control ? menu : slider)(panel, control));
  const reset = panel.appendChild(document.createElement("button"));
  Object.assign(reset, { type: "button", textContent: "Reset" });
  reset.setAttribute("aria-label", `${told.title}: back to the first values`);
  const drawing = document.createElement("div");
  drawing.className = "curves";
  explorer.prepend(panel, drawing);
  picture.hidden = true;
  const { svg, show } = figure(drawing, told.figure);

  let waiting = false;
  fields.forEach(({ field }) =>
    field.addEventListener("input", () => {
      if (!waiting) requestAnimationFrame(update);
      waiting = true;
    }),
  );
  reset.addEventListener("click", () => {
    fields.forEach((one) => one.reset());
    update();
  });
  fields.forEach((one) => one.reset());
  update();

  function update() {
    waiting = false;
    const state = Object.fromEntries(fields.map(({ key, value }) => [key, value()]));
    const { curves, reading: words, off = [], most = {} } = compute(state, told.data);
    show(curves);
    fields.forEach(({ key, field, limit, label }) => {
      field.disabled = off.includes(key);
      if (key in most) limit(most[key]);
      label();
    });
    reading.innerHTML = words;
    const first = fields.every(({ isFirst }) => isFirst());
    svg.setAttribute("aria-label", first ? picture.alt : `${told.title}: ${reading.textContent}`);
  }
}

function labelled(panel, name, field) {
  const label = panel.appendChild(document.createElement("label"));
  label.append(name, " ", field);
  field.setAttribute("aria-label", name);
  return label;
}

// A slider with the notebook's steps. On a logarithmic one the steps are counted: it begins exactly at its first value
function slider(panel, { key, name, value: first, min, max, step, form, base }) {
  const field = Object.assign(document.createElement("input"), { type: "range" });
  const shown = labelled(panel, name, field).appendChild(document.createElement("output"));
  const begin = base ? Math.round((Math.log(first) / Math.log(base) - min) / step) : first;
  Object.assign(field, base ? { min: 0, max: Math.round((max - min) / step), step: 1 } : { min, max, step });
  const isFirst = () => Number(field.value) === begin;
  const value = () => (isFirst() ? first : base ? base ** (min + Number(field.value) * step) : Number(field.value));
  return {
    key,
    field,
    value,
    isFirst,
    reset() {
      if (!base) field.max = max;
      field.value = begin;
    },
    limit(most) {
      if (Number(field.max) !== most) field.max = most;
    },
    label() {
      shown.textContent = f(value(), form);
      field.setAttribute("aria-valuetext", shown.textContent);
    },
  };
}

function menu(panel, { key, name, value: first, options }) {
  const field = document.createElement("select");
  labelled(panel, name, field);
  options.forEach(([words, value]) => field.add(new Option(words, value)));
  return {
    key,
    field,
    value: () => field.value,
    isFirst: () => field.value === first,
    reset: () => (field.value = first),
    limit() {},
    label() {},
  };
}
