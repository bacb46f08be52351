// Explorers whose states were drawn when the site was built (frames.py): sliders and menus beside the picture. Without this
// script the page shows the first state.
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-frames]").forEach(start));

function start(explorer) {
  const { title, controls, states } = window.explorerFrames[explorer.dataset.frames];
  const folder = document.querySelector("[src*='frames/']").src.replace(/frames\/[^/]*$/, "frames/");
  const picture = explorer.querySelector("img");
  const first = { src: picture.src, alt: picture.alt };
  const reading = picture.nextElementSibling;
  reading.setAttribute("aria-live", "polite");

  const panel = document.createElement("div");
  panel.className = "explorer-controls";
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", title);
  const fields = controls.map(({ name, stops, start, menu }) => {
    const label = panel.appendChild(document.createElement("label"));
    label.append(name, " ");
    const field = label.appendChild(document.createElement(menu ? "select" : "input"));
    if (menu) stops.forEach((stop, i) => field.add(new Option(stop, i)));
    else Object.assign(field, { type: "range", min: 0, max: stops.length - 1, step: 1 });
    field.setAttribute("aria-label", name);
    const value = menu ? null : label.appendChild(document.createElement("output"));
    field.addEventListener("input", show);
    field.addEventListener("focus", () => preload(field));
    field.addEventListener("pointerenter", () => preload(field));
    return { field, value, stops, start };
  });
  const reset = panel.appendChild(document.createElement("button"));
  Object.assign(reset, { type: "button", textContent: "Reset" });
  reset.setAttribute("aria-label", `${title}: back to the first values`);
  reset.addEventListener("click", () => {
    fields.forEach(({ field, start }) => (field.value = start));
    show();
  });
  explorer.prepend(panel);
  fields.forEach(({ field, start }) => (field.value = start));
  label();

  // a site that was built without MNIST shows other digits than the stored picture: then its first state is its own, too
  const [file, text] = states[controls.map(({ start }) => start)];
  const words = Object.assign(document.createElement("div"), { innerHTML: text }).textContent;
  if (words !== reading.textContent) {
    Object.assign(first, { src: folder + file, alt: `${title}: ${words}` });
    show();
  }

  function label() {
    const off = states[fields.map(({ field }) => field.value)][2];
    fields.forEach(({ field, value, stops }, i) => {
      field.disabled = off.includes(controls[i].key);
      if (!value) return;
      value.textContent = stops[field.value];
      field.setAttribute("aria-valuetext", stops[field.value]);
    });
  }

  function show() {
    const places = fields.map(({ field }) => field.value);
    const [file, text] = states[places];
    reading.innerHTML = text;
    label();
    if (fields.every(({ field, start }) => Number(field.value) === start)) Object.assign(picture, first);
    else Object.assign(picture, { src: folder + file, alt: `${title}: ${reading.textContent}` });
  }

  // the pictures that moving one control can lead to
  function preload(field) {
    const places = fields.map((f) => f.field.value);
    const i = fields.findIndex((f) => f.field === field);
    controls[i].stops.forEach((_, stop) => (new Image().src = folder + states[places.with(i, stop)][0]));
  }
}
